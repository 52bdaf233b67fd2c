//! One stream of a session: what is said, what is heard, and what has to be said about that.

use crate::frame::{FlagSet, Frame, RawJson, Text};
use crate::units::Moment;

use super::content::{self, Missing};
use super::cut::Cut;
use super::event::Refusal;
use super::held::Held;
use super::inbound::{InState, Inbound};
use super::kind;
use super::message::{Message, Place};
use super::replay::{OutState, Outbound};

#[derive(Debug)]
pub(super) struct Stream {
    pub id: Text,
    /// This end opened it.
    pub is_ours: bool,
    pub out: Outbound,
    pub inn: Inbound,
    pub ready: Ready,
    /// The application was told to wait, and for what.
    pub waits: Waits,
    /// Most streams never need it.
    remarks: Option<Box<Remarks>>,
}

/// What has to be said beside messages and acknowledgements.
#[derive(Debug, Default)]
struct Remarks {
    /// Its end, as it has to be told.
    reset: Option<Refusal>,
    warnings: Vec<(u64, Refusal)>,
    missing: Vec<Missing>,
}

/// What a message that was not taken waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    No,
    /// The stream's own credit: what it said has to be consumed.
    OfItself,
    /// What other streams hold. The session has a list of those.
    OfOthers,
}

/// Whether somebody knows that the stream has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    No,
    Queued,
    /// Polled until it is empty, then [`Ready::No`].
    Told,
}

impl Stream {
    pub fn new(id: Text, is_ours: bool) -> Stream {
        Stream {
            id,
            is_ours,
            out: Outbound::default(),
            inn: Inbound::default(),
            ready: Ready::No,
            waits: Waits::No,
            remarks: None,
        }
    }

    /// Ends at once; only the reset itself is still to be said. Gives back what was held, of both halves.
    pub fn reset(&mut self, refusal: Refusal) -> (Held, Held) {
        self.remarks = Some(Box::new(Remarks { reset: Some(refusal), ..Remarks::default() }));
        (self.out.clear(), self.inn.clear())
    }

    pub fn is_reset(&self) -> bool {
        self.remarks.as_ref().is_some_and(|remarks| remarks.reset.is_some())
    }

    /// A stream that keeps getting things wrong hears of the first of them.
    pub fn warn(&mut self, msg_seq: u64, refusal: Refusal) {
        let warnings = &mut self.remarks.get_or_insert_default().warnings;
        if warnings.len() < WARNINGS_MAX {
            warnings.push((msg_seq, refusal));
        }
    }

    pub fn ask(&mut self, missing: Vec<Missing>) {
        self.remarks.get_or_insert_default().missing = missing;
    }

    pub fn has_something_to_say(&self, is_plain: bool) -> bool {
        let is_due = self.inn.acks.is_due() && !is_plain;
        is_due || self.out.has_more() || self.remarks.as_ref().is_some_and(|remarks| !remarks.is_empty())
    }

    /// Both halves are done, and said so. With a plain peer, this end's last message is the end.
    pub fn is_over(&self, is_plain: bool) -> bool {
        if self.is_reset() || self.has_something_to_say(is_plain) {
            return false;
        }
        let is_out = self.out.state() == OutState::Finished;
        is_out && (is_plain || self.inn.state() == InState::Finished)
    }

    /// The next frame; the second is what no longer has to be kept.
    pub fn poll(&mut self, place: Place, cut: Cut, is_plain: bool) -> Option<(Frame, Held)> {
        if let Some(refusal) = self.remarks.as_ref().and_then(|remarks| remarks.reset.as_ref()) {
            return Some((error_frame(place, FlagSet::RST, refusal), Held::default()));
        }
        if !is_plain && let Some(msg_seq) = self.inn.acks.poll() {
            return Some((ack_frame(Place { msg_seq, ..place }), Held::default()));
        }
        if let Some(remarks) = &mut self.remarks {
            if let Some((msg_seq, content)) = remarks.poll() {
                let place = Place { msg_seq, ..place };
                return Some((frame(place, FlagSet::CTRL, kind::ERROR, content), Held::default()));
            }
            self.remarks = None;
        }
        let frame = self.out.poll(place, cut)?;
        let freed = if is_plain { self.out.forget_sent() } else { Held::default() };
        Some((frame, freed))
    }

    /// When time alone changes something.
    pub fn due(&self, is_plain: bool) -> Option<Moment> {
        if is_plain || self.is_reset() {
            return None;
        }
        let (ack, gap) = (self.inn.acks.due(), self.inn.gap_due());
        ack.into_iter().chain(gap).min()
    }

    /// What was being said is lost with the connection. A reset stays to be told.
    pub fn on_disconnect(&mut self) {
        self.inn.on_disconnect();
        if let Some(remarks) = &mut self.remarks {
            remarks.missing.clear();
        }
        self.ready = Ready::No;
    }

    pub fn compact(&mut self) {
        self.out.compact();
        self.inn.compact();
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of::<Stream>() + self.out.bytes() + self.inn.acks.bytes()
    }
}

impl Remarks {
    fn is_empty(&self) -> bool {
        self.reset.is_none() && self.warnings.is_empty() && self.missing.is_empty()
    }

    /// The number of the message it is about, and the content of the ERROR.
    fn poll(&mut self) -> Option<(u64, RawJson)> {
        if let Some(missing) = self.missing.pop() {
            return Some((missing.msg_seq, content::of_missing(&missing)));
        }
        if self.warnings.is_empty() {
            return None;
        }
        let (msg_seq, refusal) = self.warnings.remove(0);
        Some((msg_seq, content::of_refusal(&refusal)))
    }
}

/// A frame of the protocol's own.
pub(super) fn frame(place: Place, flags: FlagSet, kind: &'static str, content: RawJson) -> Frame {
    let mut frame = Message::new(Text::of_static(kind), content).into_frame(place);
    frame.flags = flags.into();
    frame
}

pub(super) fn error_frame(place: Place, flags: FlagSet, refusal: &Refusal) -> Frame {
    frame(place, flags, kind::ERROR, content::of_refusal(refusal))
}

pub(super) fn ack_frame(place: Place) -> Frame {
    frame(place, FlagSet::ACK, kind::ACK, RawJson::NULL)
}

/// To be said at a time, of one stream.
const WARNINGS_MAX: usize = 64;
