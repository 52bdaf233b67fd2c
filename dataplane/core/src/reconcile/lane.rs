//! One lane of a fan-out: what it said, in order, and how it ended. It decides nothing.
//!
//! ```text
//!        Start         first piece        end, and no piece is missing
//!  Due ────────▶ Waiting ────────▶ Streaming ─────────────────────────▶ Ended
//!   │              │  └── end with nothing said, failure ──▶ Failed ◀──┤ failure
//!   └──────────────┴───────────────▶ Stopped(why) ◀───────────────────┘ lost, late, budget, too long
//! ```
//! Pieces are numbered from 1. One that comes twice is dropped; one that is missing is waited for for 5 s,
//! or until what came behind it is more than is held, and then taken for empty.

use std::collections::BTreeMap;
use std::time::Duration;

use proto_core::frame::Code;
use proto_core::model::Qos;
use proto_core::units::{Moment, Picodollars};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    Due,
    /// Nothing came yet.
    Waiting,
    Streaming,
    Ended,
    Failed(Code),
    Stopped(Why),
}

/// Why a lane was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The answer is decided.
    Lost,
    /// The deadline came.
    Late,
    /// The budget of all lanes is spent.
    Budget,
    /// Its answer is longer than is kept.
    TooLong,
}

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost: Picodollars,
}

impl Spend {
    pub fn tokens(self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

impl std::ops::Add for Spend {
    type Output = Spend;
    fn add(self, other: Spend) -> Spend {
        Spend {
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost: self.cost + other.cost,
        }
    }
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    Taken,
    /// It was here before, or comes behind the end.
    Again,
    /// With it the answer is longer than is kept.
    TooLong,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub state: State,
    pub spend: Spend,
    pub qos: Qos,
    pub text: String,
    pub started: Option<Moment>,
    pub first: Option<Moment>,
    pub ended: Option<Moment>,
    /// Pieces taken for empty.
    pub gaps: u64,
    /// Its answer broke off where going on elsewhere would have made sense: what there is may be used.
    pub is_usable: bool,
    pub is_cancel_due: bool,
    pub is_end_due: bool,
    /// The shell was told to read no further.
    pub is_paused: bool,
    /// The piece that comes next.
    next: u64,
    held: BTreeMap<u64, Box<str>>,
    held_bytes: usize,
    hole_since: Option<Moment>,
    /// It has ended, but for what is missing.
    is_ending: bool,
    /// Of `text`, what was handed out; `None`: nothing is, or no more.
    out: Option<usize>,
    out_chars: usize,
    out_seq: u64,
}

impl Lane {
    pub fn new(qos: Qos, is_streamed: bool) -> Lane {
        Lane {
            state: State::Due,
            spend: Spend::default(),
            qos,
            text: String::new(),
            started: None,
            first: None,
            ended: None,
            gaps: 0,
            is_usable: false,
            is_cancel_due: false,
            is_end_due: false,
            is_paused: false,
            next: 1,
            held: BTreeMap::new(),
            held_bytes: 0,
            hole_since: None,
            is_ending: false,
            out: is_streamed.then_some(0),
            out_chars: 0,
            out_seq: 0,
        }
    }

    /// It may still say something.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Due | State::Waiting | State::Streaming)
    }

    /// It runs at an adapter.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Waiting | State::Streaming)
    }

    pub fn start(&mut self, now: Moment) {
        self.state = State::Waiting;
        self.started = Some(now);
    }

    pub fn next_seq(&self) -> u64 {
        self.next
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.held_bytes
    }

    /// A piece of a running lane.
    pub fn on_piece(&mut self, seq: u64, text: &str, now: Moment) -> Took {
        if seq < self.next || self.held.contains_key(&seq) || (self.is_ending && self.held.is_empty()) {
            return Took::Again;
        }
        if self.bytes() + text.len() > ANSWER_BYTES_MAX {
            return Took::TooLong;
        }
        self.state = State::Streaming;
        self.first = self.first.or(Some(now));
        if seq > self.next {
            self.held.insert(seq, text.into());
            self.held_bytes += text.len();
            self.hole_since = self.hole_since.or(Some(now));
            while self.held.len() > HELD_PIECES_MAX || self.held_bytes > HELD_BYTES_MAX {
                self.give_up_hole(now);
            }
        } else {
            self.append(text);
            self.take_held(now);
        }
        Took::Taken
    }

