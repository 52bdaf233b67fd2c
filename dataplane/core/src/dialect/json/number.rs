//! Numbers: the grammar of RFC 8259 §6 and their exact decimal value.

use super::{Lexer, Next, Span, Step, Visitor};
use crate::fault::MalformedWhat;

/// A number exactly as written: ± `digits` × 10^`exponent`, as long as its digits fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Decimal {
    negative: bool,
    digits: u64,
    exponent: i64,
    /// No further digit fits.
    full: bool,
    /// Digits that are not zero were dropped: the value is further from zero than written here.
    cut: bool,
}

impl Decimal {
    /// As a whole number of 0 or more: `7`, `7.0` and `70e-1` are 7; `7.5`, `-7` and 10²⁰ are `None`.
    pub fn as_u64(self) -> Option<u64> {
        match self.scaled(0) {
            Some((whole, false)) => Some(whole),
            _ => None,
        }
    }

    /// The value × 10^`by`, rounded down, and whether anything was rounded away; `None` where negative or too
    /// large.
    pub fn scaled(self, by: u32) -> Option<(u64, bool)> {
        if self.digits == 0 {
            return Some((0, false));
        }
        if self.negative {
            return None;
        }
        let exponent = self.exponent + i64::from(by);
        let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_u64.checked_pow(power));
        if exponent >= 0 {
            let whole = self.digits.checked_mul(power?)?;
            // Cut digits of a number scaled up could be whole ones; none of our fields is that long.
            return (!self.cut).then_some((whole, false));
        }
        let Some(power) = power else { return Some((0, true)) };
        Some((self.digits / power, self.cut || !self.digits.is_multiple_of(power)))
    }

    #[inline]
    fn add(&mut self, digit: u8, is_fraction: bool) {
        let longer = self.digits.checked_mul(10).and_then(|digits| digits.checked_add(u64::from(digit)));
        match longer {
            Some(digits) if !self.full => {
                self.digits = digits;
                self.exponent -= i64::from(is_fraction);
            }
            _ => {
                self.full = true;
                self.cut |= digit != 0;
                self.exponent += i64::from(!is_fraction);
            }
        }
    }
}

/// The number being read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Number {
    part: Part,
    value: Decimal,
    /// After the `e`.
    power: i64,
    power_negative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Begin,
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    Sign,
    Power,
}

impl Lexer {
    pub(super) fn number<V: Visitor>(&mut self, piece: &[u8], mut at: usize, visitor: &mut V) -> Next {
        // A copy for the loop: its fields stay in registers.
        let mut number = self.number;
        // Digits count only where somebody is told their sum.
        let is_loud = self.is_loud(false);
        loop {
            if let Part::Whole | Part::Fraction = number.part {
                let run = digits(&piece[at..]);
                if is_loud {
                    let is_fraction = number.part == Part::Fraction;
                    piece[at..at + run].iter().for_each(|&byte| number.value.add(byte - b'0', is_fraction));
                }
                at += run;
            }
            let Some(&byte) = piece.get(at) else {
                self.number = number;
                return Ok((at, Step::Number));
            };
            match number.next(byte) {
                // The first digit of a run is read again, with the run.
                Some(part @ (Part::Whole | Part::Fraction)) => number.part = part,
                Some(part) => {
                    number.part = part;
                    at += 1;
                }
                None => return self.end_number(number, at, visitor),
            }
        }
    }

    /// `at`: the byte that is no part of the number; it is read again.
    fn end_number<V: Visitor>(&mut self, number: Number, at: usize, visitor: &mut V) -> Next {
        if !matches!(number.part, Part::Zero | Part::Whole | Part::Fraction | Part::Power) {
            return Err(self.stop(MalformedWhat::Syntax("a digit"), at));
        }
        if self.is_loud(false) {
            let span = Span { start: self.token_at, end: self.offset + at as u64 };
            if let Err(fault) = visitor.number(number.value(), span) {
                return Err(self.refuse(fault));
            }
        }
        Ok((at, Step::After))
    }
}

/// Where a number ends that ends in these bytes, for the many that nobody is told about (embeddings are made
/// of them); `None`: it takes a closer look.
#[inline]
pub(super) fn short_cut(bytes: &[u8]) -> Option<usize> {
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match bytes.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(&bytes[at..]),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        let run = digits(&bytes[at + 1..]);
        at += 1 + run;
        if run == 0 {
            return None;
        }
    }
    matches!(bytes.get(at)?, b',' | b']' | b'}' | b' ' | b'\n').then_some(at)
}

#[inline]
fn digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len())
}

impl Number {
    /// The part `byte` belongs to; `None`: no part of the number.
    #[inline]
    fn next(&mut self, byte: u8) -> Option<Part> {
        Some(match (self.part, byte) {
            (Part::Begin, b'-') => {
                self.value.negative = true;
                Part::Minus
            }
            (Part::Begin | Part::Minus, b'0') => Part::Zero,
            (Part::Begin | Part::Minus, b'1'..=b'9') => Part::Whole,
            (Part::Point, b'0'..=b'9') => Part::Fraction,
            (Part::Zero | Part::Whole, b'.') => Part::Point,
            (Part::Zero | Part::Whole | Part::Fraction, b'e' | b'E') => Part::E,
            (Part::E, b'+' | b'-') => {
                self.power_negative = byte == b'-';
                Part::Sign
            }
            (Part::E | Part::Sign | Part::Power, b'0'..=b'9') => {
                self.power = (self.power * 10 + i64::from(byte - b'0')).min(POWER_MAX);
                Part::Power
            }
            _ => return None,
        })
    }

    fn value(self) -> Decimal {
        let power = if self.power_negative { -self.power } else { self.power };
        Decimal { exponent: self.value.exponent.saturating_add(power), ..self.value }
    }
}

/// Powers beyond it are all the same to us (out of range, or nothing), and it leaves room to add the digits
/// of any body.
const POWER_MAX: i64 = 1 << 40;
