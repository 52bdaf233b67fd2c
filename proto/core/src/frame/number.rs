//! Numbers as both JSON and CBOR can say them. An integer is never a float: signatures tell `1` from `1.0`.

use std::fmt::Write;

/// An integer from -2^64 to 2^64-1, or a finite float.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    Positive(u64),
    /// -1 - n, so that -1 is `Negative(0)`.
    Negative(u64),
    Float(f64),
}

impl Number {
    /// From JSON's text, which the caller has checked; `None` where it has no place in 64 bits.
    pub(super) fn of_json(text: &str) -> Option<Number> {
        if text.contains(['.', 'e', 'E']) {
            return text.parse().ok().filter(|float: &f64| float.is_finite()).map(Number::Float);
        }
        let integer: i128 = text.parse().ok()?;
        if integer >= 0 {
            return u64::try_from(integer).ok().map(Number::Positive);
        }
        u64::try_from(-1 - integer).ok().map(Number::Negative)
    }

    pub fn as_u64(self) -> Option<u64> {
        if let Number::Positive(number) = self { Some(number) } else { None }
    }

    pub fn as_f64(self) -> f64 {
        match self {
            Number::Positive(number) => number as f64,
            Number::Negative(number) => -1.0 - number as f64,
            Number::Float(number) => number,
        }
    }

    /// JSON that reads back as the same number.
    pub(super) fn write_json(self, out: &mut String) {
        match self {
            Number::Float(number) => {
                out.push_str(&serde_json::to_string(&number).expect("a finite float is JSON"));
            }
            integer => integer.write_integer(out),
        }
    }

    /// As Python's `repr` spells it: fixed from 10^-4 to 10^16, else with an exponent that has a sign and two
    /// digits.
    pub(super) fn write_python(self, out: &mut String) {
        let Number::Float(number) = self else { return self.write_integer(out) };
        let (digits, point) = shortest(number);
        out.push_str(if number.is_sign_negative() { "-" } else { "" });
        let written = match usize::try_from(point) {
            _ if point <= -4 || point > 16 => {
                let (first, rest) = digits.split_at(1);
                let (dot, exponent) = (if rest.is_empty() { "" } else { "." }, point - 1);
                write!(out, "{first}{dot}{rest}e{exponent:+03}")
            }
            Ok(whole) if whole >= digits.len() => write!(out, "{digits:0<whole$}.0"),
            Ok(whole) if whole > 0 => write!(out, "{}.{}", &digits[..whole], &digits[whole..]),
            _ => write!(out, "0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        };
        written.expect("a String takes whatever is written");
    }

    fn write_integer(self, out: &mut String) {
        match self {
            Number::Positive(number) => write!(out, "{number}"),
            Number::Negative(number) => write!(out, "{}", -1 - i128::from(number)),
            Number::Float(_) => Ok(()),
        }
        .expect("a String takes whatever is written");
    }
}

/// The fewest digits that read back as the number, and where the point stands: 0.DIGITS times ten to that.
/// Taken from serde_json's text. Of two that are as short and as near it takes the even one, as Python does
/// and `format!` does not.
fn shortest(number: f64) -> (String, i32) {
    let text = serde_json::to_string(&number.abs()).expect("a finite float is JSON");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let zeros = (all.len() - digits.len()) as i32;
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    match digits.trim_end_matches('0') {
        "" => ("0".to_owned(), 1),
        digits => (digits.to_owned(), whole.len() as i32 + exponent - zeros),
    }
}

impl PartialEq for Number {
    /// By spelling: 1 is not 1.0, and 0.0 is not -0.0.
    fn eq(&self, other: &Number) -> bool {
        match (self, other) {
            (Number::Positive(one), Number::Positive(other)) => one == other,
            (Number::Negative(one), Number::Negative(other)) => one == other,
            (Number::Float(one), Number::Float(other)) => one.to_bits() == other.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Number {}
