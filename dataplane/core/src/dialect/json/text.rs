//! Strings: plain runs are stepped over a block at a time, everything else byte by byte.

use std::fmt;

use super::escape::{hex_value, simple_escape};
use super::plain::plain_run;
use super::{Descend, Lexer, Next, Span, Step, TEXT_BYTES_MAX, Visitor};
use crate::fault::MalformedWhat;

/// The string being read. Its `Debug` tells nothing of it: it may be a prompt.
pub(super) struct Text {
    /// Unescaped, `len` bytes of it; used only for a string with an escape or over several pieces.
    kept: [u8; TEXT_BYTES_MAX],
    len: u8,
    /// Longer than what can be kept.
    over: bool,
    /// Part of it is in `kept`: the piece at hand does not have it all.
    spilled: bool,
    is_key: bool,
    /// The visitor will be told.
    wanted: bool,
    chars: u64,
    /// Of the `\u` escape being read: its value and how many of its digits were.
    unit: u16,
    digits: u8,
    /// First half of a surrogate pair; 0 where none is pending.
    high: u16,
    /// Of the character of several bytes being read: bytes to come, and what the next may be.
    left: u8,
    low: u8,
    top: u8,
}

impl Text {
    pub fn new() -> Text {
        Text {
            kept: [0; TEXT_BYTES_MAX],
            len: 0,
            over: false,
            spilled: false,
            is_key: false,
            wanted: false,
            chars: 0,
            unit: 0,
            digits: 0,
            high: 0,
            left: 0,
            low: 0,
            top: 0,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.wanted {
            return;
        }
        self.spilled = true;
        let start = usize::from(self.len);
        match self.kept.get_mut(start..start + bytes.len()) {
            Some(place) if !self.over => {
                place.copy_from_slice(bytes);
                self.len += bytes.len() as u8;
            }
            _ => self.over = true,
        }
    }

    fn keep_char(&mut self, character: char) {
        self.chars += 1;
        self.keep(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<text of {} bytes so far>", self.len)
    }
}

impl Lexer {
    /// `at`: the opening quote. A string that ends in this piece and has nothing but plain characters, as
    /// nearly all keys and most values do, leaves no trace in memory.
    #[inline]
    pub(super) fn begin_string<const KEY: bool, V: Visitor>(
        &mut self,
        piece: &[u8],
        at: usize,
        visitor: &mut V,
    ) -> Next {
        let start = at + 1;
        let end = start + plain_run(&piece[start..]);
        if piece.get(end) == Some(&b'"') {
            if !self.is_loud(KEY) {
                return Ok((end + 1, if KEY { Step::Colon } else { Step::After }));
            }
            let text = &piece[start..end];
            let span = Span { start: self.offset + at as u64, end: self.offset + end as u64 + 1 };
            let kept = (text.len() <= TEXT_BYTES_MAX).then_some(text);
            return self.tell(KEY, kept, text.len() as u64, span, end + 1, visitor);
        }
        self.token_at = self.offset + at as u64;
        let wanted = self.is_loud(KEY);
        let text = &mut self.text;
        text.is_key = KEY;
        text.wanted = wanted;
        text.len = 0;
        text.over = false;
        text.spilled = false;
        text.chars = (end - start) as u64;
        text.high = 0;
        self.string_after(start, piece, end, visitor)
    }

    /// `at`: within the string, where a character may begin.
    pub(super) fn string<V: Visitor>(&mut self, piece: &[u8], at: usize, visitor: &mut V) -> Next {
        let run = plain_run(&piece[at..]);
        self.text.chars += run as u64;
        self.string_after(at, piece, at + run, visitor)
    }

    /// `at`: the first byte that is not plain; `from`: the first that is not kept yet.
    fn string_after<V: Visitor>(
        &mut self,
        mut from: usize,
        piece: &[u8],
        mut at: usize,
        visitor: &mut V,
    ) -> Next {
        loop {
            let step;
            match piece.get(at) {
                Some(b'"') => return self.end_string(&piece[from..at], at, visitor),
                Some(b'\\') => {
                    self.text.keep(&piece[from..at]);
                    (at, step) = self.escape(piece, at + 1)?;
                    from = at;
                }
                Some(0x80..) => (at, step) = self.multibyte(piece, at)?,
                Some(_) => {
                    return Err(self.stop(MalformedWhat::Syntax("control characters written as escapes"), at));
                }
                None => {
                    self.text.keep(&piece[from..at]);
                    return Ok((at, Step::Text));
                }
            }
            if step != Step::Text {
                self.text.keep(&piece[from..at]);
                return Ok((at, step));
            }
            let run = plain_run(&piece[at..]);
            self.text.chars += run as u64;
            at += run;
        }
    }

    fn end_string<V: Visitor>(&mut self, last: &[u8], at: usize, visitor: &mut V) -> Next {
        let is_key = self.text.is_key;
        if !self.text.wanted {
            return Ok((at + 1, if is_key { Step::Colon } else { Step::After }));
        }
        let span = Span { start: self.token_at, end: self.offset + at as u64 + 1 };
        if !self.text.spilled {
            let kept = (last.len() <= TEXT_BYTES_MAX).then_some(last);
            return self.tell(is_key, kept, self.text.chars, span, at + 1, visitor);
        }
        self.text.keep(last);
        let kept = self.text.kept;
        let kept = (!self.text.over).then(|| &kept[..usize::from(self.text.len)]);
        self.tell(is_key, kept, self.text.chars, span, at + 1, visitor)
    }

    #[inline]
    fn tell<V: Visitor>(
        &mut self,
        is_key: bool,
        text: Option<&[u8]>,
        chars: u64,
        span: Span,
        next: usize,
        visitor: &mut V,
    ) -> Next {
        if is_key {
            match visitor.key(text, span) {
                Ok(descend) => self.mute = descend == Descend::Over,
                Err(fault) => return Err(self.refuse(fault)),
            }
            return Ok((next, Step::Colon));
        }
        match visitor.string(text, chars, span) {
            Ok(()) => Ok((next, Step::After)),
            Err(fault) => Err(self.refuse(fault)),
        }
    }

    /// `at`: the byte after the backslash, which may be in the next piece.
    pub(super) fn escape(&mut self, piece: &[u8], at: usize) -> Next {
        let Some(&byte) = piece.get(at) else { return Ok((at, Step::Escape)) };
        if byte == b'u' {
            self.text.unit = 0;
            self.text.digits = 0;
            return self.hex(piece, at + 1);
        }
        let Some(character) = simple_escape(byte) else {
            return Err(self.stop(MalformedWhat::Syntax("a valid escape after `\\`"), at));
        };
        self.text.chars += 1;
        self.text.keep(&[character]);
        Ok((at + 1, Step::Text))
    }

    pub(super) fn hex(&mut self, piece: &[u8], mut at: usize) -> Next {
        while self.text.digits < 4 {
            let Some(&byte) = piece.get(at) else { return Ok((at, Step::Hex)) };
            let Some(digit) = hex_value(byte) else {
                return Err(self.stop(MalformedWhat::Syntax("four hexadecimal digits after `\\u`"), at));
            };
            self.text.unit = self.text.unit << 4 | digit;
            self.text.digits += 1;
            at += 1;
        }
        let unit = self.text.unit;
        let character = match self.text.high {
            0 if (0xD800..0xDC00).contains(&unit) => {
                self.text.high = unit;
                return self.low_half(Step::LowSlash, piece, at);
            }
            0 => char::from_u32(u32::from(unit)),
            high => char::decode_utf16([high, unit]).next().and_then(Result::ok),
        };
        let Some(character) = character else { return Err(self.stop(MalformedWhat::NotUtf8, at - 1)) };
        self.text.high = 0;
        self.text.keep_char(character);
        Ok((at, Step::Text))
    }

    /// The second half of a pair must follow the first at once, as an escape of its own.
    pub(super) fn low_half(&mut self, step: Step, piece: &[u8], at: usize) -> Next {
        match (step, piece.get(at)) {
            (_, None) => Ok((at, step)),
            (Step::LowSlash, Some(b'\\')) => self.low_half(Step::LowU, piece, at + 1),
            (Step::LowU, Some(b'u')) => {
                self.text.unit = 0;
                self.text.digits = 0;
                self.hex(piece, at + 1)
            }
            _ => Err(self.stop(MalformedWhat::NotUtf8, at)),
        }
    }

    /// Characters of several bytes, as many as follow each other. Table 3-7 of the Unicode Standard.
    fn multibyte(&mut self, piece: &[u8], mut at: usize) -> Next {
        while let Some(&lead) = piece.get(at)
            && lead >= 0x80
        {
            // Two in three bytes of text that is not English stand in such a character, complete.
            if let (0xE1..=0xEC, Some([0x80..=0xBF, 0x80..=0xBF])) = (lead, piece.get(at + 1..at + 3)) {
                self.text.chars += 1;
                at += 3;
                continue;
            }
            (self.text.left, self.text.low, self.text.top) = match lead {
                0xC2..=0xDF => (1, 0x80, 0xBF),
                0xE0 => (2, 0xA0, 0xBF),
                0xE1..=0xEC | 0xEE..=0xEF => (2, 0x80, 0xBF),
                0xED => (2, 0x80, 0x9F),
                0xF0 => (3, 0x90, 0xBF),
                0xF1..=0xF3 => (3, 0x80, 0xBF),
                0xF4 => (3, 0x80, 0x8F),
                _ => return Err(self.stop(MalformedWhat::NotUtf8, at)),
            };
            let step;
            (at, step) = self.multibyte_end(piece, at + 1)?;
            if step == Step::Multibyte {
                return Ok((at, step));
            }
        }
        Ok((at, Step::Text))
    }

    /// The rest of a character that began in an earlier piece.
    pub(super) fn multibyte_rest(&mut self, piece: &[u8], from: usize) -> Next {
        let (at, step) = self.multibyte_end(piece, from)?;
        self.text.keep(&piece[from..at]);
        Ok((at, step))
    }

    #[inline]
    fn multibyte_end(&mut self, piece: &[u8], mut at: usize) -> Next {
        while let Some(&byte) = piece.get(at) {
            if byte < self.text.low || byte > self.text.top {
                return Err(self.stop(MalformedWhat::NotUtf8, at));
            }
            at += 1;
            self.text.left -= 1;
            if self.text.left == 0 {
                self.text.chars += 1;
                return Ok((at, Step::Text));
            }
            (self.text.low, self.text.top) = (0x80, 0xBF);
        }
        Ok((at, Step::Multibyte))
    }
}
