//! Writes a tree as CBOR, each value in its one spelling.

use super::super::node::{Node, sorted};
use super::super::number::Number;

pub(super) fn write(node: &Node<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, node);
    out
}

fn put(out: &mut Vec<u8>, node: &Node<'_>) {
    match node {
        Node::Null => out.push(NULL),
        Node::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Node::Number(Number::Positive(number)) => head(out, POSITIVE, *number),
        Node::Number(Number::Negative(number)) => head(out, NEGATIVE, *number),
        Node::Number(Number::Float(number)) => {
            out.push(FLOAT);
            out.extend(number.to_be_bytes());
        }
        Node::Text(value) => text(out, value),
        Node::Raw(raw) => put(out, &raw.node()),
        Node::List(items) => {
            head(out, LIST, items.len() as u64);
            items.iter().for_each(|item| put(out, item));
        }
        Node::Map(entries) => {
            head(out, MAP, entries.len() as u64);
            for (key, value) in sorted(entries) {
                text(out, key);
                put(out, value);
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Type and argument, in as few bytes as there are.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Major types (RFC 8949 section 3.1).
pub(super) const POSITIVE: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
pub(super) const TEXT: u8 = 3;
pub(super) const LIST: u8 = 4;
pub(super) const MAP: u8 = 5;

/// Whole first bytes of major type 7 (RFC 8949 section 3.3).
pub(super) const FALSE: u8 = 0xf4;
pub(super) const TRUE: u8 = 0xf5;
pub(super) const NULL: u8 = 0xf6;
pub(super) const FLOAT: u8 = 0xfb;
