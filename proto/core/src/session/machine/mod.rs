//! One end of a session.
//!
//! ```text
//!  dialer    Opening ── SYN+ACK ──> Open ── finish ──> Finishing ── streams over: FIN ──> Closed
//!  acceptor  Opening ── grant ────> Open
//!
//!            Open, Finishing ── connection lost, token out ──> Suspended ── too long ──> Closed
//!  dialer    Suspended ── redial ──> Resuming ── SYN+ACK ──> Open or Finishing, as it was
//!  acceptor  Suspended ── reattach ────────────────────────> Open or Finishing, as it was
//!
//!  any       FIN or RST on "", refuse, nothing heard for too long ──> Closed
//! ```
//! Rooms: this file (what a session is, and how it ends), `app` (what the application does), `input` (frames
//! that came), `opening`, `life` (time, connections), `output` (frames that go).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{FlagSet, Frame, Meta, Qos, RawJson, Text, Window};
use crate::units::Moment;

use super::departed::{Departed, How};
use super::event::{Ended, Event, Phase, StreamKey};
use super::held::Held;
use super::kind;
use super::message::Place;
use super::settings::{Limits, Settings};
use super::stream::{Stream, Waits, frame};
use super::streams::Streams;
use super::syn::{Asked, Opening};
use super::window::Advert;

mod app;
mod input;
mod life;
mod opening;
mod output;

/// One end of a session. See the module for its states.
#[derive(Debug)]
pub struct Session {
    /// Shared by the sessions of an acceptor, as long as they agree.
    settings: Arc<Settings>,
    /// As agreed: not of the settings, which sessions with other beats share.
    heartbeat: Duration,
    /// What the other end takes.
    limits: Limits,
    id: Text,
    side: Side,
    phase: Phase,
    is_plain: bool,
    is_finishing: bool,
    qos: Qos,
    /// The window this end has from the other, or wants; of an acceptor, the one it gave.
    window: Window,
    advert: Advert,
    streams: Streams,
    departed: Departed,
    /// The numbers of ids that were found here.
    ids: u64,
    events: VecDeque<Event>,
    /// The application has been told of an opening and has not answered.
    is_gated: bool,
    /// Boxed: mostly empty, and a frame is large.
    control: VecDeque<Box<Frame>>,
    /// Frames of the application.
    told: VecDeque<Box<Frame>>,
    /// What was sent and not consumed; long messages aside.
    out_held: Held,
    out_long: Option<StreamKey>,
    /// What came and was not consumed.
    in_held: Held,
    in_long: Option<StreamKey>,
    /// Streams with [`Waits::OfOthers`].
    waiting: Vec<StreamKey>,
    token: Option<Text>,
    /// Dialer: what it says of itself in every SYN.
    meta: Option<Box<Meta>>,
    /// The other end has acknowledged something, so it knows how to come back.
    is_acknowledging: bool,
    is_token_known: bool,
    malformed: u8,
    /// Something happened since memory was given back.
    is_roomy: bool,
    times: Times,
}

#[derive(Debug)]
enum Side {
    Dialer,
    /// Before its first frame.
    Awaiting,
    /// A SYN that waits for its grant.
    Asked(Box<Asked>),
    Acceptor,
}

#[derive(Debug)]
struct Times {
    /// When this phase began, where it cannot last.
    began: Moment,
    received: Moment,
    sent: Moment,
    /// No stream wants anything before.
    streams: Option<Moment>,
}

impl Session {
    /// The end that opens: SYN is the first frame polled. Streams may be opened and messages sent at once,
    /// before the other end has granted anything.
    pub fn dial(
        settings: impl Into<Arc<Settings>>,
        session_id: Text,
        opening: Opening,
        now: Moment,
    ) -> Session {
        let mut session = Session::new(settings.into(), session_id, Side::Dialer, now);
        session.qos = opening.qos;
        session.window = opening.window;
        session.meta = Some(Box::new(opening.meta.clone()));
        session.say_syn(opening.meta, None);
        session
    }

