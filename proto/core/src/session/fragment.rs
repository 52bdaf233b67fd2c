//! Messages that come in pieces, put together: pieces as they are cut by [`super::cut`], and those that say
//! FRAG, the last of them LAST, with a part of a text in `content.text`.
//!
//! ```text
//!          a part, in any order             all parts from 0 to the last
//!  Empty ──────────────────────> Waiting ─────────────────────────────────> Whole
//!                                 │   ^ part that is there already: dropped
//!                                 └───┘
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::frame::checksum::{Said, merkle_root};
use crate::frame::{Code, FlagSet, Frame, RawJson};

use super::content;
use super::event::Refusal;
use super::message::Message;
use super::settings::Limits;

/// Whether the frame is a part of a message. A frame that only says that further *messages* come (MORE, and a
/// content that is no piece of text) is whole.
pub(super) fn is_fragment(frame: &Frame) -> bool {
    let is_slice = frame.payload.content.as_bytes().starts_with(b"\"");
    frame.frag_seq > 0 || frame.flags.has(FlagSet::FRAG) || (frame.flags.has(FlagSet::MORE) && is_slice)
}

/// A message that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    style: Option<Style>,
    /// What the first part says beside its content.
    head: Option<Box<Message>>,
    is_last: bool,
    is_expired: bool,
    /// Parts from 0 on, without a hole.
    joined: String,
    /// Where each of them ends.
    ends: Vec<u32>,
    /// Parts behind a hole.
    later: BTreeMap<u32, String>,
    last: Option<u32>,
    /// Some part said MORE, so one without it is the last, also with FRAG.
    has_more: bool,
    /// The highest part that says FRAG and neither MORE nor LAST.
    bare: Option<u32>,
    root: Option<[u8; 32]>,
    /// Of `joined` and `later`.
    bytes: usize,
    /// What the first part's frame takes beside its content.
    pub beside: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Parts of the serialised content.
    Slices,
    /// Parts of a text.
    Texts,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was there already.
    Duplicate,
    Waiting,
    /// The second is true where a part had no hop left.
    Whole(Box<Message>, bool),
}

#[derive(Deserialize)]
struct TextJson {
    text: String,
}

impl Assembly {
    pub fn bytes(&self) -> usize {
        self.bytes + self.beside
    }

    /// Parts that are kept one by one.
    pub fn pieces(&self) -> usize {
        self.later.len()
    }

    /// Whether nothing is missing but what may still be on its way.
    pub fn has_no_hole(&self) -> bool {
        self.later.is_empty()
    }

    /// Whether this part would be the next.
    pub fn is_next(&self, frag_seq: u32) -> bool {
        self.next() == frag_seq
    }

    pub fn has(&self, frag_seq: u32) -> bool {
        frag_seq < self.next() || self.later.contains_key(&frag_seq)
    }

    /// The numbers of the holes, at most `most`; `None` where the end is not known: all of it then.
    pub fn missing(&self, most: usize) -> Option<Vec<u32>> {
        let last = self.last?;
        Some((self.next()..=last).filter(|at| !self.later.contains_key(at)).take(most).collect())
    }

    pub fn on_fragment(&mut self, frame: Frame, limits: &Limits) -> Result<Taken, Refusal> {
        let at = frame.frag_seq;
        if at >= limits.fragments {
            return Err(wrong("too many fragments"));
        }
        if self.has(at) {
            return Ok(Taken::Duplicate);
        }
        let (style, text) = text_of(&frame.payload.content)?;
        if *self.style.get_or_insert(style) != style {
            return Err(wrong("fragments of two kinds in one message"));
        }
        self.check_sum(&frame, &text)?;
        self.bytes += text.len();
        if self.bytes > limits.message_bytes {
            return Err(wrong("the message is too long"));
        }
        self.learn_end(at, &frame)?;
        self.is_last |= frame.flags.has(FlagSet::FIN);
        self.is_expired |= frame.ttl == 0;
        if at == 0 {
            let mut head = Message::of_frame(frame);
            head.content = RawJson::NULL;
            self.head = Some(Box::new(head));
        }
        self.join(at, text);
        if self.last.is_none_or(|last| self.next() <= last) {
            return Ok(Taken::Waiting);
        }
        self.whole().map(|message| Taken::Whole(Box::new(message), self.is_expired))
    }

