//! Personal data and secrets in text and in JSON: found by their shape, replaced by a word that says what
//! stood there. Shapes only, so it knows no names and no addresses; and rather too few than too many, since
//! what it replaces is gone: a number without its usual separators is left alone.
//!
//! Reads each text once from left to right.

use std::borrow::Cow;

use serde_json::Value;

mod numbers;

/// How many of each were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub emails: u64,
    pub phones: u64,
    pub ssns: u64,
    pub cards: u64,
    /// Values whose name says that nobody should keep them.
    pub secrets: u64,
}

impl Found {
    pub fn total(self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }

    /// Each kind with its count, zeros included.
    pub fn kinds(self) -> [(&'static str, u64); 5] {
        [
            ("email", self.emails),
            ("phone", self.phones),
            ("ssn", self.ssns),
            ("credit_card", self.cards),
            ("secret", self.secrets),
        ]
    }
}

/// The text without personal data; counts what was there.
pub fn text<'a>(input: &'a str, found: &mut Found) -> Cow<'a, str> {
    match numbers::redacted(input, found) {
        Cow::Borrowed(same) => emails(same, found),
        Cow::Owned(changed) => match emails(&changed, found) {
            Cow::Borrowed(_) => Cow::Owned(changed),
            Cow::Owned(both) => Cow::Owned(both),
        },
    }
}

/// The same for every text inside a value, for card numbers that are numbers, and for values under names such
/// as `password`. Names themselves are kept: who puts personal data there breaks the shape of the object too.
///
/// Recursion is as deep as the value; serde_json reads at most 128 levels.
pub fn json(value: &mut Value, found: &mut Found) {
    match value {
        Value::String(content) => {
            if let Cow::Owned(changed) = text(content, found) {
                *content = changed;
            }
        }
        Value::Number(number) if number.is_u64() => {
            let digits = number.to_string();
            let mut seen = Found::default();
            if let Cow::Owned(masked) = text(&digits, &mut seen) {
                found.cards += seen.cards;
                *value = Value::String(masked);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| json(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match is_secret(name) && !field.is_null() {
                    true => {
                        found.secrets += 1;
                        *field = Value::String(SECRET.to_owned());
                    }
                    false => json(field, found),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `api_key`, `apiKey`, `API-Key`; not `max_tokens`.
fn is_secret(name: &str) -> bool {
    let letters = name.chars().filter(|letter| !['_', '-'].contains(letter));
    let plain: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    SECRET_NAMES.contains(&&*plain)
}

/// Addresses of mail (the usual ones of RFC 5321: no quotes, no comments, a domain with a dot).
fn emails<'a>(input: &'a str, found: &mut Found) -> Cow<'a, str> {
    let mut out = String::new();
    let mut kept = 0;
    for (at, _) in input.match_indices('@') {
        let Some((start, end)) = email(input, kept, at) else { continue };
        out.push_str(&input[kept..start]);
        out.push_str(EMAIL);
        found.emails += 1;
        kept = end;
    }
    if kept == 0 {
        return Cow::Borrowed(input);
    }
    out.push_str(&input[kept..]);
    Cow::Owned(out)
}

/// Where the address around an `@` begins, no earlier than `from`, and ends.
fn email(input: &str, from: usize, at: usize) -> Option<(usize, usize)> {
    let of_local = |one: char| one.is_alphanumeric() || "._%+-'".contains(one);
    let of_domain = |one: char| one.is_alphanumeric() || ".-".contains(one);
    let before = input.get(from..at)?;
    let local = &before[before.trim_end_matches(of_local).len()..];
    let local = local.trim_start_matches(['.', '\'']);
    let behind = &input[at + 1..];
    let domain = &behind[..behind.find(|one| !of_domain(one)).unwrap_or(behind.len())];
    let domain = domain.trim_end_matches(['.', '-']);
    let (name, top) = domain.rsplit_once('.')?;
    let is_domain = !name.is_empty() && !domain.starts_with('.') && !domain.contains("..");
    let is_top = top.chars().count() >= 2 && !top.chars().any(|one| one.is_ascii_digit());
    (!local.is_empty() && is_domain && is_top).then(|| (at - local.len(), at + 1 + domain.len()))
}

const EMAIL: &str = "[redacted-email]";
const SECRET: &str = "[redacted]";
/// Without `_` and `-`, in lower case.
const SECRET_NAMES: [&str; 6] = ["password", "secret", "token", "ssn", "creditcard", "apikey"];

#[cfg(test)]
mod tests;
