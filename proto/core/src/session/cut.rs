//! How long messages are cut: a fragment's content is a JSON string with a part of the message's content as
//! it is serialised. Parts never end inside a character; all but the last say MORE. What the frame says
//! beside its content is in the first.

use std::ops::Range;

use crate::frame::{FRAME_BYTES_MAX, FlagSet, Flags, Frame, RawJson};

use super::message::{Message, Place};
use super::settings::{FRAGMENT_BYTES, Limits};

/// How messages are cut: the same as long as a session lasts, since parts are asked for by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// What goes in one frame.
    pub whole_bytes: usize,
    pub part_bytes: usize,
}

impl Cut {
    /// For what the other end takes. A plain peer puts nothing together, so it gets what a frame holds.
    pub fn of(limits: &Limits, is_plain: bool) -> Cut {
        let part_bytes = (limits.frame_bytes / ESCAPED).clamp(PART_BYTES_MIN, FRAGMENT_BYTES);
        let whole_bytes = if is_plain { FRAME_BYTES_MAX - FRAGMENT_BYTES } else { part_bytes };
        Cut { whole_bytes, part_bytes }
    }

    /// The longest message that has its place in so many parts.
    pub fn message_bytes_max(&self, limits: &Limits) -> usize {
        // A part ends up to three bytes early, where a character would be cut.
        let in_parts = (limits.fragments as usize).saturating_mul(self.part_bytes - 3);
        limits.message_bytes.min(in_parts)
    }
}

/// Where the part that starts at `start` ends.
pub(super) fn end_of(content: &[u8], start: usize, part_bytes: usize) -> usize {
    let mut end = start + part_bytes;
    if end >= content.len() {
        return content.len();
    }
    while is_inside_a_character(content[end]) {
        end -= 1;
    }
    end
}

/// The part with this number; `None` past the end.
pub(super) fn part(content: &[u8], frag_seq: u32, part_bytes: usize) -> Option<Range<usize>> {
    let mut start = 0;
    for _ in 0..frag_seq {
        start = end_of(content, start, part_bytes);
    }
    (start < content.len()).then(|| start..end_of(content, start, part_bytes))
}

/// A part as the content of its frame.
fn slice(content: &[u8], range: Range<usize>) -> RawJson {
    let text = std::str::from_utf8(&content[range]).expect("a part of JSON ends where a character does");
    RawJson::of_text(text)
}

fn is_inside_a_character(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A part in its frame.
pub(super) fn fragment_frame(message: &Message, range: Range<usize>, frag_seq: u32, place: Place) -> Frame {
    let content = message.content.as_bytes();
    let is_end = range.end == content.len();
    let part = slice(content, range);
    let mut frame = if frag_seq == 0 {
        Message { content: part, ..message.clone() }.into_frame(place)
    } else {
        let (qos, window, ttl) = (message.qos.clone(), message.window, message.ttl);
        Message { qos, window, ttl, ..Message::new(message.kind.clone(), part) }.into_frame(place)
    };
    let is_last = is_end && message.is_last;
    frame.flags = Flags::from(match (is_end, is_last) {
        (false, _) => FlagSet::MORE,
        (true, true) => FlagSet::FIN,
        (true, false) => FlagSet::NONE,
    });
    frame.frag_seq = frag_seq;
    frame
}

/// A byte of content takes six in a frame at most (`\u0000`); the rest is for what else a frame says.
const ESCAPED: usize = 8;

/// Of a part, however little the other end takes.
const PART_BYTES_MIN: usize = 256;
