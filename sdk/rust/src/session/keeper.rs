//! The task that owns a session's machine: feeds it frames, time and what its users want, and does what comes
//! of them. A lost connection is made anew where the other end keeps the session. Knows neither sockets nor
//! what the messages mean.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::time::Duration;

use proto_core::frame::{Code, Encoding, Text, Window};
use proto_core::session::{Ended, Event, Message, Phase, Refusal, SendFault, Session, StreamKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::chance::backoff;
use super::clock;
use super::link::{Dial, Dialing, Inbound, Link, Outbound};
use super::queue;
use super::strand::{Command, Said, Strand};
use crate::Failure;

/// What can be seen of a session from outside.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What the other end lets this one have under way; `None` until it has said so.
    pub window: Option<Window>,
    /// How often a lost connection was made good.
    pub resumes: u64,
    /// The connection is there.
    pub is_connected: bool,
    pub ended: Option<Failure>,
}

pub struct Keeper {
    machine: Session,
    encoding: Encoding,
    link: Option<Link>,
    dial: Dial,
    /// The next connection, on its way.
    dialing: Option<Dialing>,
    attempt: u32,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For the strands it hands out; weak, so that the channel ends with its last user.
    commands_to: mpsc::WeakUnboundedSender<Command>,
    /// Where streams go that the other end opens; `None`: they are refused.
    offered: Option<mpsc::UnboundedSender<Strand>>,
    routes: HashMap<StreamKey, Route>,
    /// What the window has no place for yet.
    waiting: VecDeque<(Message, oneshot::Sender<Result<Strand, Failure>>)>,
    /// Streams of this end whose answer is not whole.
    under_way: u32,
    /// Streams that ended, for the connection to know.
    over: VecDeque<Text>,
    view: watch::Sender<View>,
    /// When something came last.
    heard: Instant,
    /// A connection on which nothing came for so long is dead: the other end beats more often. `None`: where
    /// it is lost for good, the machine decides.
    quiet_max: Option<Duration>,
    /// Why the connection was lost, where it said so.
    cause: Option<Failure>,
    /// Nobody is left who could say anything.
    is_deserted: bool,
    /// It was told to finish, or is deserted: it has until then.
    finish_by: Option<Instant>,
}

/// Where what comes of a stream goes.
struct Route {
    id: Text,
    to: mpsc::UnboundedSender<Said>,
    /// Counts against the window.
    is_under_way: bool,
    /// This end has said its last.
    is_said: bool,
    /// The other end has, with this number.
    last: Option<u64>,
    /// What there is no credit for.
    unsent: VecDeque<(Message, oneshot::Sender<Result<(), Failure>>)>,
}

enum Woken {
    Command(Option<Command>),
    Inbound(Option<Inbound>),
    Dialed(Result<Link, Failure>),
    Writable,
    Time,
}

/// The ends a keeper's users hold.
pub struct Held {
    pub commands: mpsc::UnboundedSender<Command>,
    pub view: watch::Receiver<View>,
}

impl Keeper {
    /// Runs a session that was dialed over `link` until it is over.
    pub fn start(
        machine: Session,
        link: Link,
        dial: Dial,
        offered: Option<mpsc::UnboundedSender<Strand>>,
    ) -> Held {
        // Bounded as [`Command`] says.
        let (commands_to, commands) = queue();
        let (view, viewed) = watch::channel(View { is_connected: true, ..View::default() });
        let keeper = Keeper {
            machine,
            encoding: link.encoding,
            link: Some(link),
            dial,
            dialing: None,
            attempt: 0,
            commands,
            commands_to: commands_to.downgrade(),
            offered,
            routes: HashMap::new(),
            waiting: VecDeque::new(),
            under_way: 0,
            over: VecDeque::new(),
            view,
            heard: Instant::now(),
            quiet_max: None,
            cause: None,
            is_deserted: false,
            finish_by: None,
        };
        tokio::spawn(keeper.run());
        Held { commands: commands_to, view: viewed }
    }