    fn next(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("fragments are bounded")
    }

    fn join(&mut self, at: u32, text: String) {
        if at != self.next() {
            self.later.insert(at, text);
            return;
        }
        self.append(&text);
        while let Some(text) = self.later.remove(&self.next()) {
            self.append(&text);
        }
    }

    fn append(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(u32::try_from(self.joined.len()).expect("messages are bounded far below 4 GiB"));
    }

    fn learn_end(&mut self, at: u32, frame: &Frame) -> Result<(), Refusal> {
        let says = |flag| frame.flags.has(flag);
        self.has_more |= says(FlagSet::MORE);
        let is_end = says(FlagSet::LAST) || !(says(FlagSet::MORE) || says(FlagSet::FRAG));
        if is_end {
            if self.last.is_some_and(|last| last != at) {
                return Err(wrong("a message with two ends"));
            }
            self.last = Some(at);
        } else if !says(FlagSet::MORE) {
            self.bare = self.bare.max(Some(at));
        }
        if self.has_more && self.last.is_none() {
            self.last = self.bare;
        }
        let highest = self.later.last_key_value().map(|(at, _)| *at).max(self.next().checked_sub(1));
        if self.last.is_some_and(|last| highest.max(Some(at)) > Some(last)) {
            return Err(wrong("a fragment behind the last"));
        }
        Ok(())
    }

    /// A sum of the part is checked now, a root over all of them at the end.
    fn check_sum(&mut self, frame: &Frame, text: &str) -> Result<(), Refusal> {
        let Some(said) = &frame.payload.checksum else { return Ok(()) };
        match Said::of_text(said.as_str()) {
            Some(Said::Root(root)) if self.root.is_none_or(|known| known == root) => {
                self.root = Some(root);
                Ok(())
            }
            Some(said) if said.is_true_of(text.as_bytes()) == Some(true) => Ok(()),
            _ => Err(wrong("a fragment does not match its checksum")),
        }
    }

    fn whole(&mut self) -> Result<Message, Refusal> {
        if let Some(root) = self.root {
            let starts = std::iter::once(0).chain(self.ends.iter().copied());
            let parts = starts.zip(&self.ends).map(|(start, end)| start as usize..*end as usize);
            let real = merkle_root(parts.map(|part| &self.joined.as_bytes()[part]));
            if Said::of_text(&real) != Some(Said::Root(root)) {
                return Err(wrong("the message does not match its checksum"));
            }
        }
        let joined = std::mem::take(&mut self.joined);
        let content = match self.style {
            Some(Style::Texts) => content::render(&serde_json::json!({ "text": joined })),
            _ => RawJson::parse(joined).map_err(|_| wrong("the fragments are no JSON together"))?,
        };
        let mut head = *self.head.take().expect("a message without holes has its first part");
        head.content = content;
        head.is_last = self.is_last;
        Ok(head)
    }
}

fn text_of(content: &RawJson) -> Result<(Style, String), Refusal> {
    if content.as_bytes().starts_with(b"\"") {
        let text = content::parse(content).ok().flatten();
        return text.map(|text| (Style::Slices, text)).ok_or(wrong("a fragment that is no text"));
    }
    let text: Option<TextJson> = content::parse(content).ok().flatten();
    text.map(|text| (Style::Texts, text.text)).ok_or(wrong("a fragment that is no text"))
}

const fn wrong(reason: &'static str) -> Refusal {
    Refusal::new(Code::Proto, reason)
}
