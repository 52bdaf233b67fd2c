//! What was handed to the application and when the other end hears that it is done with: often enough that it
//! is never held up for nothing, seldom enough that acknowledgements are a small part of what is sent.
//!
//! ```text
//!              consumed                 half the credit, 64 messages, the last one, or ACK_AFTER
//!  AllTold ──────────────> Waiting(at) ──────────────────────────────────────────────────────────> Due
//!     ^                                                                                             │
//!     └────────────────────────────────────────── polled ───────────────────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::Moment;

use super::held::Held;

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Handed over: number and bytes.
    unconsumed: VecDeque<(u64, u32)>,
    consumed: u64,
    /// Since the last acknowledgement.
    bytes: usize,
    messages: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    AllTold,
    Waiting(Moment),
    Due,
}

impl Acks {
    pub fn on_delivered(&mut self, msg_seq: u64, bytes: usize) {
        self.unconsumed.push_back((msg_seq, u32::try_from(bytes).unwrap_or(u32::MAX)));
    }

    /// What is free now. Numbers that were never handed over change nothing.
    pub fn on_consumed(&mut self, msg_seq: u64, credit: usize, is_last: bool, now: Moment) -> Held {
        let Some(at) = self.unconsumed.iter().position(|(own, _)| *own == msg_seq) else {
            return Held::default();
        };
        let mut freed = Held::default();
        for (_, bytes) in self.unconsumed.drain(..=at) {
            freed.add(bytes as usize, 1);
        }
        self.consumed = msg_seq;
        self.bytes += freed.bytes;
        self.messages += freed.pieces;
        if is_last || self.bytes >= credit / 2 || self.messages >= MESSAGES {
            self.state = State::Due;
        } else if self.state == State::AllTold {
            self.state = State::Waiting(now + ACK_AFTER);
        }
        freed
    }

    /// The other end seems not to know: a message came again, or the connection is a new one.
    pub fn repeat(&mut self) {
        if self.consumed > 0 {
            self.state = State::Due;
        }
    }

    pub fn on_time(&mut self, now: Moment) {
        if matches!(self.state, State::Waiting(at) if at <= now) {
            self.state = State::Due;
        }
    }

    pub fn due(&self) -> Option<Moment> {
        if let State::Waiting(at) = self.state { Some(at) } else { None }
    }

    pub fn is_due(&self) -> bool {
        self.state == State::Due
    }

    /// Nothing is left to consume or to tell.
    pub fn is_settled(&self) -> bool {
        self.unconsumed.is_empty() && self.state == State::AllTold
    }

    pub fn waiting(&self) -> usize {
        self.unconsumed.len()
    }

    /// Up to where all was consumed, where that is due.
    pub fn poll(&mut self) -> Option<u64> {
        if self.state != State::Due {
            return None;
        }
        (self.state, self.bytes, self.messages) = (State::AllTold, 0, 0);
        Some(self.consumed)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.unconsumed.capacity() * size_of::<(u64, u32)>()
    }

    /// Gives back memory nothing is in.
    pub fn compact(&mut self) {
        self.unconsumed.shrink_to_fit();
    }
}

/// A round trip within a continent; an answer of one message is acknowledged by then, a stream of tokens some
/// ten at a time.
pub(super) const ACK_AFTER: Duration = Duration::from_millis(100);

/// Tokens come one a message: a second of a fast model.
const MESSAGES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(messages: u64, bytes: usize) -> Acks {
        let mut acks = Acks::default();
        (1..=messages).for_each(|msg_seq| acks.on_delivered(msg_seq, bytes));
        acks
    }

    #[test]
    fn one_consumed_message_is_told_after_a_tenth_of_a_second() {
        let mut acks = acks(2, 10);
        assert_eq!(acks.on_consumed(1, 1000, false, Moment(5)), Held { bytes: 10, pieces: 1 });
        let due = Moment(5) + ACK_AFTER;
        assert_eq!((acks.due(), acks.poll()), (Some(due), None));
        acks.on_consumed(2, 1000, false, Moment(50_000_000));
        assert_eq!(acks.due(), Some(due));
        acks.on_time(Moment(due.0 - 1));
        assert_eq!(acks.poll(), None);
        acks.on_time(due);
        assert_eq!((acks.poll(), acks.poll(), acks.is_settled()), (Some(2), None, true));
    }

    #[test]
    fn half_the_credit_or_64_messages_or_the_last_are_told_at_once() {
        for (messages, bytes, is_last, is_due) in [
            (1, 499, false, false),
            (1, 500, false, true),
            (63, 1, false, false),
            (64, 1, false, true),
            (1, 1, true, true),
        ] {
            let mut acks = acks(messages, bytes);
            acks.on_consumed(messages, 1000, is_last, Moment(0));
            assert_eq!(acks.is_due(), is_due, "{messages} of {bytes}");
        }
    }

    #[test]
    fn what_was_never_handed_over_or_is_consumed_already_changes_nothing() {
        let mut acks = acks(2, 10);
        assert_eq!(acks.on_consumed(3, 1000, true, Moment(0)), Held::default());
        acks.on_consumed(2, 1000, true, Moment(0));
        assert_eq!(acks.on_consumed(1, 1000, true, Moment(0)), Held::default());
        assert_eq!(acks.poll(), Some(2));
    }

    #[test]
    fn nothing_is_repeated_before_something_was_consumed() {
        let mut acks = acks(1, 10);
        acks.repeat();
        assert!(!acks.is_due());
        acks.on_consumed(1, 1000, false, Moment(0));
        acks.poll();
        acks.on_time(Moment(u64::MAX));
        acks.poll();
        acks.repeat();
        assert_eq!(acks.poll(), Some(1));
    }
}
