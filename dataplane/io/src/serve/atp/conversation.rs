//! One session: a task that owns its machine, feeds it frames and time, and does what comes of them. It
//! outlives its connection where the peer holds a token. Decides nothing of the protocol, nothing of money.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dataplane_core::admit::pressure::Level;
use dataplane_core::reconcile::switch::Switcher;
use dataplane_state::ledger::Debt;
use dataplane_state::pipe::NoPlace;
use dataplane_state::window::Window as Counted;
use proto_core::frame::{Code, Encoding, FlagSet, Frame, Malformed, Text, Window};
use proto_core::session::{Ended, Event, Refusal, ResumeOpening, Session, Settings, StreamKey};
use proto_core::units::Moment;
use tokio::sync::{mpsc, watch};
use tokio::time::{Sleep, sleep, timeout};

use super::again::Preempted;
use super::attached::{self, Seat};
use super::link::{Inbound, Link, Outbound};
use super::opening::Caller;
use super::outbox::{Delivery, Ticket};
use super::registry::Registrations;
use super::seats::{self, Comeback, Door, Who};
use super::strand::Strand;
use crate::clock;
use crate::drain::{LAST_WORDS, Phase};
use crate::sessions::Session as Run;
use crate::worker::Worker;

/// A session on its worker.
pub struct Conversation {
    pub(super) worker: Arc<Worker>,
    pub(super) caller: Caller,
    pub(super) machine: Session,
    pub(super) strands: HashMap<StreamKey, Strand>,
    /// Requests under way, by what their deliveries name.
    pub(super) tickets: HashMap<Ticket, StreamKey>,
    pub(super) next_ticket: u64,
    /// Fan-outs that wait for a time, the next first.
    pub(super) fans: BTreeSet<(Moment, StreamKey)>,
    /// Streams that end with an error once what was said before is written.
    pub(super) resets: Vec<(StreamKey, Refusal)>,
    /// Both ends of the way from the tasks that answer; there while any is under way.
    deliveries: Option<(mpsc::UnboundedSender<Delivery>, mpsc::UnboundedReceiver<Delivery>)>,
    /// Where those come that have its token.
    pub(super) door: Arc<Door>,
    pub(super) open: Option<Open>,
    /// What the machine holds, in the worker's account.
    debt: Debt,
    /// Where the peer said it is, as an adapter; few say so.
    pub(super) registrations: Option<Box<Registrations>>,
    /// What gave its place to others and may be asked for again.
    pub(super) preempted: Option<Box<Preempted>>,
    /// Of fan-outs that leave their policy to it; few do.
    pub(super) switcher: Option<Box<Switcher>>,
    phases: watch::Receiver<Phase>,
    encoding: Encoding,
}

/// What an opened session stands on.
pub(super) struct Open {
    pub who: Who,
    pub run: Arc<Run>,
    pub wanted: Window,
    /// As it was told last.
    pub granted: Window,
    /// What the peer has under way is counted here.
    pub window: Arc<Counted>,
    pub seat: Option<seats::Ticket>,
    /// The one before, until the peer is known to have the next.
    pub spent: Option<seats::Ticket>,
    /// The peer is an adapter and takes work. Boxed: most are none.
    pub attached: Option<Box<Seat>>,
}

/// Runs a session from its first frame, over `link` and those that follow it. Begins at once, so that the
/// task carries neither the frame nor a second copy of what it is made of: most sessions are idle.
pub fn run(mut caller: Caller, first: Frame, link: Link) -> impl Future<Output = ()> + Send + 'static {
    caller.take_key(&first);
    let worker = Arc::clone(&caller.peer.worker);
    worker.tally.sessions_opened.one();
    let closed = Closed(Arc::clone(&worker));
    let mut conversation = Box::new(Conversation::new(worker, caller, first.session_id.clone(), &link));
    conversation.machine.on_frame(first, clock::now());
    async move {
        let _closed = closed;
        conversation.converse(link).await;
        if let Some(open) = &conversation.open {
            let name = conversation.machine.session_id().as_str().as_bytes();
            conversation.worker.shared.sessions.forget(open.who.tenant, name);
        }
    }
}

/// Counts a session's end, however it ends.
struct Closed(Arc<Worker>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.tally.sessions_closed.one();
    }
}

