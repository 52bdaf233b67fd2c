//! Reads JSON (RFC 8259) by asking for what is expected next. Checks everything it passes, also what it only
//! skips: another reader of the same bytes must not understand anything else. Copies only text with escapes.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::malformed::{Malformed, What};
use super::super::node::Node;
use super::super::number::Number;
use super::super::read::Read;
use super::super::text::{RawJson, Text};
use super::super::{DEPTH_MAX, KEYS_MAX, VALUES_MAX};
use super::keys::{Keys, Span};
use super::scan::blanks_end;
use super::skip::Skip;
use super::token;

pub(in super::super) struct Reader<'a> {
    whole: &'a Bytes,
    /// The same; UTF-8.
    bytes: &'a [u8],
    at: usize,
    /// Keys of the objects that are being skipped or made trees of.
    keys: Keys,
    /// Values of the one that is made a tree of.
    values: usize,
    values_max: usize,
    depth_max: usize,
}

impl<'a> Reader<'a> {
    pub fn new(whole: &'a Bytes) -> Result<Reader<'a>, Malformed> {
        if whole.len() > BYTES_MAX {
            return Err(Malformed::at(What::TooLong, 0));
        }
        // Most messages are ASCII, which is seen faster.
        if !whole.is_ascii() {
            std::str::from_utf8(whole).map_err(|wrong| Malformed::at(What::Utf8, wrong.valid_up_to()))?;
        }
        Ok(Reader {
            whole,
            bytes: whole,
            at: 0,
            keys: Keys::default(),
            values: 0,
            values_max: VALUES_MAX,
            depth_max: DEPTH_MAX,
        })
    }

    /// Over what was read before.
    pub fn checked(whole: &'a Bytes) -> Reader<'a> {
        Reader::new(whole).expect("what was read before is UTF-8")
    }

    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_some() { Err(self.wrong(What::Trailing)) } else { Ok(()) }
    }

    pub fn raw_json(&mut self) -> Result<RawJson, Malformed> {
        let start = blanks_end(self.bytes, self.at);
        let mut skip = Skip {
            bytes: self.bytes,
            keys: &mut self.keys,
            values: self.values_max,
            depth_max: self.depth_max,
        };
        self.at = skip.value(start, 0)?;
        Ok(RawJson::checked(self.whole.slice(start..self.at)))
    }

    /// A frame as a tree, which nests deeper than what it carries.
    pub fn message(&mut self) -> Result<Node<'a>, Malformed> {
        self.depth_max = DEPTH_MAX + FRAME_DEPTH;
        self.values_max = VALUES_MAX + KEYS_MAX;
        self.node()
    }