    async fn run(mut self) {
        let ended = loop {
            let is_full = loop {
                self.admit();
                let is_full = self.flush();
                let Some(event) = self.machine.poll_event() else { break Ok(is_full) };
                if let Some(ended) = self.on_event(event) {
                    break Err(ended);
                }
            };
            let is_full = match is_full {
                Ok(is_full) => is_full,
                Err(ended) => break ended,
            };
            match self.wake(is_full).await {
                Woken::Command(Some(command)) => self.on_command(command),
                Woken::Command(None) => {
                    self.is_deserted = true;
                    self.finish();
                }
                Woken::Inbound(Some(inbound)) => self.on_inbound(inbound),
                Woken::Inbound(None) => self.on_lost(),
                Woken::Dialed(link) => self.on_dialed(link),
                Woken::Writable => {}
                Woken::Time => self.on_time(),
            }
        };
        self.end(ended).await;
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        self.heard = Instant::now();
        match inbound {
            Inbound::Frame(frame) => self.machine.on_frame(*frame, clock::now()),
            Inbound::Malformed(malformed) => self.machine.on_malformed(&malformed, clock::now()),
            Inbound::Failed(failure) => self.cause = Some(failure),
        }
    }

    /// When the connection counts as dead.
    fn dead_at(&self) -> Option<Instant> {
        self.link.as_ref().and(self.quiet_max).map(|quiet| self.heard + quiet)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.finish_by.is_some_and(|by| by <= now) {
            self.finish_by = None;
            let refusal = Refusal::new(Code::Timeout, "the session did not end in time");
            self.machine.refuse(refusal, clock::now());
        } else if self.dead_at().is_some_and(|at| at <= now) {
            self.on_lost();
        } else {
            self.machine.on_time(clock::now());
        }
    }