/// What wakes a session.
enum Woken {
    Inbound(Option<Inbound>),
    Delivery(Delivery),
    Desk(attached::Woken),
    Comeback(Box<Comeback>),
    Time,
    /// The connection takes more.
    Writable,
    Phase,
}

impl Conversation {
    fn new(worker: Arc<Worker>, caller: Caller, id: Text, link: &Link) -> Conversation {
        let settings = Arc::clone(&SETTINGS[usize::from(link.encoding.byte())]);
        let debt = Debt::none(&worker.ledger);
        let phases = worker.shared.phases();
        Conversation {
            machine: Session::accept(settings, id, clock::now()),
            worker,
            caller,
            strands: HashMap::new(),
            tickets: HashMap::new(),
            next_ticket: 0,
            fans: BTreeSet::new(),
            resets: Vec::new(),
            deliveries: None,
            door: Arc::default(),
            open: None,
            debt,
            registrations: None,
            preempted: None,
            switcher: None,
            phases,
            encoding: link.encoding,
        }
    }

    async fn converse(&mut self, first: Link) {
        let mut link = Some(first);
        // One for all waits: it is moved where something is due before it, and looks again when it fires.
        let timer = sleep(LOOK_EVERY);
        tokio::pin!(timer);
        loop {
            if let Some(ended) = self.on_events(&mut link) {
                tracing::debug!(session = self.machine.session_id().as_str(), ?ended, "a session ended");
                // On the heap: for all its life the task would carry the room for it.
                Box::pin(self.say_last(link)).await;
                return;
            }
            let mut is_full = self.flush(&mut link);
            // Without a connection what was said before them is still to be written: they wait with it.
            if !is_full && link.is_some() && !self.resets.is_empty() {
                for (stream, refusal) in std::mem::take(&mut self.resets) {
                    self.reset(stream, refusal);
                }
                is_full = self.flush(&mut link);
            }
            self.account();
            if self.machine.has_events() {
                // Of what was said, or of a connection that is seen to be gone.
                continue;
            }
            if self.machine.is_token_known()
                && let Some(open) = &mut self.open
            {
                open.spent = None;
            }
            match self.wake(&mut link, is_full, timer.as_mut()).await {
                Woken::Inbound(Some(inbound)) => {
                    self.on_inbound(inbound);
                    // Until a session is opened the rest may be another's.
                    let more = link.as_mut().filter(|_| self.open.is_some());
                    more.into_iter().for_each(|link| self.on_more_inbound(link));
                }
                Woken::Inbound(None) => {
                    link = None;
                    self.on_disconnect();
                }
                Woken::Delivery(delivery) => {
                    self.on_delivery(delivery);
                    // Many pieces share one write.
                    for _ in 0..TOGETHER_MAX {
                        let more = self.deliveries.as_mut().and_then(|(_, from)| from.try_recv().ok());
                        let Some(delivery) = more else { break };
                        self.on_delivery(delivery);
                    }
                }
                Woken::Desk(woken) => {
                    self.on_desk(woken);
                    for _ in 0..TOGETHER_MAX {
                        let Some(woken) = self.seat().and_then(Seat::poll_more) else { break };
                        self.on_desk(woken);
                    }
                }
                Woken::Comeback(comeback) => self.on_comeback(*comeback, &mut link),
                Woken::Time => {
                    self.machine.on_time(clock::now());
                    self.on_fans_time();
                    if let Some(kept) = &mut self.preempted {
                        kept.on_time(clock::now());
                    }
                }
                Woken::Writable => {}
                Woken::Phase => self.on_phase(),
            }
        }
    }

    /// Writes what there is, as far as the connection takes it; true where there is more.
    fn flush(&mut self, link: &mut Option<Link>) -> bool {
        while let Some(joined) = &mut *link {
            let place = match joined.out.try_reserve() {
                Ok(place) => place,
                Err(NoPlace::Full) => return true,
                Err(NoPlace::Closed) => break,
            };
            let Some(mut frame) = self.machine.poll_frame(clock::now()) else { return false };
            if self.worker.ledger.level() > Level::Green {
                // The peer slows down before it is refused.
                frame.flags.add(FlagSet::ECN);
                self.worker.tally.ecn_marks.one();
            }
            match self.encoding.encode(&frame) {
                Ok(message) => {
                    self.worker.tally.frames_sent.one();
                    let is_last = frame.flags.has(FlagSet::FIN) || frame.flags.has(FlagSet::RST);
                    let stream = Some(frame.stream_id).filter(|id| !id.is_empty());
                    place.send(Outbound { stream, message, is_last, held: None });
                }
                // What an upstream sent is JSON, and still some frames cannot carry it: too deep, too many
                // values. The stream says so.
                Err(malformed) => self.on_unsayable(&frame.stream_id, &malformed),
            }
        }
        if let Some(mut lost) = link.take() {
            // What the peer said before it went counts, whichever direction is seen to end first.
            while let Some(inbound) = lost.inbound.try_recv() {
                self.on_inbound(inbound);
            }
            self.on_disconnect();
        }
        false
    }