    /// The value as a tree.
    pub fn node(&mut self) -> Result<Node<'a>, Malformed> {
        self.values = 0;
        self.node_at(0)
    }

    fn node_at(&mut self, depth: usize) -> Result<Node<'a>, Malformed> {
        self.count(depth)?;
        Ok(match self.peek() {
            Some(b'{') => {
                let mut entries = Vec::new();
                self.members(|reader, key| {
                    let key = utf8(reader.value_of(key));
                    entries.push((key, reader.node_at(depth + 1)?));
                    Ok(())
                })?;
                Node::Map(entries)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.elements(|reader| {
                    items.push(reader.node_at(depth + 1)?);
                    Ok(())
                })?;
                Node::List(items)
            }
            Some(b'"') => {
                let span = self.span()?;
                Node::Text(utf8(self.value_of(span)))
            }
            Some(b'-' | b'0'..=b'9') => Node::Number(self.digits()?),
            _ => self.word()?.map_or(Node::Null, Node::Bool),
        })
    }

    fn count(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > self.depth_max {
            return Err(self.wrong(What::Depth));
        }
        self.values += 1;
        if self.values > self.values_max { Err(self.wrong(What::TooLong)) } else { Ok(()) }
    }

    /// An object, each key of which comes once.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, Span) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let start = self.at;
        let mut object = self.keys.begin();
        self.entries(|reader, key| {
            reader.keys.push(&mut object, key, reader.bytes);
            each(reader, key)
        })?;
        if self.keys.end(object, self.bytes) { Ok(()) } else { Err(Malformed::at(What::Duplicate, start)) }
    }

    #[inline(always)]
    fn entries(
        &mut self,
        mut each: impl FnMut(&mut Self, Span) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let bytes = self.bytes;
        let mut at = blanks_end(bytes, self.at + 1);
        if bytes.get(at) == Some(&b'}') {
            self.at = at + 1;
            return Ok(());
        }
        for _ in 0..KEYS_MAX {
            if bytes.get(at) != Some(&b'"') {
                return Err(token::unexpected(bytes, at));
            }
            let key = token::string(bytes, at + 1)?;
            at = token::sign(bytes, key.end as usize + 1, b':')?;
            self.at = blanks_end(bytes, at);
            each(self, key)?;
            at = blanks_end(bytes, self.at);
            match bytes.get(at) {
                Some(b',') => at = blanks_end(bytes, at + 1),
                Some(b'}') => {
                    self.at = at + 1;
                    return Ok(());
                }
                _ => return Err(token::unexpected(bytes, at)),
            }
        }
        Err(Malformed::at(What::TooLong, at))
    }

    fn elements(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.begin(b'[')?;
        let mut is_done = self.take(b']');
        while !is_done {
            each(self)?;
            is_done = self.take(b']');
            if !is_done {
                self.begin(b',')?;
            }
        }
        Ok(())
    }

    /// A string, checked and not yet copied, of which the first quote is there.
    #[inline(always)]
    fn span(&mut self) -> Result<Span, Malformed> {
        let span = token::string(self.bytes, self.at + 1)?;
        self.at = span.end as usize + 1;
        Ok(span)
    }

    #[inline(always)]
    fn value_of(&self, span: Span) -> Cow<'a, [u8]> {
        span.value(self.bytes)
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<Number, Malformed> {
        let (number, end) = token::number(self.bytes, self.at)?;
        self.at = end;
        Ok(number)
    }

    /// `true`, `false`, or `None` for `null`.
    fn word(&mut self) -> Result<Option<bool>, Malformed> {
        let (value, end) = token::word(self.bytes, self.at)?;
        self.at = end;
        Ok(value)
    }

    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        self.at = blanks_end(self.bytes, self.at);
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline(always)]
    fn begin(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.take(wanted) { Ok(()) } else { Err(token::unexpected(self.bytes, self.at)) }
    }

    fn wrong(&self, what: What) -> Malformed {
        Malformed::at(what, self.at)
    }

    fn expect(&mut self, begins: impl Fn(u8) -> bool) -> Result<(), Malformed> {
        match self.peek() {
            Some(byte) if begins(byte) => Ok(()),
            Some(_) => Err(self.wrong(What::WrongType)),
            None => Err(self.wrong(What::Truncated)),
        }
    }
}

impl<'a> Read<'a> for Reader<'a> {
    fn is_null(&mut self) -> Result<bool, Malformed> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word().map(|value| value.is_none())
    }

    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, [u8]>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(|byte| byte == b'{')?;
        self.entries(|reader, key| each(reader, reader.value_of(key)))
    }

    fn list(&mut self, each: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        self.expect(|byte| byte == b'[')?;
        self.elements(each)
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.expect(|byte| byte == b'"')?;
        let span = self.span()?;
        Ok(self.value_of(span))
    }

    fn text(&mut self) -> Result<Text, Malformed> {
        self.expect(|byte| byte == b'"')?;
        let span = self.span()?;
        Ok(if span.is_escaped {
            self.share(self.value_of(span))
        } else {
            Text::part(self.whole, span.start as usize..span.end as usize)
        })
    }

    fn share(&self, text: Cow<'a, [u8]>) -> Text {
        Text::shared(self.whole, text)
    }

    fn number(&mut self) -> Result<Number, Malformed> {
        self.expect(|byte| byte == b'-' || byte.is_ascii_digit())?;
        self.digits()
    }

    fn raw(&mut self) -> Result<RawJson, Malformed> {
        self.raw_json()
    }

    /// Its parts have their limits each, when they are read; here nothing is kept of them.
    fn later(&mut self) -> Result<RawJson, Malformed> {
        let limits = (self.values_max, self.depth_max);
        (self.values_max, self.depth_max) = (usize::MAX, DEPTH_MAX + FRAME_DEPTH);
        let raw = self.raw_json();
        (self.values_max, self.depth_max) = limits;
        raw
    }
}

fn utf8(text: Cow<'_, [u8]>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(std::str::from_utf8(text).expect("a message is UTF-8")),
        Cow::Owned(text) => Cow::Owned(String::from_utf8(text).expect("a message is UTF-8")),
    }
}

/// `payload.cost_est` and what an unknown key in it holds.
const FRAME_DEPTH: usize = 3;

/// What [`Span`] can point into. Messages of any protocol here are shorter by far.
const BYTES_MAX: usize = i32::MAX as usize;