    async fn wake(&mut self, is_full: bool) -> Woken {
        let due = self.machine.due().map(clock::instant);
        let due = due.into_iter().chain(self.finish_by).chain(self.dead_at()).min();
        let (inbound, out) = match &mut self.link {
            Some(link) => (Some(&mut link.inbound), Some(&link.out)),
            None => (None, None),
        };
        let inbound = async {
            match inbound {
                Some(inbound) => inbound.recv().await,
                None => pending().await,
            }
        };
        let writable = async {
            match out {
                // An error shows at the next write.
                Some(out) if is_full => drop(out.reserve().await),
                _ => pending().await,
            }
        };
        let dialed = async {
            match &mut self.dialing {
                Some(dialing) => dialing.await,
                None => pending().await,
            }
        };
        let time = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.commands.recv(), if !self.is_deserted => Woken::Command(command),
            inbound = inbound => Woken::Inbound(inbound),
            link = dialed => Woken::Dialed(link),
            () = writable => Woken::Writable,
            () = time => Woken::Time,
        }
    }

    /// Writes what there is, as far as the connection takes it; true where there is more.
    fn flush(&mut self) -> bool {
        loop {
            let Some(link) = &self.link else { return false };
            let place = match link.out.try_reserve() {
                Ok(place) => place,
                Err(mpsc::error::TrySendError::Full(())) => return true,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    // What it still says may say why.
                    return false;
                }
            };
            if let Some(frame) = self.machine.poll_frame(clock::now()) {
                match self.encoding.encode(&frame) {
                    Ok(message) => {
                        let stream = Some(frame.stream_id).filter(|id| !id.is_empty());
                        place.send(Outbound::Frame { stream, message });
                    }
                    Err(malformed) => {
                        drop(place);
                        let reason = format!("a message cannot be carried in a frame: {malformed}");
                        let refusal = Refusal {
                            code: Code::BadInput,
                            reason: reason.into(),
                            retry_after_ms: None,
                            resume_token: None,
                        };
                        self.refuse_stream(&frame.stream_id, refusal);
                    }
                }
            } else if let Some(id) = self.over.pop_front() {
                place.send(Outbound::Over(id));
            } else {
                return false;
            }
        }
    }

    fn refuse_stream(&mut self, id: &Text, refusal: Refusal) {
        let Some(stream) = self.machine.stream(id.as_str()) else { return };
        if let Some(route) = self.routes.get(&stream) {
            let _ = route.to.send(Said::Reset(refusal.clone()));
        }
        self.machine.reset(stream, refusal, clock::now());
    }

    /// Begins what the window has a place for.
    fn admit(&mut self) {
        let Some(window) = self.view.borrow().window else { return };
        while self.under_way < window.max_parallel {
            let Some((message, to)) = self.waiting.pop_front() else { return };
            if to.is_closed() {
                continue;
            }
            let stream = match self.machine.open(None, clock::now()) {
                Ok(stream) => stream,
                // One that ends makes room.
                Err(SendFault::TooMany | SendFault::Blocked) if self.under_way > 0 => {
                    self.waiting.push_front((message, to));
                    return;
                }
                Err(fault) => {
                    let _ = to.send(Err(failure(fault)));
                    continue;
                }
            };
            let strand = self.route(stream, true);
            let Some(strand) = strand else { return };
            let (taken, _) = oneshot::channel();
            self.send(stream, message, taken);
            // One that is dropped on the way cancels its stream.
            let _ = to.send(Ok(strand));
        }
    }

    /// A strand for a stream; `None` where nobody is left to use it.
    fn route(&mut self, stream: StreamKey, is_under_way: bool) -> Option<Strand> {
        let commands = self.commands_to.upgrade()?;
        let id = self.machine.id(stream)?.clone();
        // Bounded by the stream's credit.
        let (to, said) = queue();
        self.under_way += u32::from(is_under_way);
        self.routes.insert(
            stream,
            Route { id, to, is_under_way, is_said: false, last: None, unsent: VecDeque::new() },
        );
        Some(Strand::new(stream, said, commands))
    }

    fn send(&mut self, stream: StreamKey, message: Message, taken: oneshot::Sender<Result<(), Failure>>) {
        let Some(route) = self.routes.get_mut(&stream) else {
            let _ = taken.send(Err(Failure::Broken("the stream has ended".into())));
            return;
        };
        if !route.unsent.is_empty() {
            route.unsent.push_back((message, taken));
            return;
        }
        match self.machine.send(stream, message.clone(), clock::now()) {
            Ok(_) => {
                route.is_said |= message.is_last;
                let _ = taken.send(Ok(()));
            }
            Err(SendFault::Blocked) => route.unsent.push_back((message, taken)),
            Err(fault) => {
                let failure = failure(fault);
                let _ = route.to.send(Said::Lost(failure.clone()));
                let _ = taken.send(Err(failure));
                if fault == SendFault::TooLong {
                    // Whoever used it was told that it is over: nobody else would ever end it.
                    let refusal = Refusal::new(Code::Preempt, "cancelled: a message is too long to be sent");
                    self.machine.reset(stream, refusal, clock::now());
                }
            }
        }
    }

    /// Credit came.
    fn on_room(&mut self, stream: StreamKey) {
        let Some(route) = self.routes.get_mut(&stream) else { return };
        for (message, taken) in std::mem::take(&mut route.unsent) {
            self.send(stream, message, taken);
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Begin { message, to } if self.finish_by.is_none() => {
                self.waiting.push_back((message, to))
            }
            Command::Begin { to, .. } => drop(to.send(Err(Failure::Ended))),
            Command::Send { stream, message, taken } => self.send(stream, message, taken),
            Command::Consumed { stream, msg_seq } => self.machine.on_consumed(stream, msg_seq, now),
            Command::Reset { stream, refusal } => match self.routes.get(&stream) {
                // All of it has come and gone: it ends in order.
                Some(Route { is_said: true, last: Some(last), .. }) => {
                    self.machine.on_consumed(stream, *last, now);
                }
                Some(_) => self.machine.reset(stream, refusal, now),
                None => {}
            },
            Command::Status(status) => self.machine.tell_status(&status, now),
            Command::Tell(frame) => self.machine.tell(*frame),
            Command::Finish => self.finish(),
        }
    }

    /// What the machine tells; `Some` once the session is over.
    fn on_event(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::Granted { window, terms } => {
                // Two beats and a half; before the machine gives the session up, where beats are slow.
                let quiet = (terms.heartbeat * 5 / 2).min(terms.idle * 3 / 4);
                self.quiet_max = terms.resume_token.is_some().then_some(quiet);
                self.view.send_modify(|view| view.window = Some(window));
            }
            Event::Window(window) => self.view.send_modify(|view| view.window = Some(window)),
            Event::StreamOpened { stream } => self.on_offered(stream),
            Event::Message { stream, msg_seq, message } => self.on_message(stream, msg_seq, message),
            Event::Warned { stream, refusal, .. } => self.tell(stream, Said::Warned(refusal)),
            Event::Reset { stream, refusal, .. } => self.tell(stream, Said::Reset(refusal)),
            Event::StreamClosed { stream } => {
                if let Some(route) = self.routes.remove(&stream) {
                    self.under_way -= u32::from(route.is_under_way);
                    self.over.push_back(route.id);
                }
            }
            Event::Room { stream } => self.on_room(stream),
            Event::Resumed => {
                self.attempt = 0;
                self.view.send_modify(|view| view.resumes += 1);
            }
            Event::Closed(ended) => return Some(ended),
            // A dialer is asked for nothing; statuses and other control frames change nothing here; that it
            // is suspended is known from where it was told that the connection is gone.
            Event::Opening { .. } | Event::Status(_) | Event::Control(_) | Event::Suspended => {}
        }
        None
    }

    fn on_offered(&mut self, stream: StreamKey) {
        let strand = if self.offered.is_some() { self.route(stream, false) } else { None };
        let taken = match (&self.offered, strand) {
            (Some(offered), Some(strand)) => offered.send(strand).is_ok(),
            _ => false,
        };
        if !taken {
            let refusal = Refusal::new(Code::Policy, "this end takes no work");
            self.machine.reset(stream, refusal, clock::now());
        }
    }

    fn on_message(&mut self, stream: StreamKey, msg_seq: u64, message: Message) {
        let is_last = message.is_last;
        let is_taken = match self.routes.get_mut(&stream) {
            Some(route) => {
                if is_last {
                    route.last = Some(msg_seq);
                    self.under_way -= u32::from(std::mem::take(&mut route.is_under_way));
                }
                route.to.send(Said::Message { msg_seq, message }).is_ok()
            }
            None => false,
        };
        if !is_taken {
            self.machine.on_consumed(stream, msg_seq, clock::now());
        }
    }

    fn tell(&mut self, stream: StreamKey, said: Said) {
        if let Some(route) = self.routes.get(&stream) {
            let _ = route.to.send(said);
        }
    }

    fn on_lost(&mut self) {
        self.link = None;
        self.view.send_modify(|view| view.is_connected = false);
        self.over.clear();
        self.machine.on_disconnect(clock::now());
        // One that is lost again while it comes back tells nothing new.
        if self.machine.phase() == Phase::Suspended {
            self.redial();
        }
    }

    /// The machine keeps the session for a while: as long is tried.
    fn redial(&mut self) {
        let (dial, wait) = (self.dial.clone(), backoff(self.attempt));
        self.attempt = self.attempt.saturating_add(1);
        self.dialing = Some(Box::pin(async move {
            sleep(wait).await;
            dial().await
        }));
    }

    fn on_dialed(&mut self, link: Result<Link, Failure>) {
        self.dialing = None;
        match link {
            Ok(link) if self.machine.redial(clock::now()) => {
                self.link = Some(link);
                self.heard = Instant::now();
                self.view.send_modify(|view| view.is_connected = true);
            }
            Ok(_) => {}
            Err(failure) => {
                self.cause = Some(failure);
                self.redial();
            }
        }
    }

    fn finish(&mut self) {
        if self.finish_by.is_none() {
            self.finish_by = Some(Instant::now() + FINISH);
            self.machine.finish(clock::now());
            for (_, to) in self.waiting.drain(..) {
                let _ = to.send(Err(Failure::Ended));
            }
        }
    }

    async fn end(mut self, ended: Ended) {
        let failure = match ended {
            Ended::Finished | Ended::ByPeer => Failure::Ended,
            Ended::Idle => Failure::Lost("nothing came for too long".into()),
            Ended::Refused(refusal) | Ended::RefusedByPeer(refusal) => refusal.into(),
            Ended::Lost => match self.cause.take() {
                Some(cause @ (Failure::Rejected { .. } | Failure::Tls(_))) => cause,
                Some(cause) => Failure::Lost(cause.to_string()),
                None => Failure::Lost("the connection broke off".into()),
            },
        };
        for route in self.routes.values() {
            let _ = route.to.send(Said::Lost(failure.clone()));
        }
        self.routes.clear();
        for (_, to) in self.waiting.drain(..) {
            let _ = to.send(Err(failure.clone()));
        }
        let writer = self.link.as_ref().map(|link| link.writer.abort_handle());
        let _ = timeout(LAST_WORDS, self.say_last()).await;
        if let Some(writer) = writer {
            writer.abort();
        }
        self.view.send_modify(|view| {
            view.is_connected = false;
            view.ended = Some(failure);
        });
    }

    /// What is left to say, until it is written.
    async fn say_last(&mut self) {
        while self.flush() {
            let Some(link) = &self.link else { return };
            // Room, or nobody there.
            if link.out.reserve().await.is_err() {
                return;
            }
        }
        if let Some(Link { out, inbound, writer, .. }) = self.link.take() {
            drop((out, inbound));
            let _ = writer.await;
        }
    }
}

fn failure(fault: SendFault) -> Failure {
    match fault {
        SendFault::TooLong => Failure::Unsendable("it is longer than the other end takes".into()),
        SendFault::Finished => Failure::Ended,
        SendFault::Blocked | SendFault::Unknown | SendFault::TooMany => Failure::Broken(fault.to_string()),
    }
}

/// For streams under way to end after the session was told to: as long as a data plane drains.
const FINISH: Duration = Duration::from_secs(30);
/// For what is left to say to a connection that does not take it.
const LAST_WORDS: Duration = Duration::from_secs(1);