    /// What was registered over the connection goes with it; the session may come back.
    fn on_disconnect(&mut self) {
        self.registrations = None;
        self.machine.on_disconnect(clock::now());
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Frame(frame) => {
                if frame.flags.has(FlagSet::ECN) {
                    self.on_congestion();
                }
                self.machine.on_frame(*frame, clock::now());
            }
            Inbound::Malformed(malformed) => self.machine.on_malformed(&malformed, clock::now()),
        }
    }

    /// What else has come by now: many frames share one round of events, and one write.
    fn on_more_inbound(&mut self, link: &mut Link) {
        for _ in 0..TOGETHER_MAX {
            let Some(inbound) = link.inbound.try_recv() else { return };
            self.on_inbound(inbound);
        }
    }

    /// A peer, or somebody between, has more than it can take: the run may have less under way.
    fn on_congestion(&mut self) {
        let Some(open) = &self.open else { return };
        if open.run.flow.on_failure() {
            self.worker.tally.flow_moves.one();
        }
        self.worker.tally.ecn_reactions.one();
        self.review_window();
    }

    fn on_unsayable(&mut self, stream: &Text, malformed: &Malformed) {
        tracing::warn!(%malformed, "an answer cannot be carried in a frame");
        if let Some(stream) = self.machine.stream(stream.as_str()) {
            self.reset(stream, Refusal::new(Code::Adapter, "the answer cannot be carried in a frame"));
        }
    }

    /// What is left to say, to a connection that takes it.
    async fn say_last(&mut self, mut link: Option<Link>) {
        let saying = async {
            while self.flush(&mut link) {
                let Some(joined) = &mut link else { return };
                // Room, or nobody there.
                if !joined.out.writable().await {
                    return;
                }
            }
        };
        let is_said = timeout(LAST_WORDS, saying).await.is_ok();
        if let Some(link) = link.filter(|_| is_said) {
            link.out.finish();
        }
    }

    /// Where a task puts what comes of it.
    pub(super) fn deliveries_to(&mut self) -> &mpsc::UnboundedSender<Delivery> {
        #[expect(
            clippy::disallowed_methods,
            reason = "every task in it has room for so many bytes and no more"
        )]
        let (to, _) = self.deliveries.get_or_insert_with(mpsc::unbounded_channel);
        to
    }

    async fn wake(&mut self, link: &mut Option<Link>, is_full: bool, mut timer: Pin<&mut Sleep>) -> Woken {
        let kept = self.preempted.as_ref().and_then(|kept| kept.due());
        let due = self.machine.due().into_iter().chain(self.fans_due()).chain(kept);
        let due = due.min().map(clock::instant);
        if let Some(due) = due
            && (timer.is_elapsed() || due < timer.deadline())
        {
            timer.as_mut().reset(due);
        }
        let is_joined = link.is_some();
        let is_waiting = is_joined && is_full;
        let mut joined = link.as_mut();
        let (inbound, out) = match &mut joined {
            Some(link) => (Some(&mut link.inbound), Some(&mut link.out)),
            None => (None, None),
        };
        let mut attached = self.open.as_mut().and_then(|open| open.attached.as_deref_mut());
        let is_attached = attached.is_some();
        let inbound = async {
            match inbound {
                Some(inbound) => inbound.recv().await,
                None => pending().await,
            }
        };
        let writable = async {
            match out {
                // An error shows at the next write.
                Some(out) => drop(out.writable().await),
                None => pending().await,
            }
        };
        let desk = async {
            match &mut attached {
                Some(seat) => seat.next().await,
                None => pending().await,
            }
        };
        if self.tickets.is_empty() {
            // Some kilobytes, which most sessions have no use for most of the time.
            self.deliveries = None;
            self.tickets.shrink_to_fit();
            if self.strands.is_empty() {
                self.strands.shrink_to_fit();
            }
        }
        let deliveries = &mut self.deliveries;
        let delivery = async {
            match deliveries {
                Some((_, deliveries)) => deliveries.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            // A sender that is gone means the process is ending.
            _ = self.phases.changed() => Woken::Phase,
            comeback = self.door.next() => Woken::Comeback(comeback),
            inbound = inbound, if is_joined => Woken::Inbound(inbound),
            delivery = delivery => Woken::Delivery(delivery.expect("this end keeps a sender")),
            woken = desk, if is_attached => Woken::Desk(woken),
            () = writable, if is_waiting => Woken::Writable,
            () = timer, if due.is_some() => Woken::Time,
        }
    }

    /// What the machine tells; `Some` once the session is over.
    fn on_events(&mut self, link: &mut Option<Link>) -> Option<Ended> {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Opening { wanted, meta, resume, .. } => {
                    if let Some(resume) = resume {
                        match self.hand_over(*resume, link) {
                            Some(ended) => return Some(ended),
                            None => continue,
                        }
                    }
                    self.on_opening(wanted, &meta);
                }
                Event::Message { stream, msg_seq, message } => {
                    self.worker.tally.frames_received.one();
                    if !self.on_answer(stream, msg_seq, &message) {
                        self.on_message(stream, msg_seq, message);
                    }
                }
                Event::Reset { stream, refusal, .. } => {
                    self.on_call_reset(stream, &refusal);
                    self.forget(stream);
                }
                Event::StreamClosed { stream } => {
                    self.on_call_closed(stream);
                    self.forget(stream);
                }
                Event::Room { stream } => self.on_room(stream),
                Event::Status(status) => self.on_status(&status),
                Event::Control(frame) => self.on_control(*frame),
                Event::Warned { stream, refusal, .. } => self.on_warned(stream, &refusal),
                Event::Closed(ended) => return Some(ended),
                Event::Suspended => self.worker.tally.sessions_suspended.one(),
                Event::Resumed => self.worker.tally.sessions_resumed.one(),
                Event::StreamOpened { .. } | Event::Granted { .. } | Event::Window(_) => {}
            }
        }
        None
    }

    fn on_phase(&mut self) {
        let phase = *self.phases.borrow_and_update();
        if phase >= Phase::Closing {
            let reason = "draining: this data plane is shutting down";
            self.machine.refuse(Refusal::new(Code::Draining, reason), clock::now());
        } else if phase >= Phase::Draining {
            self.machine.finish(clock::now());
        }
    }

    /// Somebody came back on `comeback.link`: the session goes on there.
    fn on_comeback(&mut self, comeback: Comeback, link: &mut Option<Link>) {
        if link.take().is_some() {
            // The peer noticed before us that the old connection is dead.
            self.on_disconnect();
        }
        let Comeback { link: fresh, caller, token: shown, received } = comeback;
        let Some(token) = self.next_token(&shown) else { return };
        self.machine.set_encoding(fresh.encoding);
        let opening = ResumeOpening { received, resume_token: token };
        if self.machine.reattach(opening, clock::now()) {
            self.encoding = fresh.encoding;
            self.caller = caller;
            *link = Some(fresh);
        }
    }

    /// What the machine holds is in the worker's account; where that is full, the session is over.
    fn account(&mut self) {
        let preempted = self.preempted.as_ref().map_or(0, |preempted| preempted.held_bytes());
        let held = (self.machine.held_bytes() + preempted) as u64;
        if held > self.debt.bytes() && !self.debt.try_grow(held - self.debt.bytes()) {
            let shed =
                Refusal::new(Code::Window, "overloaded: no memory is left for what this session holds");
            self.machine.refuse(shed, clock::now());
        } else if held < self.debt.bytes() {
            self.debt.give_back(self.debt.bytes() - held);
        }
    }
}

/// By encoding, shared by all sessions.
static SETTINGS: LazyLock<[Arc<Settings>; 3]> =
    LazyLock::new(|| Encoding::ALL.map(|encoding| Arc::new(Settings { encoding, ..Settings::default() })));
/// Where nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Deliveries, and frames that came, handled before anything is written.
const TOGETHER_MAX: usize = 64;
