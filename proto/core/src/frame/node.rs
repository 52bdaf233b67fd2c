//! A value as a tree, between encodings: what JSON is made CBOR of, and what signatures and checksums are
//! made over. Never on the way of a frame that is only passed on.

use std::borrow::Cow;
use std::fmt::Write;

use super::number::Number;
use super::text::RawJson;

#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
    /// Not looked into until somebody has to.
    Raw(&'a RawJson),
}

/// How a tree is written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As it stands; what is raw stays raw.
    Wire,
    /// Keys sorted, UTF-8.
    Plain,
    /// Keys sorted, ASCII, floats as Python spells them.
    Python,
}

impl<'a> Node<'a> {
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(style, &mut out);
        out
    }

    /// Recursion is bounded by [`super::DEPTH_MAX`] and the few levels of a frame.
    fn write(&self, style: Style, out: &mut String) {
        match self {
            Node::Null => out.push_str("null"),
            Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Node::Number(number) if style == Style::Python => number.write_python(out),
            Node::Number(number) => number.write_json(out),
            Node::Text(text) => write_text(out, text, style),
            Node::Raw(raw) if style == Style::Wire => out.push_str(raw.as_str()),
            Node::Raw(raw) => raw.node().write(style, out),
            Node::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    item.write(style, out);
                }
                out.push(']');
            }
            Node::Map(entries) => write_map(out, entries, style),
        }
    }

    /// A map without some of its keys; anything else as it is.
    pub fn without(self, keys: &[&str]) -> Node<'a> {
        let Node::Map(mut entries) = self else { return self };
        entries.retain(|(key, _)| !keys.contains(&&**key));
        Node::Map(entries)
    }

    pub fn entry_mut(&mut self, wanted: &str) -> Option<&mut Node<'a>> {
        let Node::Map(entries) = self else { return None };
        entries.iter_mut().find(|(key, _)| key == wanted).map(|(_, node)| node)
    }
}

/// Entries by the bytes of their keys, which is also the order of code points.
pub(super) fn sorted<'n, 'a>(entries: &'n [(Cow<'a, str>, Node<'a>)]) -> Vec<&'n (Cow<'a, str>, Node<'a>)> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    sorted
}

fn write_map(out: &mut String, entries: &[(Cow<'_, str>, Node<'_>)], style: Style) {
    let entries = if style == Style::Wire { entries.iter().collect() } else { sorted(entries) };
    out.push('{');
    for (at, (key, node)) in entries.into_iter().enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        write_text(out, key, style);
        out.push(':');
        node.write(style, out);
    }
    out.push('}');
}

/// A JSON string (RFC 8259 section 7) with the escapes that JSON and Python agree on.
fn write_text(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..'\u{20}' => escape(out, character),
            '\u{7f}'.. if style == Style::Python => escape(out, character),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        write!(out, "\\u{unit:04x}").expect("a String takes whatever is written");
    }
}
