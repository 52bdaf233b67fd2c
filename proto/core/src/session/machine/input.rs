//! Frames that came: of the session, of a stream that is known, of one that is not.

use crate::frame::{Code, FlagSet, Frame, Malformed, Text, checksum};
use crate::units::Moment;

use super::super::content::{self, Said};
use super::super::departed::How;
use super::super::event::{Ended, Event, Phase, Refusal, StreamKey};
use super::super::held::Held;
use super::super::inbound::{Delivery, Rules};
use super::super::kind;
use super::super::status::AgentStatus;
use super::super::stream::{Stream, ack_frame, error_frame};
use super::{MESSAGES_SESSION_MAX, STREAM_ID_BYTES_MAX, Session, Side, is_of_acceptor, own};

impl Session {
    /// A frame came. What breaks a rule is answered with RST and told as an event; nothing panics.
    pub fn on_frame(&mut self, frame: Frame, now: Moment) {
        if matches!(self.phase, Phase::Closed | Phase::Suspended) {
            return;
        }
        if let Err(malformed) = checksum::check_frame(&frame) {
            return self.on_malformed(&malformed, now);
        }
        if !frame.session_id.is_empty() && frame.session_id != self.id {
            return self.complain(Refusal::new(Code::Proto, "a frame of another session"), now);
        }
        self.times.received = now;
        self.malformed = 0;
        if matches!(self.side, Side::Awaiting) && !self.on_first(&frame, now) {
            return;
        }
        if frame.stream_id.is_empty() {
            self.on_session_frame(frame, now);
        } else {
            self.on_stream_frame(frame, now);
        }
        self.bound(now);
    }

    /// A message came that is no frame, where the transport still knows where the next begins.
    pub fn on_malformed(&mut self, malformed: &Malformed, now: Moment) {
        let reason = Text::from(malformed.to_string());
        self.times.received = now;
        self.complain(Refusal { reason, ..Refusal::new(malformed.code(), "") }, now);
    }

    /// An error about no stream. The session goes on, unless errors are all that comes.
    fn complain(&mut self, refusal: Refusal, now: Moment) {
        if matches!(self.phase, Phase::Closed | Phase::Suspended) {
            return;
        }
        self.malformed += 1;
        if self.malformed >= MALFORMED_MAX {
            return self.refuse(refusal, now);
        }
        let place = self.place(Text::default());
        self.control.push_back(Box::new(error_frame(place, FlagSet::CTRL, &refusal)));
        self.bound(now);
    }

    /// Nobody makes this end keep what it has no use for: events nobody fetches, answers nobody reads.
    fn bound(&mut self, now: Moment) {
        if self.events.len() > EVENTS_MAX || self.control.len() > CONTROL_MAX {
            self.control.clear();
            self.refuse(Refusal::new(Code::Proto, "more than can be answered"), now);
        }
    }

    fn on_session_frame(&mut self, frame: Frame, now: Moment) {
        let has = |flag| frame.flags.has(flag);
        if has(FlagSet::RST) {
            let Said::Error(refusal) = content::said(&frame.payload.content) else {
                return self.close(Ended::RefusedByPeer(Refusal::new(Code::SeqRetry, "")));
            };
            return self.close(Ended::RefusedByPeer(refusal));
        }
        if has(FlagSet::SYN) {
            return self.on_syn(&frame, now);
        }
        if has(FlagSet::FIN) {
            return self.close(Ended::ByPeer);
        }
        if has(FlagSet::ACK) && !self.is_plain {
            (self.is_acknowledging, self.is_token_known) = (true, true);
            return;
        }
        if has(FlagSet::HB) && !self.is_plain {
            return;
        }
        match frame.payload.kind.as_str() {
            kind::WINDOW_UPDATE => {
                if matches!(self.side, Side::Dialer) {
                    self.window = frame.window;
                }
                self.events.push_back(Event::Window(frame.window));
            }
            kind::STATUS => match AgentStatus::parse(&frame.payload.content) {
                Ok(status) => self.events.push_back(Event::Status(Box::new(status))),
                Err(_) => self.complain(Refusal::new(Code::Proto, "a status that cannot be read"), now),
            },
            _ => self.events.push_back(Event::Control(Box::new(frame))),
        }
    }

