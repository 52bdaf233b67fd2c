//! Frames that go, and events: what is fetched, in which order.

use crate::frame::{FlagSet, Frame, RawJson};
use crate::units::Moment;

use super::super::departed::How;
use super::super::event::{Event, Phase, StreamKey};
use super::super::kind;
use super::{Session, Side};

impl Session {
    /// The next frame, for transports that are one stream of bytes: control first, then one of each stream in
    /// turn.
    pub fn poll_frame(&mut self, now: Moment) -> Option<Frame> {
        if let Some(frame) = self.poll_control(now) {
            return Some(frame);
        }
        while let Some(key) = self.poll_ready() {
            if let Some(frame) = self.poll_one(key, now) {
                let is_plain = self.is_plain;
                let has_more =
                    self.streams.get(key).is_some_and(|stream| stream.has_something_to_say(is_plain));
                self.streams.put_back(key, has_more);
                return Some(frame);
            }
            self.streams.put_back(key, false);
        }
        None
    }

    /// QUIC: the next frame of the control stream. Frames about streams that are none go there too.
    pub fn poll_control(&mut self, now: Moment) -> Option<Frame> {
        if self.control.is_empty() && self.has_adverts() && self.advert.due().is_some_and(|due| due <= now) {
            self.say_window(now);
        }
        let frame = self.control.pop_front().or_else(|| self.told.pop_front())?;
        self.times.sent = now;
        Some(*frame)
    }

    /// QUIC: a stream that has something to send. Told once until it was polled empty.
    pub fn poll_ready(&mut self) -> Option<StreamKey> {
        if !self.may_send_streams() {
            return None;
        }
        self.streams.pop_ready()
    }

    /// QUIC: the next frame of this stream.
    pub fn poll_stream(&mut self, stream: StreamKey, now: Moment) -> Option<Frame> {
        if !self.may_send_streams() {
            return None;
        }
        let frame = self.poll_one(stream, now);
        if frame.is_none() {
            self.streams.put_back(stream, false);
        }
        frame
    }

    fn poll_one(&mut self, key: StreamKey, now: Moment) -> Option<Frame> {
        let place = self.place(self.streams.get(key)?.id.clone());
        let cut = self.cut();
        self.is_roomy = true;
        let stream = self.streams.get_mut(key)?;
        let (frame, freed) = stream.poll(place, cut, self.is_plain)?;
        let (is_reset, is_over) = (stream.is_reset(), stream.is_over(self.is_plain));
        self.times.sent = now;
        self.free_out(key, freed);
        if is_reset {
            self.release(key, How::Reset, now);
        } else if is_over {
            self.settle(key, now);
        } else if freed.pieces > 0 {
            self.tell_room(Some(key));
        }
        Some(frame)
    }

    /// A dialer's first requests go with its SYN; when a session is taken up again, what the other end has is
    /// known first.
    fn may_send_streams(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Finishing => true,
            Phase::Opening => matches!(self.side, Side::Dialer),
            Phase::Suspended | Phase::Resuming | Phase::Closed => false,
        }
    }

    /// The window of the other end, as it is now.
    pub(super) fn say_window(&mut self, now: Moment) {
        if !self.has_adverts() {
            return;
        }
        let window = self.advert.tell(now);
        if !matches!(self.side, Side::Dialer) {
            self.window = window;
        }
        self.say("", FlagSet::CTRL, kind::WINDOW_UPDATE, RawJson::NULL);
        if let Some(frame) = self.control.back_mut() {
            frame.window = window;
        }
    }

    /// What happened, in order. After [`Event::Opening`] nothing comes until it is answered.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.is_gated {
            return None;
        }
        let event = self.events.pop_front()?;
        self.is_roomy = true;
        self.is_gated = matches!(event, Event::Opening { .. }) && self.phase == Phase::Opening;
        Some(event)
    }

    /// Whether [`Session::poll_event`] has one: frames that were polled, and a connection that ended, bring
    /// some as frames that came do.
    pub fn has_events(&self) -> bool {
        !self.is_gated && !self.events.is_empty()
    }
}
