//! Writes the entries of an object as JSON at once, without a tree.

use super::super::fields::Field;
use super::super::number::Number;
use super::super::text::{RawJson, Text};
use super::super::tree::Entries;
use super::scan::plain_end;

/// The inside of an object.
pub(in super::super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Writer<'o> {
        Writer { out, is_first: true }
    }

    fn name(&mut self, field: Field) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.out.extend_from_slice(field.key().as_bytes());
        self.is_first = false;
    }
}

impl<'a> Entries<'a> for Writer<'_> {
    fn text(&mut self, field: Field, text: &'a Text) {
        self.name(field);
        put_text(self.out, text.as_bytes());
    }

    fn word(&mut self, field: Field, word: &'static str) {
        self.name(field);
        put_text(self.out, word.as_bytes());
    }

    fn number(&mut self, field: Field, number: Number) {
        self.name(field);
        put_number(self.out, number);
    }

    fn list(&mut self, field: Field, texts: impl Iterator<Item = &'a [u8]>) {
        self.name(field);
        self.out.push(b'[');
        for (at, text) in texts.enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            put_text(self.out, text);
        }
        self.out.push(b']');
    }

    fn raw(&mut self, field: Field, json: &'a RawJson) {
        self.name(field);
        self.out.extend_from_slice(json.as_bytes());
    }

    fn unknown(&mut self, key: &'a Text, json: &'a RawJson) {
        if !self.is_first {
            self.out.push(b',');
        }
        put_text(self.out, key.as_bytes());
        self.out.push(b':');
        self.is_first = false;
        self.out.extend_from_slice(json.as_bytes());
    }

    fn object(&mut self, field: Field, fill: impl FnOnce(&mut Self)) {
        self.name(field);
        self.out.push(b'{');
        self.is_first = true;
        fill(self);
        self.is_first = false;
        self.out.push(b'}');
    }
}

/// A JSON string (RFC 8259 section 7) of UTF-8.
pub(in super::super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = plain_end(text, start);
        out.extend_from_slice(&text[start..end]);
        match text.get(end) {
            None => break,
            Some(byte) => put_escape(out, *byte),
        }
        start = end + 1;
    }
    out.push(b'"');
}

#[cold]
fn put_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0x08 => out.extend_from_slice(b"\\b"),
        0x0c => out.extend_from_slice(b"\\f"),
        _ => {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0xf)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
        }
    }
}

pub(in super::super) fn put_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::Positive(number) => {
            let mut digits = [0; 20];
            let mut at = digits.len();
            let mut rest = number;
            loop {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            out.extend_from_slice(&digits[at..]);
        }
        other => {
            let mut text = String::new();
            other.write_json(&mut text);
            out.extend_from_slice(text.as_bytes());
        }
    }
}
