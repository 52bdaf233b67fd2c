//! What one end of a stream hears: messages put in order and put together, each handed over once.
//!
//! ```text
//!          the next, whole        its number is next        consumed
//!  wire ───────────────────────────────────────> handed over ───────> done
//!    └── later, or in parts ──> held ────────────^
//!            a hole: after GAP the other end is asked, TRIES_MAX times while nothing new comes
//! ```
//! States of this half:
//!
//! ```text
//!  Open ── the last message was handed over ──> Ended ── all consumed and told ──> Finished
//! ```

use std::collections::BTreeMap;

use crate::frame::{Code, Encoding, Frame};
use crate::units::Moment;

use super::acks::Acks;
use super::content::Missing;
use super::event::Refusal;
use super::fragment::{Assembly, Taken, is_fragment};
use super::gap::{self, Gap};
use super::held::Held;
use super::message::Message;
use super::settings::{Limits, MESSAGES_MAX};

#[derive(Debug)]
pub(super) struct Inbound {
    /// The number of the message that is handed over next.
    next: u64,
    /// The highest number that was seen.
    known: u64,
    /// What came before its time, and what is not whole.
    later: BTreeMap<u64, Slot>,
    pub acks: Acks,
    /// The number of the last message, once it was handed over.
    last: Option<u64>,
    gap: Option<Box<Gap>>,
    /// Counts what was taken: whether asking has helped.
    taken: u64,
    /// What is held here or by the application.
    held: Held,
}

/// Where this half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InState {
    Open,
    Ended,
    Finished,
}

#[derive(Debug)]
enum Slot {
    /// The second is true where no hop was left; the third, what it takes beside its content.
    Whole(Box<Message>, bool, usize),
    Partial(Box<Assembly>),
}

/// What a frame may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub limits: &'a Limits,
    /// Left of what the session may hold.
    pub left: Held,
    /// No other stream is within a message beyond its credit.
    pub may_be_long: bool,
}

/// A message for the application.
#[derive(Debug)]
pub(super) struct Delivery {
    pub msg_seq: u64,
    pub message: Message,
    /// It had no hop left and is not passed on.
    pub is_expired: bool,
}

impl Default for Inbound {
    fn default() -> Inbound {
        Inbound {
            next: 1,
            known: 0,
            later: BTreeMap::new(),
            acks: Acks::default(),
            last: None,
            gap: None,
            taken: 0,
            held: Held::default(),
        }
    }
}

impl Inbound {
    pub fn state(&self) -> InState {
        match (self.last, self.acks.is_settled()) {
            (None, _) => InState::Open,
            (Some(_), false) => InState::Ended,
            (Some(_), true) => InState::Finished,
        }
    }

    pub fn held(&self) -> Held {
        self.held
    }

    /// Up to here all has come.
    pub fn received(&self) -> u64 {
        self.next - 1
    }

    /// Whether the other end has said anything.
    pub fn is_spoken_to(&self) -> bool {
        self.known > 0
    }

    /// A message or a part of one. What breaks a rule ends the stream.
    pub fn on_frame(
        &mut self,
        frame: Frame,
        rules: Rules<'_>,
        now: Moment,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), Refusal> {
        let msg_seq = frame.msg_seq;
        if msg_seq < self.next && msg_seq > 0 {
            self.acks.repeat();
            return Ok(());
        }
        self.check_number(msg_seq)?;
        self.known = self.known.max(msg_seq);
        let taken = self.take(frame, rules, false, deliver);
        self.look_for_a_gap(now);
        taken
    }

    /// From a peer that numbers as it likes, over a connection that keeps order.
    pub fn on_plain_frame(
        &mut self,
        frame: Frame,
        rules: Rules<'_>,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), Refusal> {
        self.known = self.known.max(1);
        self.take(frame, rules, true, deliver)
    }

    fn check_number(&self, msg_seq: u64) -> Result<(), Refusal> {
        let is_beyond = msg_seq.saturating_sub(self.next) >= MESSAGES_MAX as u64;
        let reason = match self.last {
            _ if msg_seq == 0 => "messages are numbered from 1",
            Some(_) => "a message after the last",
            None if is_beyond => "a message far ahead of the others",
            None => return Ok(()),
        };
        Err(Refusal::new(Code::Proto, reason))
    }