    fn on_stream_frame(&mut self, frame: Frame, now: Moment) {
        let known = self.streams.find(frame.stream_id.as_str());
        let Some(key) = known.or_else(|| self.on_unknown(&frame, now)) else { return };
        let has = |flag| frame.flags.has(flag);
        let Some(stream) = self.streams.get_mut(key).filter(|stream| !stream.is_reset()) else { return };
        if has(FlagSet::RST) {
            let Said::Error(refusal) = content::said(&frame.payload.content) else {
                return self.on_reset(key, Refusal::new(Code::SeqRetry, "something never came"), now);
            };
            return self.on_reset(key, refusal, now);
        }
        if has(FlagSet::ACK) {
            return self.on_ack(key, frame.msg_seq, now);
        }
        if has(FlagSet::CTRL) {
            return self.on_stream_control(key, frame, now);
        }
        let is_opening = has(FlagSet::SYN) && frame.payload.kind.as_str() == kind::SYN;
        if has(FlagSet::HB) || is_opening {
            if self.is_plain && !is_opening {
                self.events.push_back(Event::Control(Box::new(frame)));
            }
            return;
        }
        let before = stream.inn.held();
        let long_bytes = self.settings.limits.message_bytes;
        let bytes_max = 2 * self.settings.limits.session_bytes + long_bytes;
        let rules = Rules {
            limits: &self.settings.limits,
            left: Held {
                bytes: bytes_max.saturating_sub(self.in_held.bytes),
                pieces: (2 * MESSAGES_SESSION_MAX).saturating_sub(self.in_held.pieces),
            },
            may_be_long: self.in_long.is_none_or(|long| long == key),
        };
        let mut deliveries = Deliveries { first: None, rest: Vec::new() };
        let mut deliver = |delivery| deliveries.push(delivery);
        let taken = if self.is_plain {
            stream.inn.on_plain_frame(frame, rules, &mut deliver)
        } else {
            stream.inn.on_frame(frame, rules, now, &mut deliver)
        };
        let after = stream.inn.held();
        self.in_held.remove(before);
        self.in_held.add(after.bytes, after.pieces);
        if after.bytes > 2 * self.settings.limits.replay_bytes {
            self.in_long = Some(key);
        }
        self.hand_over(key, deliveries, now);
        match taken {
            Err(refusal) => self.fail(key, refusal, now),
            Ok(()) => self.settle(key, now),
        }
    }

    fn hand_over(&mut self, stream: StreamKey, deliveries: Deliveries, now: Moment) {
        for delivery in deliveries.first.into_iter().chain(deliveries.rest) {
            let Delivery { msg_seq, message, is_expired } = delivery;
            if !is_expired {
                self.events.push_back(Event::Message { stream, msg_seq, message });
                continue;
            }
            self.warn(stream, msg_seq, Refusal::new(Code::Timeout, "ttl expired"), now);
            self.on_consumed(stream, msg_seq, now);
        }
    }

    /// The first frame of a stream that is not here: a new one, or one that is gone.
    fn on_unknown(&mut self, frame: &Frame, now: Moment) -> Option<StreamKey> {
        let id = frame.stream_id.as_str();
        let has = |flag| frame.flags.has(flag);
        if has(FlagSet::RST) || has(FlagSet::ACK) || (has(FlagSet::CTRL) && !self.is_plain) {
            return None;
        }
        if has(FlagSet::HB) || has(FlagSet::CTRL) {
            if self.is_plain {
                self.events.push_back(Event::Control(Box::new(frame.clone())));
            }
            return None;
        }
        match self.departed.find(id) {
            Some(How::InOrder(msg_seq)) => {
                let place = self.place(frame.stream_id.clone());
                self.control.push_back(Box::new(ack_frame(super::Place { msg_seq, ..place })));
                return None;
            }
            Some(How::Reset) => {
                return self.turn_away(frame, Refusal::new(Code::Proto, "the stream is over"), now);
            }
            None => {}
        }
        if let Some(refusal) = self.why_not(id) {
            return self.turn_away(frame, refusal, now);
        }
        let stream = self.streams.insert(Stream::new(own(&frame.stream_id), false));
        self.events.push_back(Event::StreamOpened { stream });
        Some(stream)
    }

