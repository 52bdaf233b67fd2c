//! How a session begins, and how it is taken up again: SYN, SYN+ACK, and what both ends have received.

use std::sync::Arc;
use std::time::Duration;

use crate::frame::{Code, Encoding, FlagSet, Frame, Meta, Qos, Text, Window};
use crate::units::Moment;

use super::super::departed::How;
use super::super::event::{Event, Phase, Refusal, ResumeOpening, StreamKey};
use super::super::kind;
use super::super::replay::OutState;
use super::super::stream::{ack_frame, frame};
use super::super::syn::{Asked, Received, Resume, Terms};
use super::super::window::Advert;
use super::{Session, Side, own};

impl Session {
    pub(super) fn say_syn(&mut self, meta: Meta, resume: Option<Resume>) {
        let asked = Asked {
            encodings: vec![self.settings.encoding],
            heartbeat: self.heartbeat,
            wants_resume: self.settings.wants_resume,
            resume,
            limits: self.settings.limits,
        };
        let mut syn = frame(self.place(Text::default()), FlagSet::SYN, kind::SYN, asked.content());
        syn.meta = meta;
        self.control.push_back(Box::new(syn));
    }

    /// What the first frame of an acceptor makes of the session. False: it was the opening, and is done with.
    pub(super) fn on_first(&mut self, frame: &Frame, now: Moment) -> bool {
        let is_syn = frame.stream_id.is_empty() && frame.flags.has(FlagSet::SYN);
        let opening = |resume, is_plain| Event::Opening {
            wanted: frame.window,
            qos: frame.qos.clone(),
            meta: Box::new(frame.meta.clone()),
            resume,
            is_plain,
        };
        self.qos = match &frame.qos {
            Qos::Other(word) => Qos::Other(own(word)),
            plain => plain.clone(),
        };
        self.window = frame.window;
        if !is_syn {
            self.is_plain = true;
            self.side = Side::Acceptor;
            self.events.push_back(opening(None, true));
            return true;
        }
        let asked =
            if frame.flags.has(FlagSet::ACK) { None } else { Asked::parse(&frame.payload.content).ok() };
        let Some(mut asked) = asked else {
            self.refuse(Refusal::new(Code::Proto, "an opening that cannot be read"), now);
            return false;
        };
        let resume = asked.resume.take().map(Box::new);
        self.limits = asked.limits;
        self.side = Side::Asked(Box::new(asked));
        self.events.push_back(opening(resume, false));
        false
    }

    /// A SYN that is not an acceptor's first frame: the other end's answer, or a mistake.
    pub(super) fn on_syn(&mut self, frame: &Frame, now: Moment) {
        let is_waiting = matches!(self.phase, Phase::Opening | Phase::Resuming);
        let is_answer = frame.flags.has(FlagSet::ACK) && matches!(self.side, Side::Dialer);
        if !is_answer || !is_waiting {
            return self.refuse(Refusal::new(Code::Proto, "an opening in an open session"), now);
        }
        let Ok((terms, received)) = Terms::parse(&frame.payload.content, self.settings.encoding) else {
            return self.refuse(Refusal::new(Code::Proto, "an opening that cannot be read"), now);
        };
        let was_resuming = self.phase == Phase::Resuming;
        if terms.is_resumed != was_resuming {
            return self.refuse(Refusal::new(Code::Proto, "another session than was asked for"), now);
        }
        self.agree(terms.heartbeat, terms.idle, terms.resume);
        self.limits = terms.limits;
        self.window = frame.window;
        self.token = terms.resume_token.as_ref().map(own);
        self.enter_open();
        if self.token.is_some() {
            // Says that this end knows how to acknowledge, before there is anything to acknowledge.
            let place = self.place(Text::default());
            self.control.push_back(Box::new(ack_frame(place)));
        }
        self.events.push_back(Event::Granted { window: frame.window, terms: Box::new(terms) });
        if was_resuming {
            self.take_up(&received, now);
        }
        self.finish_if_over(now);
    }

    fn agree(&mut self, heartbeat: Duration, idle: Duration, resume: Duration) {
        self.heartbeat = heartbeat;
        let own = &self.settings;
        if (own.idle, own.resume) != (idle, resume) {
            let own = Arc::make_mut(&mut self.settings);
            (own.idle, own.resume) = (idle, resume);
        }
    }

    fn enter_open(&mut self) {
        self.phase = if self.is_finishing { Phase::Finishing } else { Phase::Open };
    }

