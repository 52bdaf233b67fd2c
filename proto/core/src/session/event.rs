//! What a session tells its application, and what it refuses.

use crate::frame::{Code, Frame, Meta, Qos, Text, Window};

use super::message::Message;
use super::status::AgentStatus;
use super::syn::{Received, Resume, Terms};

/// A stream of a session: stays unique after the stream is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The opening is under way: the acceptor has not granted yet.
    Opening,
    /// Work goes on.
    Open,
    /// This end says nothing new; FIN follows when the streams have ended.
    Finishing,
    /// No connection; the other end may come back with its token.
    Suspended,
    /// A new connection; what the other end has received is not known yet.
    Resuming,
    /// Over.
    Closed,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// FIN of this end.
    Finished,
    /// FIN of the other end.
    ByPeer,
    /// Nothing came for too long.
    Idle,
    /// RST of this end.
    Refused(Refusal),
    /// RST of the other end.
    RefusedByPeer(Refusal),
    /// The connection is gone and nothing holds the session: no token is out, or nobody came back in time.
    Lost,
}

/// An error as the wire says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// For people; at most [`REASON_BYTES_MAX`] of it are told.
    pub reason: Text,
    pub retry_after_ms: Option<u64>,
    /// With it the same request may be asked for again, in this session and once, without its words.
    pub resume_token: Option<Text>,
}

impl Refusal {
    pub const fn new(code: Code, reason: &'static str) -> Refusal {
        Refusal { code, reason: Text::of_static(reason), retry_after_ms: None, resume_token: None }
    }
}

/// Why a message was not taken. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// No credit: [`Event::Room`] follows.
    #[error("the other end has not consumed enough yet")]
    Blocked,
    /// No such stream, or no longer.
    #[error("the stream is gone")]
    Unknown,
    /// This end of the stream, or the session, has said its last.
    #[error("this end has finished")]
    Finished,
    /// Longer than the other end takes.
    #[error("the message is too long")]
    TooLong,
    /// More streams than the other end takes, or an id that is in use or belongs to the other end.
    #[error("no further stream may be opened")]
    TooMany,
}

/// What happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Acceptor: somebody wants a session. No further event comes until [`super::Session::grant`] or
    /// [`super::Session::refuse`]. With `resume`, this value is not the session that is meant: that one is
    /// handed `resume.received` with [`super::Session::reattach`], and this one is dropped.
    Opening {
        wanted: Window,
        qos: Qos,
        meta: Box<Meta>,
        resume: Option<Box<Resume>>,
        is_plain: bool,
    },
    /// Dialer: the session was granted, or taken up again.
    Granted {
        window: Window,
        terms: Box<Terms>,
    },
    /// Both ends know what the other has; what is missing is on its way. Windows, statuses and other control
    /// frames that were under way are not repeated.
    Resumed,
    /// The other end opened a stream; its first message follows.
    StreamOpened {
        stream: StreamKey,
    },
    /// A message, whole and in order. [`super::Session::on_consumed`] when it is done with.
    Message {
        stream: StreamKey,
        msg_seq: u64,
        message: Message,
    },
    /// The other end says what was wrong with a message; the stream goes on.
    Warned {
        stream: StreamKey,
        msg_seq: u64,
        refusal: Refusal,
    },
    /// The stream ended before its end. [`Event::StreamClosed`] follows.
    Reset {
        stream: StreamKey,
        refusal: Refusal,
        by_peer: bool,
    },
    /// Nothing more comes or goes on it; the key means nothing from here on.
    StreamClosed {
        stream: StreamKey,
    },
    /// After [`SendFault::Blocked`]: sending may work again.
    Room {
        stream: StreamKey,
    },
    /// The other end's window for this one.
    Window(Window),
    Status(Box<AgentStatus>),
    /// A frame the session has no use for: another control frame, or one on stream "" that is none.
    Control(Box<Frame>),
    /// The connection is gone, the session is kept.
    Suspended,
    /// The last event. All streams are gone with it.
    Closed(Ended),
}

/// What an acceptor learned from a SYN that claims a session, for the session that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeOpening {
    pub received: Vec<Received>,
    /// The next token; the old one is spent.
    pub resume_token: Text,
}

/// Enough for a sentence with a name in it.
pub const REASON_BYTES_MAX: usize = 512;
