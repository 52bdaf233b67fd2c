//! What a caller says about its own request: until when, for how much, how many at once, as part of what, how
//! urgent. Read from headers; every mistake is told, with the header and what it should look like. Never
//! grants anything: a caller can only ask for less than it may have.

use std::time::Duration;

use arrayvec::ArrayVec;
use proto_core::model::Qos;
use proto_core::units::Picodollars;

use super::permits::REQUESTS_MAX;
use super::window::Limits;

/// What the headers said. `None`: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    /// From the arrival of the request. Of this request only, never of its session.
    pub deadline: Option<Duration>,
    /// Of the session, where there is one, else of this request; so are the next two.
    pub tokens: Option<u64>,
    pub picodollars: Option<Picodollars>,
    pub parallel: Option<u32>,
    /// 1 to [`SESSION_BYTES_MAX`] visible characters.
    pub session: Option<&'a str>,
    pub qos: Option<Qos>,
}

/// The headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    Deadline,
    Tokens,
    UsdMicros,
    Parallel,
    Session,
    Qos,
}

impl Header {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Header::Deadline => "x-atp-deadline-ms",
            Header::Tokens => "x-atp-budget-tokens",
            Header::UsdMicros => "x-atp-budget-usd-micros",
            Header::Parallel => "x-atp-max-parallel",
            Header::Session => "x-atp-session",
            Header::Qos => "x-atp-qos",
        }
    }

    /// What its value should be, for the eyes of a caller whose is not.
    pub fn shape(self) -> &'static str {
        match self {
            Header::Deadline => "milliseconds, a whole number from 1 to 86400000",
            Header::Tokens => "tokens, a whole number from 1 to 1000000000000",
            Header::UsdMicros => "millionths of a US dollar, a whole number from 1 to 18446744073709",
            Header::Parallel => "requests, a whole number from 1 to 1000000",
            Header::Session => "a name of 1 to 128 visible ASCII characters",
            Header::Qos => "gold, silver or bronze",
        }
    }
}

/// Every header whose value is not what it should be.
pub type Mistakes = ArrayVec<Header, 6>;

impl<'a> Envelope<'a> {
    /// Reads the headers that `value_of` finds, by name in lower case.
    pub fn parse(value_of: impl Fn(&'static str) -> Option<&'a [u8]>) -> Result<Envelope<'a>, Mistakes> {
        let mut mistakes = Mistakes::new();
        let envelope = Envelope {
            deadline: read(&value_of, &mut mistakes, Header::Deadline, |text| {
                whole(text, DEADLINE_MS_MAX).map(Duration::from_millis)
            }),
            tokens: read(&value_of, &mut mistakes, Header::Tokens, |text| whole(text, TOKENS_MAX)),
            picodollars: read(&value_of, &mut mistakes, Header::UsdMicros, |text| {
                whole(text, USD_MICROS_MAX).map(|micros| Picodollars(micros * Picodollars::PER_MICRO))
            }),
            parallel: read(&value_of, &mut mistakes, Header::Parallel, |text| {
                u32::try_from(whole(text, REQUESTS_MAX.into())?).ok()
            }),
            session: read(&value_of, &mut mistakes, Header::Session, session),
            qos: read(&value_of, &mut mistakes, Header::Qos, |text| {
                [Qos::Gold, Qos::Silver, Qos::Bronze].into_iter().find(|qos| qos.as_str() == text)
            }),
        };
        if mistakes.is_empty() { Ok(envelope) } else { Err(mistakes) }
    }

    /// What the request gets of a tenant that may have `best`: never better, and that where it does not ask.
    pub fn qos(&self, best: Qos) -> Qos {
        self.qos.map_or(best, |asked| asked.min(best))
    }

    /// As a window. A session's is narrowed by it ([`Limits::narrowed`]), never widened.
    pub fn limits(&self) -> Limits {
        Limits { calls: self.parallel, tokens: self.tokens, picodollars: self.picodollars }
    }
}

fn read<'a, T>(
    value_of: &impl Fn(&'static str) -> Option<&'a [u8]>,
    mistakes: &mut Mistakes,
    header: Header,
    parse: impl Fn(&'a str) -> Option<T>,
) -> Option<T> {
    let bytes = value_of(header.name())?;
    let value = std::str::from_utf8(bytes).ok().and_then(parse);
    if value.is_none() {
        mistakes.push(header);
    }
    value
}

/// Digits only: no sign, no point, no blank. From one to `max`.
fn whole(text: &str, max: u64) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| is_digits)?;
    (1..=max).contains(&value).then_some(value)
}

fn session(text: &str) -> Option<&str> {
    let is_sound =
        (1..=SESSION_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_sound.then_some(text)
}

/// A day: nothing that waits longer has a caller.
pub const DEADLINE_MS_MAX: u64 = 86_400_000;
/// As of a tenant's window.
pub const TOKENS_MAX: u64 = 1_000_000_000_000;
/// The end of the range of picodollars.
pub const USD_MICROS_MAX: u64 = u64::MAX / Picodollars::PER_MICRO;
/// Room for two UUIDs and some words; short enough to be a key in a map of many.
pub const SESSION_BYTES_MAX: usize = 128;

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