    /// Its source says that this is all. True: it is whole, and nothing is missing.
    pub fn on_end(&mut self, now: Moment) -> bool {
        self.is_ending = true;
        self.finish(now)
    }

    /// When something is waited for no longer.
    pub fn due(&self) -> Option<Moment> {
        self.hole_since.filter(|_| self.is_running()).map(|since| since + HOLE_WAIT)
    }

    /// What is missing for too long is empty. True: the lane is whole now.
    pub fn on_time(&mut self, now: Moment) -> bool {
        if self.due().is_none_or(|due| now < due) {
            return false;
        }
        self.give_up_hole(now);
        self.finish(now)
    }

    /// It says no more. What is held behind a hole is dropped: nobody knows what it belongs to.
    pub fn close(&mut self, state: State, now: Moment) {
        self.state = state;
        self.ended = Some(now);
        self.is_end_due = true;
        self.is_paused = false;
        self.held = BTreeMap::new();
        self.held_bytes = 0;
        self.hole_since = None;
    }

    /// Stops it where it may still say something.
    pub fn stop(&mut self, why: Why, now: Moment) {
        if self.is_open() {
            // Where its source has ended there is nothing left to cancel, though a piece is missing.
            self.is_cancel_due = self.is_running() && !self.is_ending;
            self.is_usable = why != Why::Lost;
            self.close(State::Stopped(why), now);
        }
    }

    /// All that was said and not handed out yet, with its number among the pieces handed out.
    pub fn poll_piece(&mut self) -> Option<(u64, Box<str>)> {
        let from = self.out?;
        if from == self.text.len() {
            return None;
        }
        self.out = Some(self.text.len());
        self.out_chars = 0;
        self.out_seq += 1;
        Some((self.out_seq, self.text[from..].into()))
    }

    pub fn has_piece(&self) -> bool {
        self.out.is_some_and(|from| from < self.text.len())
    }

    pub fn hand_out_no_more(&mut self) {
        self.out = None;
        self.out_chars = 0;
    }

    /// More waits to be handed out than may.
    pub fn is_full(&self) -> bool {
        self.is_running() && self.out_chars > buffer_chars(self.qos)
    }

    pub fn may_resume(&self) -> bool {
        self.out_chars == 0
    }

    pub fn pieces(&self) -> u64 {
        self.out_seq
    }

    fn append(&mut self, text: &str) {
        self.text.push_str(text);
        self.next += 1;
        if self.out.is_some() {
            self.out_chars += text.chars().count();
        }
    }

    fn take_held(&mut self, now: Moment) {
        let before = self.next;
        while let Some(text) = self.held.remove(&self.next) {
            self.held_bytes -= text.len();
            self.append(&text);
        }
        let is_new_hole = self.next != before || self.hole_since.is_none();
        self.hole_since = match self.held.is_empty() {
            true => None,
            false if is_new_hole => Some(now),
            false => self.hole_since,
        };
    }

    fn give_up_hole(&mut self, now: Moment) {
        if let Some(seq) = self.held.keys().next().copied() {
            self.gaps = self.gaps.saturating_add(seq - self.next);
            self.next = seq;
            self.take_held(now);
        }
    }

    /// Closes it where it has ended and nothing is missing.
    pub fn finish(&mut self, now: Moment) -> bool {
        if !self.is_ending || !self.held.is_empty() || !self.is_running() {
            return false;
        }
        let is_empty = self.text.trim().is_empty();
        self.close(if is_empty { State::Failed(Code::Adapter) } else { State::Ended }, now);
        true
    }
}

/// Characters that may wait to be handed out before the lane is paused: 256 times 0.5 for gold, 1 for silver,
/// 2 for bronze. What is better is nearer to its client.
pub fn buffer_chars(qos: Qos) -> usize {
    match qos {
        Qos::Gold => BUFFER_CHARS / 2,
        Qos::Silver => BUFFER_CHARS,
        Qos::Bronze => BUFFER_CHARS * 2,
    }
}

/// What existing peers buffer for each persona.
pub const BUFFER_CHARS: usize = 256;

/// An answer that is compared with others: some 64,000 tokens. Sixteen of them are 4 MiB of one stream.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Behind a missing piece: a second of the fastest models in pieces of one token.
pub const HELD_PIECES_MAX: usize = 1024;
/// And what those are in bytes, for larger pieces.
pub const HELD_BYTES_MAX: usize = 16 << 10;

