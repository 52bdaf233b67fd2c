//! Numbers that belong to people: payment cards, US social security numbers, telephones. Each attempt starts
//! at a run of digits and looks at a bounded number of bytes, so a text takes time in proportion to its
//! length.

use std::borrow::Cow;

use super::Found;

/// The text without them.
pub fn redacted<'a>(input: &'a str, found: &mut Found) -> Cow<'a, str> {
    let bytes = input.as_bytes();
    let mut out = String::new();
    let mut kept = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = digits_from(bytes, at);
        match number_at(input, kept, at) {
            Some(number) => {
                out.push_str(&input[kept..number.start]);
                match number.kind {
                    Kind::Card => {
                        found.cards += 1;
                        mask(&input[number.start..number.end], &mut out);
                    }
                    Kind::Ssn => {
                        found.ssns += 1;
                        out.push_str(SSN);
                    }
                    Kind::Phone => {
                        found.phones += 1;
                        out.push_str(PHONE);
                    }
                }
                kept = number.end;
                at = number.end;
            }
            None => at += run,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(input);
    }
    out.push_str(&input[kept..]);
    Cow::Owned(out)
}

struct Number {
    kind: Kind,
    start: usize,
    end: usize,
}

enum Kind {
    Card,
    Ssn,
    Phone,
}

/// What begins with the digits at `at`; a sign before them may belong to it, back to `from`.
fn number_at(input: &str, from: usize, at: usize) -> Option<Number> {
    let before = &input[from..at];
    let bytes = input.as_bytes();
    if before.ends_with('+') {
        let end = at + international(&bytes[at..])?;
        return Some(Number { kind: Kind::Phone, start: at - 1, end });
    }
    if before.ends_with('(') {
        let end = at + area_in_brackets(&bytes[at..])?;
        return Some(Number { kind: Kind::Phone, start: at - 1, end });
    }
    // Part of a word, or the decimals of a number.
    let mut earlier = input[..at].chars().rev();
    let last = earlier.next();
    let is_inside = last.is_some_and(|one| one.is_alphanumeric() || one == '_')
        || matches!(last, Some('.' | ',')) && earlier.next().is_some_and(|one| one.is_ascii_digit());
    if is_inside {
        return None;
    }
    let tries: [(Kind, Option<usize>); 3] = [
        (Kind::Card, card(&bytes[at..])),
        (Kind::Ssn, ssn(&bytes[at..])),
        (Kind::Phone, north_american(&bytes[at..])),
    ];
    let (kind, length) = tries.into_iter().find_map(|(kind, length)| Some((kind, length?)))?;
    Some(Number { kind, start: at, end: at + length })
}

/// 13 to 19 digits, alone or in groups behind single blanks or hyphens, with the check digit of Luhn (ISO/IEC
/// 7812-1 annex B). The longest that fits.
fn card(bytes: &[u8]) -> Option<usize> {
    let mut digits = [0_u8; CARD_DIGITS_MAX];
    let mut count = 0;
    let mut longest = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let is_separator = [b' ', b'-'].contains(byte);
        match byte {
            b'0'..=b'9' if count < CARD_DIGITS_MAX => {
                digits[count] = byte - b'0';
                count += 1;
                at += 1;
                let is_end = ends(&bytes[at..]);
                if is_end && count >= CARD_DIGITS_MIN && has_luhn(&digits[..count]) {
                    longest = Some(at);
                }
            }
            _ if is_separator && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            _ => break,
        }
    }
    longest
}

fn has_luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let weigh =
        |(place, digit): (usize, &u8)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit });
    let sum: u32 = digits.iter().rev().enumerate().map(weigh).sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// `123-45-6789`, with one kind of separator; none of its parts is all zeros.
fn ssn(bytes: &[u8]) -> Option<usize> {
    let length = groups(bytes, &[3, 2, 4], b"- ")?;
    let part = |from: usize, to: usize| bytes[from..to].iter().any(|digit| *digit != b'0');
    let is_one = bytes[3] == bytes[6] && part(0, 3) && part(4, 6) && part(7, 11);
    is_one.then_some(length)
}

/// `555-123-4567`, also with blanks or dots, also behind `1`.
fn north_american(bytes: &[u8]) -> Option<usize> {
    groups(bytes, &[3, 3, 4], b"-. ")
        .or_else(|| groups(bytes, &[1, 3, 3, 4], b"-. ").filter(|_| bytes[0] == b'1'))
}

/// `555) 123-4567`; the bracket before it was seen.
fn area_in_brackets(bytes: &[u8]) -> Option<usize> {
    let area = digits_from(bytes, 0);
    let rest = bytes.get(area..)?.strip_prefix(b")")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let skipped = bytes.len() - rest.len();
    (area == 3).then(|| groups(rest, &[3, 4], b"-. "))?.map(|length| skipped + length)
}

/// What follows a plus: 8 to 15 digits (ITU-T E.164), with single separators or brackets between them.
fn international(bytes: &[u8]) -> Option<usize> {
    let (mut count, mut at, mut end) = (0, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' if count < E164_DIGITS_MAX => {
                count += 1;
                end = at + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if at < end + PHONE_SEPARATORS_MAX => {}
            _ => break,
        }
        at += 1;
    }
    (count >= E164_DIGITS_MIN && ends(&bytes[end..])).then_some(end)
}

/// Groups of exactly these many digits with one separator between each two; how long they are together.
fn groups(bytes: &[u8], sizes: &[usize], separators: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (index, size) in sizes.iter().enumerate() {
        if index > 0 {
            if !separators.contains(bytes.get(at)?) {
                return None;
            }
            at += 1;
        }
        if digits_from(bytes, at) != *size {
            return None;
        }
        at += size;
    }
    ends(&bytes[at..]).then_some(at)
}

/// How many digits stand at `from`.
fn digits_from(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether a number may end before this: no word goes on.
fn ends(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_' && byte.is_ascii())
}

/// Every digit but the last four.
fn mask(number: &str, out: &mut String) {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let mut seen = 0;
    for one in number.chars() {
        let is_digit = one.is_ascii_digit();
        seen += usize::from(is_digit);
        out.push(if is_digit && seen + CARD_DIGITS_SHOWN <= digits { '*' } else { one });
    }
}

const SSN: &str = "[redacted-ssn]";
const PHONE: &str = "[redacted-phone]";
const CARD_DIGITS_MIN: usize = 13;
const CARD_DIGITS_MAX: usize = 19;
/// What a receipt shows.
const CARD_DIGITS_SHOWN: usize = 4;
/// Fewer are an extension, a year or a small count.
const E164_DIGITS_MIN: usize = 8;
const E164_DIGITS_MAX: usize = 15;
/// As in `+1 (555) 123`: a bracket and a blank.
const PHONE_SEPARATORS_MAX: usize = 2;
