//! What the application does with a session.

use crate::frame::{Code, FlagSet, Frame, Text, Window};
use crate::units::Moment;

use super::super::cut::Cut;
use super::super::event::{Ended, Phase, Refusal, SendFault, StreamKey};
use super::super::kind;
use super::super::message::Message;
use super::super::replay::OutState;
use super::super::settings::MESSAGES_MAX;
use super::super::status::AgentStatus;
use super::super::stream::{Stream, Waits, error_frame};
use super::{ACCEPTOR, MESSAGES_SESSION_MAX, STREAM_ID_BYTES_MAX, Session, Side, is_of_acceptor, own};

impl Session {
    /// RST of the whole session, in any phase.
    pub fn refuse(&mut self, refusal: Refusal, _now: Moment) {
        if self.phase != Phase::Closed {
            let place = self.place(Text::default());
            self.control.push_back(Box::new(error_frame(place, FlagSet::RST, &refusal)));
            self.close(Ended::Refused(refusal));
        }
    }

    /// Opens a stream; `None`: the session finds an id. Nothing is sent until the first message.
    pub fn open(&mut self, id: Option<Text>, _now: Moment) -> Result<StreamKey, SendFault> {
        if self.phase == Phase::Closed || self.is_finishing {
            return Err(SendFault::Finished);
        }
        let id = id.map_or_else(|| self.new_id(), |id| own(&id));
        let is_right = is_of_acceptor(id.as_str()) != matches!(self.side, Side::Dialer);
        let is_good = is_right && !id.is_empty() && id.len() <= STREAM_ID_BYTES_MAX;
        let is_free = self.streams.find(id.as_str()).is_none() && self.departed.find(id.as_str()).is_none();
        if !is_good || !is_free || self.streams.count(true) >= self.limits.streams {
            return Err(SendFault::TooMany);
        }
        Ok(self.streams.insert(Stream::new(id, true)))
    }

    fn new_id(&mut self) -> Text {
        let prefix = if matches!(self.side, Side::Dialer) { "s" } else { ACCEPTOR };
        loop {
            self.ids += 1;
            let id = format!("{prefix}{}", self.ids);
            if self.streams.find(&id).is_none() {
                return id.into();
            }
        }
    }

    /// Takes a message for its stream, and says its number.
    pub fn send(&mut self, stream: StreamKey, message: Message, _now: Moment) -> Result<u64, SendFault> {
        if self.phase == Phase::Closed {
            return Err(SendFault::Finished);
        }
        let found = self.streams.get(stream).filter(|found| !found.is_reset()).ok_or(SendFault::Unknown)?;
        if found.out.state() != OutState::Open {
            return Err(SendFault::Finished);
        }
        let bytes = message.content.as_bytes().len();
        if bytes > self.cut().message_bytes_max(&self.limits) {
            return Err(SendFault::TooLong);
        }
        let is_long = bytes > self.limits.replay_bytes;
        let is_alone = found.out.held().pieces == 0 && self.out_long.is_none() && self.has_piece(found);
        if !(if is_long { is_alone } else { bytes <= self.room(stream) && self.has_room(found) }) {
            let own = found.out.held();
            let in_stream = self.limits.replay_bytes.saturating_sub(own.bytes);
            let is_own = own.pieces > 0 && (is_long || bytes > in_stream || own.pieces >= MESSAGES_MAX);
            self.wait_for_room(stream, if is_own { Waits::OfItself } else { Waits::OfOthers });
            return Err(SendFault::Blocked);
        }
        if is_long {
            self.out_long = Some(stream);
            self.out_held.add(0, 1);
        } else {
            self.out_held.add(bytes, 1);
        }
        let found = self.streams.get_mut(stream).expect("it was found above");
        let msg_seq = found.out.push(message);
        self.streams.wake(stream);
        Ok(msg_seq)
    }

    pub(super) fn cut(&self) -> Cut {
        Cut::of(&self.limits, self.is_plain)
    }

    /// Bytes of content a message may have now; 0: [`Session::send`] says `Blocked`. A longer one is taken
    /// where nothing of its stream waits to be consumed, one at a time in a session.
    pub fn room(&self, stream: StreamKey) -> usize {
        let Some(found) = self.streams.get(stream) else { return 0 };
        if !self.has_room(found) || found.out.state() != OutState::Open || self.phase == Phase::Closed {
            return 0;
        }
        let in_stream = self.limits.replay_bytes.saturating_sub(found.out.held().bytes);
        let in_session = self.limits.session_bytes.saturating_sub(self.out_held.bytes);
        in_stream.min(in_session)
    }

    fn has_room(&self, stream: &Stream) -> bool {
        let is_below = stream.out.held().bytes < self.limits.replay_bytes;
        is_below && self.out_held.bytes < self.limits.session_bytes && self.has_piece(stream)
    }

    fn has_piece(&self, stream: &Stream) -> bool {
        stream.out.held().pieces < MESSAGES_MAX && self.out_held.pieces < MESSAGES_SESSION_MAX
    }

    /// All messages of the stream up to this one are done with.
    pub fn on_consumed(&mut self, stream: StreamKey, msg_seq: u64, now: Moment) {
        let limits = self.settings.limits;
        let Some(found) = self.streams.get_mut(stream) else { return };
        let freed = found.inn.on_consumed(msg_seq, &limits, now);
        let is_short = found.inn.held().bytes <= limits.replay_bytes;
        if self.in_long == Some(stream) && is_short {
            self.in_long = None;
        }
        self.in_held.remove(freed);
        self.settle(stream, now);
    }

    /// Ends the stream at once, with an error.
    pub fn reset(&mut self, stream: StreamKey, refusal: Refusal, now: Moment) {
        let is_window = matches!(refusal.code, Code::Window);
        let Some(found) = self.streams.get_mut(stream).filter(|found| !found.is_reset()) else { return };
        let (out, inn) = found.reset(refusal);
        self.free_out(stream, out);
        self.in_held.remove(inn);
        if self.in_long == Some(stream) {
            self.in_long = None;
        }
        if is_window {
            self.say_window(now);
        }
        self.streams.wake(stream);
        self.tell_room(Some(stream));
    }

    /// Says what was wrong with one message; the stream goes on.
    pub fn warn(&mut self, stream: StreamKey, msg_seq: u64, refusal: Refusal, now: Moment) {
        let is_window = matches!(refusal.code, Code::Window);
        let Some(found) = self.streams.get_mut(stream).filter(|found| !found.is_reset()) else { return };
        found.warn(msg_seq, refusal);
        self.streams.wake(stream);
        if is_window {
            self.say_window(now);
        }
    }

    /// FIN of the session as soon as its streams have ended; no new ones are taken.
    pub fn finish(&mut self, now: Moment) {
        if self.phase == Phase::Closed {
            return;
        }
        self.is_finishing = true;
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
        }
        self.finish_if_over(now);
    }

    /// The window granted to the other end has become this. It is told when that is worth a frame.
    pub fn set_window(&mut self, window: Window, now: Moment) {
        self.advert.set(window, now);
    }

    pub fn tell_status(&mut self, status: &AgentStatus, _now: Moment) {
        self.say("", FlagSet::CTRL, kind::STATUS, status.content());
    }

    /// Any other frame, as it is, before all streams. The caller bounds how many wait.
    pub fn tell(&mut self, frame: Frame) {
        if self.phase != Phase::Closed {
            self.told.push_back(Box::new(frame));
        }
    }
}
