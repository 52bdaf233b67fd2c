//! Pieces of a message that stay where they came in: text, and JSON that nobody has looked into.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::json::Reader;
use super::malformed::Malformed;
use super::node::{Node, Style};

/// UTF-8 that shares the memory of the message it came in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    pub const fn of_static(text: &'static str) -> Text {
        Text(Bytes::from_static(text.as_bytes()))
    }

    /// `text` is a part of `whole`, or was made from it; UTF-8.
    pub(super) fn shared(whole: &Bytes, text: Cow<'_, [u8]>) -> Text {
        match text {
            Cow::Borrowed(part) => Text(whole.slice_ref(part)),
            Cow::Owned(made) => Text(Bytes::from(made)),
        }
    }

    /// That part of `whole`; UTF-8.
    pub(super) fn part(whole: &Bytes, place: Range<usize>) -> Text {
        Text(whole.slice(place))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a Text is made from UTF-8 only")
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Bytes::from(text))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

/// One JSON value, checked and kept as it was written. Equal where the values are equal, whatever blanks,
/// escapes and order of keys.
#[derive(Clone)]
pub struct RawJson(Bytes);

impl RawJson {
    pub const NULL: RawJson = RawJson(Bytes::from_static(b"null"));

    /// Checks all of it: syntax, limits, no key twice.
    pub fn parse(json: impl Into<Bytes>) -> Result<RawJson, Malformed> {
        let json = json.into();
        let mut reader = Reader::new(&json)?;
        let raw = reader.raw_json()?;
        reader.end()?;
        Ok(raw)
    }

    /// A JSON string.
    pub fn of_text(text: &str) -> RawJson {
        RawJson::of_node(&Node::Text(Cow::Borrowed(text)))
    }

    /// The caller has checked that it is one JSON value in UTF-8.
    pub fn checked(json: Bytes) -> RawJson {
        RawJson(json)
    }

    pub(super) fn of_node(node: &Node<'_>) -> RawJson {
        RawJson(Bytes::from(node.text(Style::Wire)))
    }

    /// The value as a tree, for those who need it in another spelling.
    pub(super) fn node(&self) -> Node<'_> {
        let mut reader = Reader::checked(&self.0);
        reader.node().expect("a RawJson is checked when it is made")
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a RawJson is made from UTF-8 only")
    }

    pub fn is_null(&self) -> bool {
        self.0.as_ref() == b"null"
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &RawJson) -> bool {
        self.0 == other.0 || self.node().text(Style::Plain) == other.node().text(Style::Plain)
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
