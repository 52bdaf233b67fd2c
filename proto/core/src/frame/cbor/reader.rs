//! Reads CBOR by asking for what is expected next. Text stays where it is; what is only carried becomes JSON.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::malformed::{Malformed, What};
use super::super::node::{Node, Style};
use super::super::number::Number;
use super::super::read::Read;
use super::super::text::{RawJson, Text};
use super::super::{DEPTH_MAX, KEYS_MAX, VALUES_MAX};
use super::writer::{FALSE, FLOAT, LIST, MAP, NEGATIVE, NULL, POSITIVE, TEXT, TRUE};

pub(super) struct Reader<'a> {
    whole: &'a Bytes,
    at: usize,
    /// Values of the one that becomes JSON.
    values: usize,
}

impl<'a> Reader<'a> {
    pub fn new(whole: &'a Bytes) -> Reader<'a> {
        Reader { whole, at: 0, values: 0 }
    }

    pub fn end(&self) -> Result<(), Malformed> {
        if self.at < self.whole.len() { Err(self.wrong(What::Trailing)) } else { Ok(()) }
    }

    /// The value as a tree, within the limits that JSON has.
    fn node(&mut self, depth: usize) -> Result<Node<'a>, Malformed> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(self.wrong(if depth > DEPTH_MAX { What::Depth } else { What::TooLong }));
        }
        match self.peek()? {
            NULL | TRUE | FALSE => {
                let word = self.take(1)?[0];
                Ok(if word == NULL { Node::Null } else { Node::Bool(word == TRUE) })
            }
            FLOAT | SINGLE | HALF => self.number().map(Node::Number),
            first => match first >> 5 {
                POSITIVE | NEGATIVE => self.number().map(Node::Number),
                TEXT => self.str().map(|text| Node::Text(Cow::Borrowed(text))),
                LIST => {
                    let mut items = Vec::new();
                    self.list(|reader| {
                        items.push(reader.node(depth + 1)?);
                        Ok(())
                    })?;
                    Ok(Node::List(items))
                }
                MAP => {
                    let mut entries = Vec::new();
                    self.members(|reader, key| {
                        entries.push((Cow::Borrowed(key), reader.node(depth + 1)?));
                        Ok(())
                    })?;
                    Ok(Node::Map(entries))
                }
                _ => Err(self.wrong(What::Unrepresentable)),
            },
        }
    }

    /// Keys in the order of their bytes, so none comes twice.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &'a str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let count = self.count(MAP)?;
        if count > KEYS_MAX {
            return Err(self.wrong(What::TooLong));
        }
        let mut last: Option<&str> = None;
        for _ in 0..count {
            let start = self.at;
            let key = self.str()?;
            match last.map(|last| last.as_bytes().cmp(key.as_bytes())) {
                Some(std::cmp::Ordering::Equal) => return Err(Malformed::at(What::Duplicate, start)),
                Some(std::cmp::Ordering::Greater) => return Err(Malformed::at(What::NotCanonical, start)),
                _ => last = Some(key),
            }
            each(self, key)?;
        }
        Ok(())
    }

    fn str(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let length = self.head(TEXT)?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::at(What::Utf8, start))
    }

    /// The argument of a value of this type, which has to be spelled in as few bytes as there are.
    fn head(&mut self, major: u8) -> Result<u64, Malformed> {
        let start = self.at;
        let first = self.peek()?;
        if first >> 5 != major {
            return Err(self.wrong(What::WrongType));
        }
        self.at += 1;
        let length = match first & 0x1f {
            small @ 0..24 => return Ok(u64::from(small)),
            coded @ 24..28 => 1 << (coded - 24),
            _ => return Err(Malformed::at(What::NotCanonical, start)),
        };
        let argument = self.take(length)?.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let least = if length == 1 { 24 } else { 1 << (4 * length) };
        if argument < least { Err(Malformed::at(What::NotCanonical, start)) } else { Ok(argument) }
    }

    /// How many values follow. Each takes a byte at least, so a number beyond the message is a lie.
    fn count(&mut self, major: u8) -> Result<usize, Malformed> {
        let count = self.head(major)?;
        let left = self.whole.len() - self.at;
        let count = usize::try_from(count).ok().filter(|count| *count <= left);
        count.ok_or(self.wrong(What::Truncated))
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.whole.get(self.at).copied().ok_or(self.wrong(What::Truncated))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.saturating_add(length);
        let taken = self.whole.get(self.at..end).ok_or(self.wrong(What::Truncated))?;
        self.at = end;
        Ok(taken)
    }

    fn wrong(&self, what: What) -> Malformed {
        Malformed::at(what, self.at)
    }
}

impl<'a> Read<'a> for Reader<'a> {
    fn is_null(&mut self) -> Result<bool, Malformed> {
        let is_null = self.peek()? == NULL;
        self.at += usize::from(is_null);
        Ok(is_null)
    }

    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, [u8]>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.members(|reader, key| each(reader, Cow::Borrowed(key.as_bytes())))
    }

    fn list(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let count = self.count(LIST)?;
        (0..count).try_for_each(|_| each(self))
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.str().map(|text| Cow::Borrowed(text.as_bytes()))
    }

    fn share(&self, text: Cow<'a, [u8]>) -> Text {
        Text::shared(self.whole, text)
    }

    fn number(&mut self) -> Result<Number, Malformed> {
        let start = self.at;
        let first = self.peek()?;
        match first >> 5 {
            POSITIVE => self.head(POSITIVE).map(Number::Positive),
            NEGATIVE => self.head(NEGATIVE).map(Number::Negative),
            _ if first == FLOAT => {
                self.at += 1;
                let bits = self.take(8)?.iter().fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
                let float = Some(f64::from_bits(bits)).filter(|float| float.is_finite());
                float.map(Number::Float).ok_or(Malformed::at(What::Unrepresentable, start))
            }
            _ if first == HALF || first == SINGLE => Err(self.wrong(What::NotCanonical)),
            _ => Err(self.wrong(What::WrongType)),
        }
    }

    fn raw(&mut self) -> Result<RawJson, Malformed> {
        self.values = 0;
        let node = self.node(0)?;
        Ok(RawJson::checked(Bytes::from(node.text(Style::Wire))))
    }
}

/// Floats of 16 and 32 bits, which have a spelling in 64.
const HALF: u8 = 0xf9;
const SINGLE: u8 = 0xfa;
