//! Error codes as peers name them in frames, what each asks of who receives it, and when to try again.

/// What went wrong, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A frame that cannot be read, or that breaks a rule.
    Proto,
    /// A fragment or message is missing.
    SeqRetry,
    /// More was sent than the window allows.
    Window,
    /// The agent's own window is smaller than the one granted.
    WindowAgent,
    /// The budget is spent.
    Budget,
    /// It took too long.
    Timeout,
    /// The adapter cannot be reached.
    AgentDown,
    /// Signature, identity or permission.
    Sec,
    /// Answers do not agree.
    Consensus,
    /// Stopped for the sake of something more urgent.
    Preempt,
    /// No new work is taken.
    Draining,
    /// A breaker has tripped.
    Circuit,
    /// The context of the request could not be had.
    Context,
    /// An adapter failed.
    Adapter,
    /// A policy says no.
    Policy,
    /// The request makes no sense.
    BadInput,
}

/// What the one who receives a code does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// The stream is over, at once (RST).
    Reset,
    /// The stream is over, in order (FIN).
    Finish,
    /// Send the missing part again.
    Retransmit,
    /// Wait for a wider window, then send again.
    AwaitWindow,
    /// The same request may succeed later.
    TryAgain,
    /// The same request may succeed elsewhere.
    Elsewhere,
    /// Ask a better judge.
    Escalate,
    /// The same request will be refused again.
    GiveUp,
}

impl Code {
    pub const ALL: [Code; 16] = [
        Code::Proto,
        Code::SeqRetry,
        Code::Window,
        Code::WindowAgent,
        Code::Budget,
        Code::Timeout,
        Code::AgentDown,
        Code::Sec,
        Code::Consensus,
        Code::Preempt,
        Code::Draining,
        Code::Circuit,
        Code::Context,
        Code::Adapter,
        Code::Policy,
        Code::BadInput,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::Proto => "EPROTO",
            Code::SeqRetry => "ESEQ_RETRY",
            Code::Window => "EWINDOW",
            Code::WindowAgent => "EWINDOW_AGENT",
            Code::Budget => "EBUDGET",
            Code::Timeout => "ETIMEOUT",
            Code::AgentDown => "EAGENTDOWN",
            Code::Sec => "ESEC",
            Code::Consensus => "ECONSENSUS",
            Code::Preempt => "EPREEMPT",
            Code::Draining => "EDRAINING",
            Code::Circuit => "ECIRCUIT",
            Code::Context => "ECONTEXT",
            Code::Adapter => "EADAPTER",
            Code::Policy => "EPOLICY",
            Code::BadInput => "EBAD_INPUT",
        }
    }

    /// From the wire. Some peers write the codes in lower case.
    pub fn of_text(text: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text))
    }

    pub fn reaction(self) -> Reaction {
        match self {
            Code::Proto | Code::Sec | Code::Preempt => Reaction::Reset,
            Code::Budget => Reaction::Finish,
            Code::SeqRetry => Reaction::Retransmit,
            Code::Window | Code::WindowAgent => Reaction::AwaitWindow,
            Code::Timeout | Code::Context | Code::Adapter => Reaction::TryAgain,
            Code::AgentDown | Code::Circuit | Code::Draining => Reaction::Elsewhere,
            Code::Consensus => Reaction::Escalate,
            Code::Policy | Code::BadInput => Reaction::GiveUp,
        }
    }

    /// Milliseconds a peer waits before it tries again, where the frame does not say; `None`: waiting is no
    /// use.
    pub fn backoff_ms(self) -> Option<u32> {
        match self {
            Code::SeqRetry => Some(20),
            Code::Context => Some(50),
            Code::Adapter => Some(80),
            Code::Timeout => Some(100),
            Code::Circuit => Some(200),
            _ => None,
        }
    }
}
