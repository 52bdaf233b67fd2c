//! What one end of a stream has said and the other has not consumed: kept until it is, so that it can be sent
//! again, and the reason a sender stops.
//!
//! ```text
//!   acknowledged │ sent, kept ........ │ being sent │ to be sent
//!                base                  cursor                     next_seq
//! ```
//! A new connection moves the cursor back to what the other end has not received. States of this half:
//!
//! ```text
//!  Open ── the last message is taken ──> Finishing ── all acknowledged ──> Finished
//! ```

use std::collections::VecDeque;

use crate::frame::{Code, Frame};

use super::content::Missing;
use super::cut::{self, Cut, fragment_frame};
use super::event::Refusal;
use super::held::Held;
use super::message::{Message, Place};

#[derive(Debug)]
pub(super) struct Outbound {
    log: VecDeque<Entry>,
    /// The number of the first entry.
    base: u64,
    /// The entry that goes next, and where in it.
    cursor: usize,
    offset: usize,
    frag_seq: u32,
    /// The highest number that ever went out whole.
    sent: u64,
    bytes: usize,
    /// What the other end asked for again.
    again: VecDeque<Again>,
    is_finishing: bool,
}

/// Where this half stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutState {
    Open,
    Finishing,
    Finished,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    /// How often it was asked for.
    asked: u8,
}

#[derive(Debug)]
struct Again {
    msg_seq: u64,
    /// Backwards; empty: all from `next` on.
    parts: Vec<u32>,
    next: u32,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            log: VecDeque::new(),
            base: 1,
            cursor: 0,
            offset: 0,
            frag_seq: 0,
            sent: 0,
            bytes: 0,
            again: VecDeque::new(),
            is_finishing: false,
        }
    }
}

impl Outbound {
    pub fn state(&self) -> OutState {
        match (self.is_finishing, self.log.is_empty()) {
            (false, _) => OutState::Open,
            (true, false) => OutState::Finishing,
            (true, true) => OutState::Finished,
        }
    }

    /// Content that is kept, and messages.
    pub fn held(&self) -> Held {
        Held { bytes: self.bytes, pieces: self.log.len() }
    }

    /// Whether the other end has acknowledged anything.
    pub fn is_acknowledged(&self) -> bool {
        self.base > 1
    }

    pub fn has_more(&self) -> bool {
        self.cursor < self.log.len() || !self.again.is_empty()
    }

    /// The caller has looked at the state and the room.
    pub fn push(&mut self, message: Message) -> u64 {
        self.bytes += message.content.as_bytes().len();
        self.is_finishing |= message.is_last;
        self.log.push_back(Entry { message, asked: 0 });
        self.base + self.log.len() as u64 - 1
    }

    /// The next frame. What was asked for again goes first: somebody waits for it.
    pub fn poll(&mut self, mut place: Place, sizes: Cut) -> Option<Frame> {
        if let Some(frame) = self.poll_again(&place, sizes) {
            return Some(frame);
        }
        let message = &self.log.get(self.cursor)?.message;
        place.msg_seq = self.base + self.cursor as u64;
        if message.content.as_bytes().len() <= sizes.whole_bytes {
            let frame = message.clone().into_frame(place);
            self.step();
            return Some(frame);
        }
        let content = message.content.as_bytes();
        let end = cut::end_of(content, self.offset, sizes.part_bytes);
        let is_end = end == content.len();
        let frame = fragment_frame(message, self.offset..end, self.frag_seq, place);
        (self.offset, self.frag_seq) = (end, self.frag_seq + 1);
        if is_end {
            self.step();
        }
        Some(frame)
    }

    fn step(&mut self) {
        self.sent = self.sent.max(self.base + self.cursor as u64);
        self.cursor += 1;
        (self.offset, self.frag_seq) = (0, 0);
    }