/// What existing peers wait for a missing piece.
pub const HOLE_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    fn lane() -> Lane {
        let mut lane = Lane::new(Qos::Silver, true);
        lane.start(at(0));
        lane
    }

    #[test]
    fn pieces_come_out_in_order_and_once() {
        let mut lane = lane();
        for (seq, text) in [(2, "b"), (1, "a"), (2, "B"), (1, "A"), (4, "d"), (3, "c")] {
            let is_new = text.as_bytes()[0].is_ascii_lowercase();
            assert_eq!(lane.on_piece(seq, text, at(1)) == Took::Taken, is_new, "{text}");
        }
        assert_eq!(lane.text, "abcd");
        assert_eq!(lane.poll_piece(), Some((1, "abcd".into())));
        assert_eq!(lane.poll_piece(), None);
        lane.on_piece(5, "e", at(2));
        assert_eq!(lane.poll_piece(), Some((2, "e".into())));
        assert_eq!(lane.due(), None);
    }

    #[test]
    fn a_missing_piece_is_waited_for_for_five_seconds_and_then_empty() {
        let mut lane = lane();
        lane.on_piece(3, "c", at(100));
        lane.on_piece(6, "f", at(200));
        assert_eq!(lane.due(), Some(at(5100)));
        assert!(!lane.on_time(at(5099)));
        assert_eq!(lane.text, "");
        assert!(!lane.on_time(at(5100)));
        assert_eq!((lane.text.as_str(), lane.gaps), ("c", 2));
        assert_eq!(lane.due(), Some(at(10_100)), "the next hole is waited for from then on");
        lane.on_piece(1, "late", at(5200));
        lane.on_time(at(10_100));
        assert_eq!((lane.text.as_str(), lane.gaps), ("cf", 4));
    }

    #[test]
    fn an_end_waits_for_what_is_missing() {
        let mut lane = lane();
        lane.on_piece(2, "b", at(0));
        assert!(!lane.on_end(at(1)));
        lane.on_piece(1, "a", at(2));
        assert!(lane.finish(at(2)));
        assert_eq!((lane.state, lane.text.as_str()), (State::Ended, "ab"));
        let mut patient = self::lane();
        patient.on_piece(2, "b", at(0));
        patient.on_end(at(1));
        assert!(patient.on_time(at(5000)));
        assert_eq!((patient.state, patient.text.as_str()), (State::Ended, "b"));
    }

    #[test]
    fn what_is_held_behind_a_hole_has_a_bound() {
        let mut lane = lane();
        for seq in 2..HELD_PIECES_MAX as u64 + 2 {
            lane.on_piece(seq, "x", at(0));
        }
        assert_eq!(lane.text, "");
        lane.on_piece(HELD_PIECES_MAX as u64 + 2, "x", at(0));
        assert_eq!((lane.text.len(), lane.gaps), (HELD_PIECES_MAX + 1, 1));
        let mut heavy = self::lane();
        heavy.on_piece(2, &"x".repeat(HELD_BYTES_MAX), at(0));
        assert_eq!(heavy.text, "");
        heavy.on_piece(3, "y", at(0));
        assert_eq!(heavy.text.len(), HELD_BYTES_MAX + 1);
    }

    #[test]
    fn an_answer_at_its_bound_is_kept_and_a_byte_more_is_too_long() {
        let mut lane = lane();
        assert_eq!(lane.on_piece(1, &"x".repeat(ANSWER_BYTES_MAX), at(0)), Took::Taken);
        assert_eq!(lane.on_piece(2, "y", at(0)), Took::TooLong);
    }

    #[test]
    fn the_better_the_service_the_less_waits() {
        for (qos, limit) in [(Qos::Gold, 128), (Qos::Silver, 256), (Qos::Bronze, 512)] {
            let mut lane = Lane::new(qos, true);
            lane.start(at(0));
            lane.on_piece(1, &"é".repeat(limit), at(0));
            assert!(!lane.is_full(), "{qos:?}");
            lane.on_piece(2, "é", at(0));
            assert!(lane.is_full(), "{qos:?}");
            lane.poll_piece();
            assert!(!lane.is_full() && lane.may_resume());
        }
    }

    #[test]
    fn nothing_said_is_no_answer() {
        let mut lane = lane();
        lane.on_piece(1, " \n", at(0));
        assert!(lane.on_end(at(1)));
        assert_eq!(lane.state, State::Failed(Code::Adapter));
    }
}