    /// The end that answers. Its first frame decides: a SYN, or a plain peer that says its first message.
    pub fn accept(settings: impl Into<Arc<Settings>>, session_id: Text, now: Moment) -> Session {
        Session::new(settings.into(), session_id, Side::Awaiting, now)
    }

    fn new(settings: Arc<Settings>, id: Text, side: Side, now: Moment) -> Session {
        Session {
            heartbeat: settings.heartbeat,
            settings,
            limits: Limits::default(),
            id: own(&id),
            side,
            phase: Phase::Opening,
            is_plain: false,
            is_finishing: false,
            qos: Qos::default(),
            window: Window::default(),
            advert: Advert::new(None),
            streams: Streams::default(),
            departed: Departed::default(),
            ids: 0,
            events: VecDeque::new(),
            is_gated: false,
            control: VecDeque::new(),
            told: VecDeque::new(),
            out_held: Held::default(),
            out_long: None,
            in_held: Held::default(),
            in_long: None,
            waiting: Vec::new(),
            token: None,
            meta: None,
            is_acknowledging: false,
            is_token_known: false,
            malformed: 0,
            is_roomy: false,
            times: Times { began: now, received: now, sent: now, streams: None },
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn session_id(&self) -> &Text {
        &self.id
    }

    /// The stream's id on the wire.
    pub fn id(&self, stream: StreamKey) -> Option<&Text> {
        self.streams.get(stream).map(|stream| &stream.id)
    }

    /// The stream with this id, while it is there.
    pub fn stream(&self, id: &str) -> Option<StreamKey> {
        self.streams.find(id)
    }

    /// The other end opened without SYN: it does not acknowledge, gets no heartbeats, windows or tokens, and
    /// numbers as it likes. Its streams end with this end's last message.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether a token may be granted: the other end asked for one.
    pub fn is_resumable(&self) -> bool {
        matches!(&self.side, Side::Asked(asked) if asked.wants_resume)
    }

    /// Acceptor: whether the other end has said that it has the newest token. Until then the one before is
    /// still good: the answer that brought the newest may be lost.
    pub fn is_token_known(&self) -> bool {
        self.is_token_known
    }

    /// Content this session keeps in memory: what was sent and not consumed, what came and was not consumed,
    /// and what is not whole yet.
    pub fn held_bytes(&self) -> usize {
        let long = self.out_long.and_then(|stream| self.streams.get(stream));
        self.out_held.bytes + self.in_held.bytes + long.map_or(0, |stream| stream.out.held().bytes)
    }

    fn place(&self, stream_id: Text) -> Place {
        let (session_id, qos) = (self.id.clone(), self.qos.clone());
        Place { session_id, stream_id, msg_seq: 0, qos, window: self.window }
    }

    fn say(&mut self, stream_id: &str, flags: FlagSet, kind: &'static str, content: RawJson) {
        if self.phase == Phase::Closed || self.phase == Phase::Suspended {
            return;
        }
        let frame = frame(self.place(stream_id.into()), flags, kind, content);
        self.control.push_back(Box::new(frame));
    }

    /// What was kept for the other end no longer is. `held` is of one stream.
    fn free_out(&mut self, stream: StreamKey, held: Held) {
        let is_long = self.out_long == Some(stream) && held.pieces > 0;
        if is_long {
            self.out_long = None;
        }
        self.out_held.remove(Held { bytes: if is_long { 0 } else { held.bytes }, ..held });
    }

    /// A message was not taken: what has to be freed first.
    fn wait_for_room(&mut self, key: StreamKey, waits: Waits) {
        let stream = self.streams.get_mut(key).expect("the caller has found it");
        if stream.waits != Waits::OfOthers && waits == Waits::OfOthers {
            self.waiting.push(key);
        }
        if stream.waits != Waits::OfOthers {
            stream.waits = waits;
        }
    }

    /// Something was freed; of this stream's own credit where one is named. Looks only at streams that may
    /// have waited for it.
    fn tell_room(&mut self, freed: Option<StreamKey>) {
        if let Some(stream) = freed.and_then(|key| self.streams.get_mut(key))
            && stream.waits == Waits::OfItself
        {
            stream.waits = Waits::OfOthers;
            self.waiting.extend(freed);
        }
        let is_full =
            self.out_held.bytes >= self.limits.session_bytes || self.out_held.pieces >= MESSAGES_SESSION_MAX;
        if is_full || self.waiting.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.waiting) {
            let has_room = self.room(key) > 0;
            let Some(stream) = self.streams.get_mut(key) else { continue };
            if has_room {
                stream.waits = Waits::No;
                self.events.push_back(Event::Room { stream: key });
            } else {
                // The session has room, so it is its own credit that is short.
                stream.waits = Waits::OfItself;
            }
        }
    }

    /// Lets go of a stream that is over, and sees to those that have something to say or to wait for.
    fn settle(&mut self, key: StreamKey, now: Moment) {
        let Some(stream) = self.streams.get(key) else { return };
        if stream.is_over(self.is_plain) {
            let how = How::InOrder(stream.inn.received());
            self.release(key, how, now);
        } else {
            let due = stream.due(self.is_plain);
            if stream.has_something_to_say(self.is_plain) {
                self.streams.wake(key);
            }
            self.times.streams = self.times.streams.into_iter().chain(due).min();
        }
    }

    fn release(&mut self, key: StreamKey, how: How, now: Moment) {
        let Some(mut stream) = self.streams.remove(key) else { return };
        let (out, inn) = (stream.out.clear(), stream.inn.clear());
        if stream.waits == Waits::OfOthers {
            self.waiting.retain(|waiting| *waiting != key);
        }
        self.free_out(key, out);
        self.in_held.remove(inn);
        if self.in_long == Some(key) {
            self.in_long = None;
        }
        if !self.is_plain {
            self.departed.add(stream.id.as_str(), how, now);
        }
        self.events.push_back(Event::StreamClosed { stream: key });
        self.tell_room(None);
        self.finish_if_over(now);
    }

    fn finish_if_over(&mut self, _now: Moment) {
        let is_connected = matches!(self.phase, Phase::Opening | Phase::Finishing);
        if !self.is_finishing || !self.streams.is_empty() || self.phase == Phase::Closed {
            return;
        }
        if is_connected {
            self.say("", FlagSet::FIN, kind::FIN, RawJson::NULL);
        }
        if is_connected || self.phase == Phase::Suspended {
            self.close(Ended::Finished);
        }
    }

    fn close(&mut self, ended: Ended) {
        if self.phase == Phase::Opening && !matches!(self.side, Side::Dialer) {
            // Nobody has been told of anything but the opening, which is over.
            self.events.clear();
        }
        self.phase = Phase::Closed;
        self.is_gated = false;
        self.streams = Streams::default();
        self.departed = Departed::default();
        (self.out_held, self.in_held) = (Held::default(), Held::default());
        (self.out_long, self.in_long) = (None, None);
        self.events.push_back(Event::Closed(ended));
    }
}

/// A copy that keeps no frame in memory.
fn own(id: &Text) -> Text {
    Text::from(id.as_str())
}

fn is_of_acceptor(id: &str) -> bool {
    id.starts_with(ACCEPTOR)
}

/// How ids of the acceptor's streams start, and those of the dialer's do not.
const ACCEPTOR: &str = "~";

/// Ids of all streams have their place in one frame, of an opening that takes a session up again.
pub(super) const STREAM_ID_BYTES_MAX: usize = 256;

/// Of all streams, sent and not consumed: bounds what tiny messages cost beyond their bytes.
pub(super) const MESSAGES_SESSION_MAX: usize = 4096;
