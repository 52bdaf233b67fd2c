//! The smallest parts of JSON: strings, numbers and words, each from where it begins. All that is taken is
//! checked, and nothing is copied.

use std::borrow::Cow;

use super::super::malformed::{Malformed, What};
use super::super::number::Number;
use super::keys::Span;
use super::scan::{blanks_end, plain_end};

/// A string, from behind its first quote. Its last stands where the span ends.
#[inline(always)]
pub(super) fn string(bytes: &[u8], start: usize) -> Result<Span, Malformed> {
    let end = plain_end(bytes, start);
    if bytes.get(end) == Some(&b'"') { Ok(span(start, end, false)) } else { escaped(bytes, start, end) }
}

/// A string that is not plain all through, from the first byte on that is not.
#[cold]
fn escaped(bytes: &[u8], start: usize, first: usize) -> Result<Span, Malformed> {
    let mut at = first;
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(span(start, at, true)),
            Some(b'\\') => at = plain_end(bytes, escape(bytes, at + 1)?.1),
            Some(_) => return Err(Malformed::at(What::Syntax, at)),
            None => return Err(Malformed::at(What::Truncated, at)),
        }
    }
}

/// A reader takes no message whose length does not fit.
fn span(start: usize, end: usize, is_escaped: bool) -> Span {
    Span { start: start as u32, end: end as u32, is_escaped }
}

/// What an escape means, from behind its backslash, and where it ends.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Malformed> {
    let letter = *bytes.get(at).ok_or(Malformed::at(What::Truncated, at))?;
    let character = match letter {
        b'"' | b'\\' | b'/' => char::from(letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(bytes, at + 1),
        _ => return Err(Malformed::at(What::Syntax, at)),
    };
    Ok((character, at + 1))
}

fn unicode(bytes: &[u8], at: usize) -> Result<(char, usize), Malformed> {
    let first = unit(bytes, at)?;
    let mut end = at + UNIT;
    let mut units = [first, 0];
    let is_pair = (0xd800..0xdc00).contains(&first);
    if is_pair {
        if !bytes[end..].starts_with(b"\\u") {
            return Err(Malformed::at(What::Utf8, end));
        }
        units[1] = unit(bytes, end + 2)?;
        end += 2 + UNIT;
    }
    let units = &units[..if is_pair { 2 } else { 1 }];
    let character = char::decode_utf16(units.iter().copied()).next().and_then(Result::ok);
    Ok((character.ok_or(Malformed::at(What::Utf8, end))?, end))
}

fn unit(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    let digits = bytes.get(at..at + UNIT).ok_or(Malformed::at(What::Truncated, at))?;
    let mut unit = 0;
    for digit in digits {
        let digit = char::from(*digit).to_digit(16).ok_or(Malformed::at(What::Syntax, at))?;
        unit = unit << 4 | digit as u16;
    }
    Ok(unit)
}

impl Span {
    /// The text of a string that was checked: only escapes make a copy of it. UTF-8.
    #[inline(always)]
    pub fn value(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        if self.is_escaped { Cow::Owned(unescaped(self.of(bytes))) } else { Cow::Borrowed(self.of(bytes)) }
    }
}

#[cold]
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(length) = text[at..].iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&text[at..at + length]);
        let (character, end) =
            escape(text, at + length + 1).expect("escapes are checked when they are passed");
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at = end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// A number, and where it ends.
#[inline(always)]
pub(super) fn number(bytes: &[u8], start: usize) -> Result<(Number, usize), Malformed> {
    match short_integer(bytes, start) {
        (number, end) if end > start => Ok((Number::Positive(number), end)),
        _ => any_number(bytes, start),
    }
}

/// Where a number ends that is a [`Number`].
#[inline(always)]
pub(super) fn number_end(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    let (_, end) = short_integer(bytes, start);
    if end > start {
        return Ok(end);
    }
    let shape = shape(bytes, start)?;
    // Without an exponent, [`NUMBER_BYTES_MAX`] digits are far below the last float.
    if shape.has_fraction && !shape.has_exponent { Ok(shape.end) } else { Ok(any_number(bytes, start)?.1) }
}

/// Most numbers; ends where it starts for others.
#[inline(always)]
fn short_integer(bytes: &[u8], start: usize) -> (u64, usize) {
    let mut at = start;
    let mut number = 0_u64;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        // Wraps where there are more digits than are taken below.
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    let is_padded = at - start > 1 && bytes[start] == b'0';
    let is_other =
        at - start > SHORT_DIGITS || is_padded || matches!(bytes.get(at), Some(b'.' | b'e' | b'E'));
    if is_other { (0, start) } else { (number, at) }
}

struct Shape {
    end: usize,
    has_fraction: bool,
    has_exponent: bool,
}

/// Of any number that JSON has (RFC 8259 section 6).
fn shape(bytes: &[u8], start: usize) -> Result<Shape, Malformed> {
    let run = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    let whole = run(at);
    let is_padded = whole > 1 && bytes[at] == b'0';
    at += whole;
    let mut is_sound = whole > 0 && !is_padded;
    let has_fraction = bytes.get(at) == Some(&b'.');
    if has_fraction {
        let fraction = run(at + 1);
        is_sound &= fraction > 0;
        at += 1 + fraction;
    }
    let has_exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
    if has_exponent {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = run(at);
        is_sound &= exponent > 0;
        at += exponent;
    }
    if !is_sound {
        return Err(Malformed::at(What::Syntax, start));
    }
    if at - start > NUMBER_BYTES_MAX {
        return Err(Malformed::at(What::TooLong, start));
    }
    Ok(Shape { end: at, has_fraction, has_exponent })
}

#[cold]
fn any_number(bytes: &[u8], start: usize) -> Result<(Number, usize), Malformed> {
    let end = shape(bytes, start)?.end;
    let text = std::str::from_utf8(&bytes[start..end]).expect("digits are ASCII");
    let number = Number::of_json(text).ok_or(Malformed::at(What::Unrepresentable, start))?;
    Ok((number, end))
}

/// `true`, `false`, or `None` for `null`, and where it ends.
pub(super) fn word(bytes: &[u8], start: usize) -> Result<(Option<bool>, usize), Malformed> {
    let rest = bytes.get(start..).unwrap_or_default();
    if rest.starts_with(b"null") {
        Ok((None, start + 4))
    } else if rest.starts_with(b"true") {
        Ok((Some(true), start + 4))
    } else if rest.starts_with(b"false") {
        Ok((Some(false), start + 5))
    } else {
        Err(unexpected(bytes, start))
    }
}

/// Behind a byte that has to come next.
#[inline(always)]
pub(super) fn sign(bytes: &[u8], at: usize, wanted: u8) -> Result<usize, Malformed> {
    let at = blanks_end(bytes, at);
    if bytes.get(at) == Some(&wanted) { Ok(at + 1) } else { Err(unexpected(bytes, at)) }
}

/// Something else than what had to come.
#[cold]
pub(super) fn unexpected(bytes: &[u8], at: usize) -> Malformed {
    Malformed::at(if at < bytes.len() { What::Syntax } else { What::Truncated }, at)
}

/// Digits of a `\u`.
const UNIT: usize = 4;

/// Digits whose number is below 2^64, however they are.
const SHORT_DIGITS: usize = 19;

/// No float that was printed to be read back takes more than 25 characters, no integer more than 21.
const NUMBER_BYTES_MAX: usize = 128;
