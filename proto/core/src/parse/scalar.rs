//! Scalars: the YAML 1.2 core schema (section 10.3.2), and numbers read from their text.
//!
//! A number stays the text it was written as until a field asks for it, so that a price of 0.15 never passes
//! through a binary fraction. Never looks at anything but one scalar.

/// A scalar as it was written; of a number, its JSON spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub text: Box<str>,
    pub kind: ScalarKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    Null,
    Bool(bool),
    Integer,
    Float,
    /// Everything quoted, and whatever plain text is none of the above.
    Text,
}

/// Why a number cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFault {
    /// `.inf` or `.nan`.
    NotFinite,
    /// Longer than [`NUMBER_BYTES_MAX`].
    TooLong,
}

impl NumberFault {
    pub fn as_str(self) -> &'static str {
        match self {
            NumberFault::NotFinite => "infinity and NaN are no values here; quote it if it is text",
            NumberFault::TooLong => "a number has at most 64 characters; quote it if it is text",
        }
    }
}

impl Scalar {
    /// A quoted or block scalar: always text.
    pub fn quoted(text: &str) -> Scalar {
        Scalar { text: text.into(), kind: ScalarKind::Text }
    }

    /// A plain scalar, by the core schema.
    pub fn plain(text: &str) -> Result<Scalar, NumberFault> {
        let kind = resolve(text);
        let text = match kind {
            ScalarKind::Integer | ScalarKind::Float => json_number(text)?.into(),
            _ => text.into(),
        };
        Ok(Scalar { text, kind })
    }

    pub fn is_number(&self) -> bool {
        matches!(self.kind, ScalarKind::Integer | ScalarKind::Float)
    }
}

/// What a plain scalar is.
pub fn resolve(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" => ScalarKind::Bool(true),
        "false" | "False" | "FALSE" => ScalarKind::Bool(false),
        _ if is_integer(text) => ScalarKind::Integer,
        _ if is_float(text) => ScalarKind::Float,
        _ => ScalarKind::Text,
    }
}

fn is_integer(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    }
    all_digits(unsigned(text))
}

fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = body.split_once(['e', 'E']).unwrap_or((body, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |part: &str| part.is_empty() || all_digits(part);
    let some_digits = !whole.is_empty() || !fraction.is_empty();
    some_digits && digits_only(whole) && digits_only(fraction) && all_digits(unsigned(exponent))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The JSON spelling (RFC 8259 section 6) of a core-schema number. A valid one stays as it was written.
fn json_number(text: &str) -> Result<String, NumberFault> {
    if text.len() > NUMBER_BYTES_MAX {
        return Err(NumberFault::TooLong);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let value = u128::from_str_radix(digits, radix).map_err(|_| NumberFault::TooLong)?;
            return Ok(value.to_string());
        }
    }
    let body = unsigned(text);
    if body.eq_ignore_ascii_case(".inf") || body.eq_ignore_ascii_case(".nan") {
        return Err(NumberFault::NotFinite);
    }
    let at = body.find(['e', 'E']).unwrap_or(body.len());
    let (mantissa, exponent) = body.split_at(at);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let sign = if text.starts_with('-') { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(format!("{sign}{whole}{point}{fraction}{exponent}"))
}

/// Why a decimal is not a whole number of its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalFault {
    Negative,
    /// It has more decimals than the unit carries.
    TooFine,
    TooBig,
}

/// `number` × 10^`places`, exactly. `number` is in JSON's spelling.
pub fn decimal(number: &str, places: u32) -> Result<u128, DecimalFault> {
    let body = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, exponent) = body.split_once(['e', 'E']).unwrap_or((body, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    if body.len() < number.len() {
        return Err(DecimalFault::Negative);
    }
    let out_of_range = if exponent.starts_with('-') { DecimalFault::TooFine } else { DecimalFault::TooBig };
    let exponent: i32 = exponent.parse().map_err(|_| out_of_range)?;
    let zeros_behind = digits.len() - digits.trim_end_matches('0').len();
    // Both lengths are at most NUMBER_BYTES_MAX, so only the exponent can be large.
    let shift = exponent
        .saturating_add_unsigned(places)
        .saturating_add_unsigned(u32::try_from(zeros_behind).unwrap_or(u32::MAX))
        .saturating_sub_unsigned(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
    let shift = u32::try_from(shift).map_err(|_| DecimalFault::TooFine)?;
    let value: u128 = significant.parse().map_err(|_| DecimalFault::TooBig)?;
    let scale = 10u128.checked_pow(shift).ok_or(DecimalFault::TooBig)?;
    value.checked_mul(scale).ok_or(DecimalFault::TooBig)
}

/// Longer than any number a field takes, and short enough that arithmetic on its text stays small.
const NUMBER_BYTES_MAX: usize = 64;