    fn why_not(&self, id: &str) -> Option<Refusal> {
        let is_theirs = is_of_acceptor(id) == matches!(self.side, Side::Dialer);
        if id.len() > STREAM_ID_BYTES_MAX {
            return Some(Refusal::new(Code::Proto, "the stream's id is too long"));
        }
        if !is_theirs {
            return Some(Refusal::new(Code::Proto, "no such stream"));
        }
        if self.is_finishing {
            return Some(Refusal::new(Code::Draining, "the session is about to end"));
        }
        let is_full = self.streams.count(false) >= self.settings.limits.streams;
        is_full.then(|| Refusal::new(Code::Window, "too many streams"))
    }

    /// A stream that is not taken leaves nothing behind.
    fn turn_away(&mut self, frame: &Frame, refusal: Refusal, now: Moment) -> Option<StreamKey> {
        let place = self.place(frame.stream_id.clone());
        self.control.push_back(Box::new(error_frame(place, FlagSet::RST, &refusal)));
        if refusal.code == Code::Window {
            self.say_window(now);
        }
        None
    }

    fn on_reset(&mut self, stream: StreamKey, refusal: Refusal, now: Moment) {
        self.events.push_back(Event::Reset { stream, refusal, by_peer: true });
        self.release(stream, How::Reset, now);
    }

    fn on_ack(&mut self, key: StreamKey, msg_seq: u64, now: Moment) {
        if self.is_plain {
            return;
        }
        self.is_acknowledging = true;
        let Some(stream) = self.streams.get_mut(key) else { return };
        match stream.out.on_ack(msg_seq) {
            Ok(freed) => {
                self.free_out(key, freed);
                self.tell_room(Some(key));
                self.settle(key, now);
            }
            Err(refusal) => self.fail(key, refusal, now),
        }
    }

    fn on_stream_control(&mut self, key: StreamKey, frame: Frame, now: Moment) {
        if frame.payload.kind.as_str() != kind::ERROR {
            return self.events.push_back(Event::Control(Box::new(frame)));
        }
        match content::said(&frame.payload.content) {
            Said::Again(missing) => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.out.on_missing(missing);
                }
                self.settle(key, now);
            }
            Said::Error(refusal) => {
                self.events.push_back(Event::Warned { stream: key, msg_seq: frame.msg_seq, refusal });
            }
        }
    }

    /// A stream that broke a rule.
    pub(super) fn fail(&mut self, stream: StreamKey, refusal: Refusal, now: Moment) {
        self.events.push_back(Event::Reset { stream, refusal: refusal.clone(), by_peer: false });
        self.reset(stream, refusal, now);
    }
}

/// Almost always one.
struct Deliveries {
    first: Option<Delivery>,
    rest: Vec<Delivery>,
}

impl Deliveries {
    fn push(&mut self, delivery: Delivery) {
        if self.first.is_none() {
            self.first = Some(delivery);
        } else {
            self.rest.push(delivery);
        }
    }
}

/// In a row: whoever sends that many is not about to say anything else.
pub(super) const MALFORMED_MAX: u8 = 8;

/// Events nobody has fetched: twice the messages a session may hold, for those that come with streams.
pub(super) const EVENTS_MAX: usize = 4 * MESSAGES_SESSION_MAX;

/// Frames about the session, or about streams that are none, that nobody has sent yet.
pub(super) const CONTROL_MAX: usize = 1024;
