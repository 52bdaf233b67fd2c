//! Objects and arrays, member by member, into a caller's buffer. What came as JSON goes on as it stood: text
//! keeps its escapes, numbers their digits, objects the order of their members.

use serde_json::value::RawValue;

use super::super::json::{put, quote};

/// An object that is being written; [`Object::end`] closes it.
pub(super) struct Object<'o> {
    pub out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    pub fn begin(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    /// A member whose value the caller appends. `name` needs no escapes.
    pub fn key(&mut self, name: &'static str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        put!(self.out, "\"{name}\":");
        self.out
    }

    pub fn text(&mut self, name: &'static str, value: &str) -> &mut Object<'o> {
        quote(value, self.key(name));
        self
    }

    pub fn number(&mut self, name: &'static str, value: u64) -> &mut Object<'o> {
        put!(self.key(name), "{value}");
        self
    }

    /// JSON as it is.
    pub fn json(&mut self, name: &'static str, value: &[u8]) -> &mut Object<'o> {
        self.key(name).extend_from_slice(value);
        self
    }

    pub fn raw(&mut self, name: &'static str, value: &RawValue) -> &mut Object<'o> {
        self.json(name, value.get().as_bytes())
    }

    /// Where it is a string: whatever else it may be could hold line ends, which end events.
    pub fn words(&mut self, name: &'static str, value: Option<&RawValue>) -> &mut Object<'o> {
        self.maybe(name, value.filter(|value| inside(value).is_some()))
    }

    /// Where there is one.
    pub fn maybe(&mut self, name: &'static str, value: Option<&RawValue>) -> &mut Object<'o> {
        if let Some(value) = value {
            self.raw(name, value);
        }
        self
    }

    pub fn end(&mut self) {
        self.out.push(b'}');
    }
}

/// A comma where one is due between elements: after anything but the bracket that opens.
pub(super) fn next(out: &mut Vec<u8>) -> &mut Vec<u8> {
    if !matches!(out.last(), None | Some(b'[')) {
        out.push(b',');
    }
    out
}

/// What stands between the quotes of a JSON string; `None` where it is none.
pub(super) fn inside(raw: &RawValue) -> Option<&[u8]> {
    raw.get().as_bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")
}