    fn take(
        &mut self,
        frame: Frame,
        rules: Rules<'_>,
        is_plain: bool,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), Refusal> {
        let (msg_seq, is_part) = (frame.msg_seq, is_fragment(&frame));
        let is_next = match self.later.get(&msg_seq) {
            Some(Slot::Whole(..)) => return Ok(()),
            Some(Slot::Partial(assembly)) if is_part && assembly.has(frame.frag_seq) => return Ok(()),
            Some(Slot::Partial(assembly)) if is_part => assembly.is_next(frame.frag_seq),
            Some(Slot::Partial(_)) => {
                return Err(Refusal::new(Code::Proto, "a message both whole and in parts"));
            }
            None => !is_part || frame.frag_seq == 0,
        };
        let is_next = is_plain || (is_next && msg_seq == self.next);
        // Handed on at once, or the text of a part is: the rest of its frame is let go.
        let is_kept = if is_part { frame.frag_seq == 0 } else { !is_next };
        let (frame, beside) = if is_kept { compact(frame)? } else { (frame, 0) };
        if !self.fits(&frame, beside, rules) {
            // What came too early is asked for again when its time has come.
            let full = Refusal::new(Code::Window, "more than the stream may hold");
            return if is_next { Err(full) } else { Ok(()) };
        }
        self.taken += 1;
        if is_part {
            return self.take_part(frame, beside, rules, is_plain, deliver);
        }
        let is_expired = frame.ttl == 0;
        let message = Message::of_frame(frame);
        self.held.add(message.content.as_bytes().len() + beside, 1);
        if is_next {
            self.deliver(Delivery { msg_seq, message, is_expired }, deliver);
            self.deliver_later(deliver);
        } else {
            self.later.insert(msg_seq, Slot::Whole(Box::new(message), is_expired, beside));
        }
        Ok(())
    }

    fn take_part(
        &mut self,
        frame: Frame,
        beside: usize,
        rules: Rules<'_>,
        is_plain: bool,
        deliver: &mut impl FnMut(Delivery),
    ) -> Result<(), Refusal> {
        let msg_seq = frame.msg_seq;
        let (later, held) = (&mut self.later, &mut self.held);
        let slot = later.entry(msg_seq).or_insert_with(|| {
            held.add(0, 1);
            Slot::Partial(Box::default())
        });
        let Slot::Partial(assembly) = slot else { return Ok(()) };
        let before = Held { bytes: assembly.bytes(), pieces: assembly.pieces() };
        assembly.beside = assembly.beside.max(beside);
        let taken = assembly.on_fragment(frame, rules.limits);
        held.remove(before);
        held.add(assembly.bytes(), assembly.pieces());
        let Taken::Whole(message, is_expired) = taken? else { return Ok(()) };
        held.remove(Held { bytes: assembly.bytes(), pieces: assembly.pieces() });
        let beside = if is_plain { 0 } else { assembly.beside };
        held.add(message.content.as_bytes().len() + beside, 0);
        if is_plain {
            later.remove(&msg_seq);
            self.deliver(Delivery { msg_seq, message: *message, is_expired }, deliver);
        } else {
            *slot = Slot::Whole(message, is_expired, beside);
            self.deliver_later(deliver);
        }
        Ok(())
    }

    /// Twice the credit: the same content takes another number of bytes in another encoding (`1E9` in ten
    /// digits). One message may be longer, where it is alone.
    fn fits(&self, frame: &Frame, beside: usize, rules: Rules<'_>) -> bool {
        let bytes = frame.payload.content.as_bytes().len() + beside;
        let has_piece = rules.left.pieces > 0 && self.held.pieces < MESSAGES_MAX;
        if !has_piece || bytes > rules.left.bytes {
            return false;
        }
        let is_alone = self.acks.waiting() == 0 && self.later.keys().all(|own| *own == frame.msg_seq);
        self.held.bytes + bytes <= 2 * rules.limits.replay_bytes || (is_alone && rules.may_be_long)
    }

    fn deliver(&mut self, delivery: Delivery, deliver: &mut impl FnMut(Delivery)) {
        self.next += 1;
        self.acks.on_delivered(delivery.msg_seq, delivery.message.content.as_bytes().len());
        if delivery.message.is_last {
            self.last = Some(delivery.msg_seq);
            self.forget_later();
        }
        deliver(delivery);
    }

