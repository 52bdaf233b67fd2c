//! What providers say of their limits in the headers of an answer, as ceilings. Names differ by provider,
//! shapes too: durations such as `6m0s` and `20ms` (OpenAI and others), RFC 3339 times (Anthropic),
//! seconds or a date (`Retry-After`, RFC 9110 section 10.2.3). What cannot be read says nothing: a header is
//! a hint, never a reason to fail an answer.
//!
//! "Remaining" counts what may still be sent until the reset. It is taken as the most in flight until then:
//! stricter than needed while much remains of what is in flight, exact where it matters, at zero.

use std::time::Duration;

use arrayvec::ArrayVec;
use proto_core::units::Moment;

use super::Ceiling;

mod time;

/// The ceilings in these headers: a pause, requests and tokens, each at most once. Names in any case.
/// `unix_now` is the wall clock in seconds, for headers that name a time and not a span.
pub fn ceilings<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    now: Moment,
    unix_now: u64,
) -> ArrayVec<Ceiling, 3> {
    let mut found = Found::default();
    for (name, value) in headers {
        if let Some((key, value)) = key_of(name).zip(text(value)) {
            found.on_header(key, value, unix_now);
        }
    }
    found.ceilings(now)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    RetryAfter,
    RetryAfterMs,
    /// Which of [`Found::counts`].
    Remaining(usize),
    Reset(usize),
}

/// Requests, tokens, and what Anthropic counts apart.
const REQUESTS: usize = 0;
const TOKENS: usize = 1;
const INPUT_TOKENS: usize = 2;
const OUTPUT_TOKENS: usize = 3;
const COUNTS: usize = 4;

fn key_of(name: &str) -> Option<Key> {
    let known = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    known.map(|(_, key)| *key)
}

fn text(value: &[u8]) -> Option<&str> {
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::trim)
}

#[derive(Debug, Default)]
struct Found {
    retry_after: Option<Duration>,
    retry_after_ms: Option<Duration>,
    /// Remaining, and the time until its reset.
    counts: [(Option<u64>, Option<Duration>); COUNTS],
}

impl Found {
    fn on_header(&mut self, key: Key, value: &str, unix_now: u64) {
        match key {
            Key::RetryAfter => self.retry_after = time::span_or_date(value, unix_now),
            Key::RetryAfterMs => {
                self.retry_after_ms = time::seconds(value).map(|thousands| thousands / 1000);
            }
            Key::Remaining(which) => self.counts[which].0 = value.parse().ok(),
            Key::Reset(which) => self.counts[which].1 = time::span_or_date(value, unix_now),
        }
    }

    fn ceilings(&self, now: Moment) -> ArrayVec<Ceiling, 3> {
        let end = |span: Option<Duration>| now + span.unwrap_or(RESET_DEFAULT);
        let mut ceilings = ArrayVec::new();
        // The one in milliseconds is the same in finer steps.
        if let Some(span) = self.retry_after_ms.or(self.retry_after).filter(|span| !span.is_zero()) {
            ceilings.push(Ceiling { requests: Some(0), tokens: None, until: now + span });
        }
        if let (Some(requests), reset) = self.counts[REQUESTS] {
            let requests = Some(u32::try_from(requests).unwrap_or(u32::MAX));
            ceilings.push(Ceiling { requests, tokens: None, until: end(reset) });
        }
        let tokens = [TOKENS, INPUT_TOKENS, OUTPUT_TOKENS].map(|which| self.counts[which]);
        let least = tokens.into_iter().filter_map(|(left, reset)| Some((left?, reset))).min();
        if let Some((tokens, reset)) = least {
            ceilings.push(Ceiling { requests: None, tokens: Some(tokens), until: end(reset) });
        }
        ceilings
    }
}

const NAMES: [(&str, Key); 14] = [
    ("retry-after", Key::RetryAfter),
    ("retry-after-ms", Key::RetryAfterMs),
    ("x-ratelimit-remaining-requests", Key::Remaining(REQUESTS)),
    ("x-ratelimit-remaining-tokens", Key::Remaining(TOKENS)),
    ("x-ratelimit-reset-requests", Key::Reset(REQUESTS)),
    ("x-ratelimit-reset-tokens", Key::Reset(TOKENS)),
    ("anthropic-ratelimit-requests-remaining", Key::Remaining(REQUESTS)),
    ("anthropic-ratelimit-requests-reset", Key::Reset(REQUESTS)),
    ("anthropic-ratelimit-tokens-remaining", Key::Remaining(TOKENS)),
    ("anthropic-ratelimit-tokens-reset", Key::Reset(TOKENS)),
    ("anthropic-ratelimit-input-tokens-remaining", Key::Remaining(INPUT_TOKENS)),
    ("anthropic-ratelimit-input-tokens-reset", Key::Reset(INPUT_TOKENS)),
    ("anthropic-ratelimit-output-tokens-remaining", Key::Remaining(OUTPUT_TOKENS)),
    ("anthropic-ratelimit-output-tokens-reset", Key::Reset(OUTPUT_TOKENS)),
];

/// What remains without a word on until when: as long as a window of the limiter.
const RESET_DEFAULT: Duration = Duration::from_secs(1);
/// The longest of these values, a date, has 35 characters.
const VALUE_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests;
