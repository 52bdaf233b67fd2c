//! What passes by itself: time, and connections that end.

use std::time::Duration;

use crate::frame::{Code, FlagSet, RawJson, Text};
use crate::units::Moment;

use super::super::content;
use super::super::event::{Ended, Event, Phase, Refusal};
use super::super::kind;
use super::super::stream::{Stream, frame};
use super::{Session, Side};

impl Session {
    pub fn on_time(&mut self, now: Moment) {
        match self.phase {
            Phase::Closed => return,
            Phase::Suspended => {
                if self.times.began + self.settings.resume <= now {
                    self.close(Ended::Lost);
                }
                return;
            }
            Phase::Opening | Phase::Resuming if self.opening_due().is_some_and(|due| due <= now) => {
                return self.refuse(Refusal::new(Code::Timeout, "the opening took too long"), now);
            }
            _ => {}
        }
        if self.times.received + self.idle() <= now {
            let content = content::render(&serde_json::json!({ "reason": "idle" }));
            self.control.push_back(Box::new(frame(
                self.place(Text::default()),
                FlagSet::FIN,
                kind::FIN,
                content,
            )));
            return self.close(Ended::Idle);
        }
        let is_beat_due = self.has_beats() && self.times.sent + self.heartbeat <= now;
        if is_beat_due && self.control.is_empty() {
            self.say("", FlagSet::HB, kind::HEARTBEAT, RawJson::NULL);
        }
        if self.rest_due().is_some_and(|due| due <= now) {
            self.compact(now);
        }
        if self.times.streams.is_some_and(|due| due <= now) {
            self.on_time_of_streams(now);
        }
    }

    /// When [`Session::on_time`] is wanted next. Something to send may be due too: poll after it.
    pub fn due(&self) -> Option<Moment> {
        match self.phase {
            Phase::Closed => return None,
            Phase::Suspended => return Some(self.times.began + self.settings.resume),
            _ => {}
        }
        let beat = self.has_beats() && self.control.is_empty();
        let beat = beat.then(|| self.times.sent + self.heartbeat);
        let idle = Some(self.times.received + self.idle());
        let advert = if self.has_adverts() { self.advert.due() } else { None };
        let all = [beat, idle, advert, self.times.streams, self.opening_due(), self.rest_due()];
        all.into_iter().flatten().min()
    }

    /// When it has been quiet for long enough to give memory back.
    fn rest_due(&self) -> Option<Moment> {
        self.is_roomy.then(|| self.times.sent.max(self.times.received) + REST)
    }

    fn idle(&self) -> Duration {
        if self.is_plain { self.settings.idle_plain } else { self.settings.idle }
    }

    /// Where it is the other end that has to say something.
    fn opening_due(&self) -> Option<Moment> {
        let is_waiting = match self.phase {
            Phase::Opening => matches!(self.side, Side::Dialer | Side::Awaiting),
            Phase::Resuming => true,
            _ => false,
        };
        let began = if self.phase == Phase::Resuming { self.times.received } else { self.times.began };
        is_waiting.then(|| began + self.settings.opening)
    }

    fn has_beats(&self) -> bool {
        !self.is_plain && matches!(self.phase, Phase::Open | Phase::Finishing)
    }

    pub(super) fn has_adverts(&self) -> bool {
        self.has_beats()
    }

    fn on_time_of_streams(&mut self, now: Moment) {
        self.times.streams = None;
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            if stream.is_reset() {
                continue;
            }
            match stream.inn.on_time(now) {
                Ok(missing) => {
                    if !missing.is_empty() {
                        stream.ask(missing);
                    }
                    self.settle(key, now);
                }
                Err(refusal) => self.fail(key, refusal, now),
            }
        }
    }

    /// Gives back memory nothing is in: most sessions have nothing to say most of the time.
    fn compact(&mut self, now: Moment) {
        self.is_roomy = false;
        self.events.shrink_to_fit();
        self.control.shrink_to_fit();
        self.told.shrink_to_fit();
        self.waiting.shrink_to_fit();
        self.departed.compact(now);
        self.streams.compact();
    }

    /// Memory beside content and ids: this value, its queues, its streams and theirs.
    #[cfg(test)]
    pub(in super::super) fn idle_bytes(&self) -> usize {
        let queues = self.events.capacity() * size_of::<Event>()
            + (self.control.capacity() + self.told.capacity()) * size_of::<Box<crate::frame::Frame>>();
        size_of::<Session>() + queues + self.departed.bytes() + self.streams.bytes()
    }

    /// The connection is gone: [`Event::Suspended`] where a token is out, else [`Event::Closed`].
    pub fn on_disconnect(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Closed | Phase::Suspended) {
            return;
        }
        let is_kept = match self.side {
            Side::Dialer => self.token.is_some() && self.phase != Phase::Opening,
            // Whoever never acknowledged does not know how to come back.
            _ => self.token.is_some() && self.is_acknowledging,
        };
        self.control.clear();
        self.told.clear();
        if !is_kept {
            return self.close(Ended::Lost);
        }
        if self.phase != Phase::Resuming {
            self.times.began = now;
            self.events.push_back(Event::Suspended);
        }
        self.phase = Phase::Suspended;
        self.times.streams = None;
        self.streams.clear_ready();
        self.streams.iter_mut().for_each(Stream::on_disconnect);
        self.finish_if_over(now);
    }
}

/// Longer than between the pieces of an answer, so that memory is not given back and taken again for each.
const REST: Duration = Duration::from_millis(250);