    fn deliver_later(&mut self, deliver: &mut impl FnMut(Delivery)) {
        while let Some(Slot::Whole(..)) = self.later.get(&self.next) {
            let Some(Slot::Whole(message, is_expired, beside)) = self.later.remove(&self.next) else {
                return;
            };
            self.held.remove(Held { bytes: beside, pieces: 0 });
            self.deliver(Delivery { msg_seq: self.next, message: *message, is_expired }, deliver);
        }
    }

    /// Nothing may come behind the last; what did is not worth an error.
    fn forget_later(&mut self) {
        for (_, slot) in std::mem::take(&mut self.later) {
            let held = match slot {
                Slot::Whole(message, _, beside) => {
                    Held { bytes: message.content.as_bytes().len() + beside, pieces: 1 }
                }
                Slot::Partial(parts) => Held { bytes: parts.bytes(), pieces: 1 + parts.pieces() },
            };
            self.held.remove(held);
        }
        self.known = self.next - 1;
        self.gap = None;
    }

    /// All up to this one is done with. Says what is free again.
    pub fn on_consumed(&mut self, msg_seq: u64, limits: &Limits, now: Moment) -> Held {
        let is_last = self.last == Some(msg_seq);
        let freed = self.acks.on_consumed(msg_seq, limits.replay_bytes, is_last, now);
        self.held.remove(freed);
        freed
    }

    fn look_for_a_gap(&mut self, now: Moment) {
        let is_under_way = self.known == self.next
            && matches!(self.later.get(&self.next), Some(Slot::Partial(parts)) if parts.has_no_hole());
        if self.known < self.next || is_under_way {
            self.gap = None;
        } else if self.gap.is_none() {
            self.gap = Some(Box::new(Gap::new(self.taken, now)));
        }
    }

    /// When the other end is asked for what is missing.
    pub fn gap_due(&self) -> Option<Moment> {
        self.gap.as_ref().map(|gap| gap.due())
    }

    /// What to ask for; an error where asking was no use.
    pub fn on_time(&mut self, now: Moment) -> Result<Vec<Missing>, Refusal> {
        self.acks.on_time(now);
        let Some(gap) = self.gap.as_mut().filter(|gap| gap.due() <= now) else { return Ok(Vec::new()) };
        let may_ask = gap.may_ask(self.taken, now);
        let missing = self.missing();
        if may_ask { Ok(missing) } else { Err(gap::never_came(&missing)) }
    }

    fn missing(&self) -> Vec<Missing> {
        let of = |msg_seq: u64| match self.later.get(&msg_seq) {
            None => Some(Missing { msg_seq, fragments: Vec::new() }),
            Some(Slot::Whole(..)) => None,
            Some(Slot::Partial(parts)) => {
                Some(Missing { msg_seq, fragments: parts.missing(gap::PARTS_MAX).unwrap_or_default() })
            }
        };
        (self.next..=self.known).filter_map(of).take(gap::ITEMS_MAX).collect()
    }

    /// The connection is gone, and with it what was under way: nothing is missing until a new one says so.
    pub fn on_disconnect(&mut self) {
        self.gap = None;
        self.known = self.known.min(self.later.keys().next_back().map_or(self.next - 1, |last| *last));
        self.known = self.known.max(self.next - 1);
    }

    /// Nothing more is taken.
    pub fn clear(&mut self) -> Held {
        let held = self.held;
        *self =
            Inbound { next: self.next, known: self.known, last: Some(self.next - 1), ..Inbound::default() };
        held
    }

    pub fn compact(&mut self) {
        self.acks.compact();
    }
}

/// The same frame in memory of its own, and what it takes beside its content: kept as it came, a few bytes of
/// content could hold a frame of a mebibyte that nobody counts.
fn compact(frame: Frame) -> Result<(Frame, usize), Refusal> {
    let unsayable = |_| Refusal::new(Code::Proto, "a frame that cannot be kept");
    let bytes = Encoding::Bin.encode(&frame).map_err(unsayable)?;
    let beside = bytes.len().saturating_sub(frame.payload.content.as_bytes().len());
    Encoding::Bin.decode(&bytes).map(|frame| (frame, beside)).map_err(unsayable)
}