    fn poll_again(&mut self, place: &Place, sizes: Cut) -> Option<Frame> {
        while let Some(again) = self.again.front_mut() {
            let entry = again.msg_seq.checked_sub(self.base).and_then(|at| self.log.get(at as usize));
            let part = again.parts.pop();
            let is_all = part.is_none();
            let part = part.unwrap_or(again.next);
            again.next += u32::from(is_all);
            let range = entry.and_then(|entry| {
                let content = entry.message.content.as_bytes();
                cut::part(content, part, sizes.part_bytes).map(|range| (&entry.message, range))
            });
            let Some((message, range)) = range else {
                self.again.pop_front();
                continue;
            };
            let is_done =
                if is_all { range.end == message.content.as_bytes().len() } else { again.parts.is_empty() };
            let place = Place { msg_seq: again.msg_seq, ..place.clone() };
            let frame = if range.len() == message.content.as_bytes().len() {
                message.clone().into_frame(place)
            } else {
                fragment_frame(message, range, part, place)
            };
            if is_done {
                self.again.pop_front();
            }
            return Some(frame);
        }
        None
    }

    /// All up to this one was consumed.
    pub fn on_ack(&mut self, msg_seq: u64) -> Result<Held, Refusal> {
        if msg_seq > self.sent {
            return Err(Refusal::new(Code::Proto, "acknowledges what was not sent"));
        }
        let count = (msg_seq + 1).saturating_sub(self.base) as usize;
        Ok(self.forget(count))
    }

    /// For peers that do not acknowledge: what went out is done with.
    pub fn forget_sent(&mut self) -> Held {
        self.forget(self.cursor)
    }

    fn forget(&mut self, count: usize) -> Held {
        let mut freed = Held::default();
        for entry in self.log.drain(..count.min(self.log.len())) {
            freed.add(entry.message.content.as_bytes().len(), 1);
        }
        self.base += freed.pieces as u64;
        self.bytes -= freed.bytes;
        if freed.pieces > self.cursor {
            (self.offset, self.frag_seq) = (0, 0);
        }
        self.cursor = self.cursor.saturating_sub(freed.pieces);
        if self.log.is_empty() {
            // Nothing is under way any more: most streams are quiet then.
            self.log = VecDeque::new();
        }
        freed
    }

    /// A message, or parts of one, did not arrive. What is gone, what has not gone out yet, and what was
    /// asked for too often is left out.
    pub fn on_missing(&mut self, missing: Missing) {
        let is_known = missing.msg_seq >= self.base && missing.msg_seq <= self.sent;
        let is_under_way = self.again.iter().any(|again| again.msg_seq == missing.msg_seq);
        if !is_known || is_under_way {
            return;
        }
        let Some(entry) = self.log.get_mut((missing.msg_seq - self.base) as usize) else { return };
        if entry.asked == ASKED_MAX {
            return;
        }
        entry.asked += 1;
        let mut parts = missing.fragments;
        parts.reverse();
        self.again.push_back(Again { msg_seq: missing.msg_seq, parts, next: 0 });
    }

    /// On a new connection: the other end has everything up to this one.
    pub fn on_resumed(&mut self, received: u64) -> Result<(), Refusal> {
        if received > self.sent {
            return Err(Refusal::new(Code::Proto, "has received what was not sent"));
        }
        let Some(cursor) = (received + 1).checked_sub(self.base) else {
            return Err(Refusal::new(Code::SeqRetry, "what is missing was acknowledged, and is gone"));
        };
        (self.cursor, self.offset, self.frag_seq) = (cursor as usize, 0, 0);
        self.again.clear();
        Ok(())
    }

    /// Nothing of it is said any more.
    pub fn clear(&mut self) -> Held {
        self.again.clear();
        self.is_finishing = true;
        let held = self.held();
        self.forget(self.log.len());
        held
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.log.capacity() * size_of::<Entry>()
    }

    /// Gives back memory nothing is in. What is still to be taken keeps its place: it would double with the
    /// next message.
    pub fn compact(&mut self) {
        if self.log.len() < self.log.capacity() / 4 {
            self.log.shrink_to_fit();
        }
        self.again.shrink_to_fit();
    }
}

/// A message that did not arrive that often will not.
const ASKED_MAX: u8 = 32;