    /// Acceptor, after [`Event::Opening`]. A peer that did not ask for a token, or a plain one, gets none:
    /// see [`Session::is_resumable`].
    pub fn grant(&mut self, granted: Window, resume_token: Option<Text>, now: Moment) {
        let is_waiting = matches!(self.side, Side::Asked(_)) || self.is_plain;
        if self.phase != Phase::Opening || !is_waiting || matches!(self.side, Side::Dialer) {
            return;
        }
        self.window = granted;
        self.advert = Advert::new(Some(granted));
        self.is_gated = false;
        let asked = std::mem::replace(&mut self.side, Side::Acceptor);
        if let Side::Asked(asked) = asked {
            let slowest = (self.settings.idle / 2).max(self.settings.heartbeat);
            let heartbeat = asked.heartbeat.clamp(self.settings.heartbeat, slowest);
            self.agree(heartbeat, self.settings.idle, self.settings.resume);
            self.token = resume_token.filter(|_| asked.wants_resume);
            self.say_grant(false);
        }
        self.enter_open();
        self.finish_if_over(now);
    }

    fn say_grant(&mut self, is_resumed: bool) {
        let received = if is_resumed { self.received() } else { Vec::new() };
        let terms = Terms {
            encoding: self.settings.encoding,
            heartbeat: self.heartbeat,
            idle: self.settings.idle,
            resume_token: self.token.clone(),
            resume: if self.token.is_some() { self.settings.resume } else { Duration::ZERO },
            is_resumed,
            limits: self.settings.limits,
        };
        let flags = FlagSet::SYN.union(FlagSet::ACK);
        let content = terms.content(&received);
        self.control.push_back(Box::new(frame(self.place(Text::default()), flags, kind::SYN, content)));
    }

    /// Dialer, suspended: a new connection is there. SYN with the token is the next frame polled. False where
    /// there is nothing to take up.
    pub fn redial(&mut self, now: Moment) -> bool {
        let Some(token) = self.token.clone() else { return false };
        if self.phase != Phase::Suspended || !matches!(self.side, Side::Dialer) {
            return false;
        }
        self.phase = Phase::Resuming;
        (self.times.received, self.times.sent) = (now, now);
        let received = self.received();
        let meta = self.meta.as_deref().cloned().unwrap_or_default();
        self.say_syn(meta, Some(Resume { token, received }));
        true
    }

    /// What a new connection speaks, before the session is taken up on it.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        if self.settings.encoding != encoding {
            Arc::make_mut(&mut self.settings).encoding = encoding;
        }
    }

    /// Acceptor, suspended: a SYN on a new connection claimed this session and was verified. False where it
    /// is not suspended.
    pub fn reattach(&mut self, opening: ResumeOpening, now: Moment) -> bool {
        if self.phase != Phase::Suspended || matches!(self.side, Side::Dialer) {
            return false;
        }
        self.token = Some(own(&opening.resume_token));
        self.is_token_known = false;
        self.window = self.advert.current();
        self.advert = Advert::new(Some(self.window));
        (self.times.received, self.times.sent) = (now, now);
        self.enter_open();
        self.say_grant(true);
        self.take_up(&opening.received, now);
        self.finish_if_over(now);
        true
    }

    fn received(&self) -> Vec<Received> {
        let of = |stream: &super::Stream| Received {
            stream_id: stream.id.clone(),
            msg_seq: stream.inn.received(),
        };
        self.streams.iter().filter(|stream| !stream.is_reset()).map(of).collect()
    }

    /// Every stream goes on from where the other end is. A list that names no stream of ours changes nothing.
    fn take_up(&mut self, received: &[Received], now: Moment) {
        self.events.push_back(Event::Resumed);
        let mut by_id: Vec<_> = received.iter().map(|one| (one.stream_id.as_str(), one.msg_seq)).collect();
        by_id.sort_unstable();
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            if stream.is_reset() {
                self.streams.wake(key);
                continue;
            }
            let place = by_id.binary_search_by(|(id, _)| (*id).cmp(stream.id.as_str()));
            let is_known = !stream.is_ours || stream.out.is_acknowledged() || stream.inn.is_spoken_to();
            let going_on = match place {
                Ok(at) => stream.out.on_resumed(by_id[at].1),
                Err(_) if is_known => {
                    self.take_leave(key, now);
                    continue;
                }
                Err(_) => stream.out.on_resumed(0),
            };
            stream.inn.acks.repeat();
            match going_on {
                Ok(()) => self.settle(key, now),
                Err(refusal) => self.fail(key, refusal, now),
            }
        }
    }

    /// The other end knew the stream and no longer has it: it ended there.
    fn take_leave(&mut self, key: StreamKey, now: Moment) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let is_said = stream.out.state() != OutState::Open;
        // It ends in order only after it has heard that its last message was consumed.
        let is_heard =
            stream.inn.state() != super::super::inbound::InState::Open && stream.inn.acks.waiting() == 0;
        if is_said && is_heard {
            let how = How::InOrder(stream.inn.received());
            return self.release(key, how, now);
        }
        let refusal = Refusal::new(Code::Proto, "the other end no longer has the stream");
        self.events.push_back(Event::Reset { stream: key, refusal, by_peer: true });
        self.release(key, How::Reset, now);
    }
}
