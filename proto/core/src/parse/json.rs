//! Canonical JSON: one spelling for each tree, so that equal bytes mean equal resources. Names sorted by
//! bytes, no blanks, numbers as they were written (see [`super::scalar`]). Never fails: a tree holds nothing
//! JSON cannot say.

use std::fmt::Write;

use super::scalar::{Scalar, ScalarKind};
use super::tree::{Node, Value};

/// The tree as canonical JSON.
pub fn canonical(node: &Node) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out
}

/// Recursion is bounded by [`super::tree::DEPTH_MAX`].
fn write_node(out: &mut String, node: &Node) {
    match &node.value {
        Value::Scalar(scalar) => write_scalar(out, scalar),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(out, at);
                write_node(out, item);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (name, entry)) in map.iter().enumerate() {
                separate(out, at);
                write_text(out, name);
                out.push(':');
                write_node(out, &entry.node);
            }
            out.push('}');
        }
    }
}

fn separate(out: &mut String, at: usize) {
    if at > 0 {
        out.push(',');
    }
}

/// A scalar as JSON.
pub fn write_scalar(out: &mut String, scalar: &Scalar) {
    match scalar.kind {
        ScalarKind::Null => out.push_str("null"),
        ScalarKind::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        ScalarKind::Integer | ScalarKind::Float => out.push_str(&scalar.text),
        ScalarKind::Text => write_text(out, &scalar.text),
    }
}

/// A JSON string (RFC 8259 section 7). Beyond what JSON asks, everything a YAML scanner or a terminal may
/// stumble over is escaped too: DEL, the C1 controls, line and paragraph separator, the byte order mark,
/// noncharacters.
pub fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..=' ' if character != ' ' => escape(out, character),
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                escape(out, character);
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, character: char) {
    write!(out, "\\u{:04x}", u32::from(character)).expect("a String takes whatever is written");
}
