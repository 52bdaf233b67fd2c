//! Spans and dates as they stand in headers. Pure reading; the wall clock is an argument.

use std::time::Duration;

/// `20`, `1.5`, `6m0s`, `20ms`, an RFC 3339 time or an HTTP date; a time that has passed is no span at all.
pub fn span_or_date(value: &str, unix_now: u64) -> Option<Duration> {
    seconds(value).or_else(|| span(value)).or_else(|| {
        let unix = rfc_3339(value).or_else(|| http_date(value))?;
        Some(Duration::from_secs(unix.saturating_sub(unix_now)))
    })
}

/// A number of seconds without a sign, to the nanosecond; longer than a century says nothing.
pub fn seconds(value: &str) -> Option<Duration> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = value.parse().ok().filter(|_| is_number)?;
    (seconds <= SECONDS_MAX).then(|| Duration::from_secs_f64(seconds))
}

/// Numbers with units, one after the other: `1h2m3.5s`, `20ms`.
fn span(value: &str) -> Option<Duration> {
    let (mut rest, mut total) = (value, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|one: char| one.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(seconds(number)?.mul_f64(*factor))?;
        rest = after;
    }
    (!value.is_empty()).then_some(total)
}

/// Seconds since 1970 of `2026-01-02T03:04:05Z`, with or without a fraction, which is dropped, or an offset.
fn rfc_3339(value: &str) -> Option<u64> {
    if !value.is_ascii() || value.len() < 20 {
        return None;
    }
    let (date, rest) = value.split_at(10);
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..])?);
    let is_shaped = &date[4..5] == "-" && &date[7..8] == "-" && matches!(&rest[..1], "T" | "t" | " ");
    let time = clock(&rest[1..9]).filter(|_| is_shaped)?;
    let zone = rest[9..].trim_start_matches(|one: char| one == '.' || one.is_ascii_digit());
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = number(&zone[1..3])? * 60 + number(&zone[4..])?;
            if *sign == b'+' { -60 * minutes } else { 60 * minutes }
        }
        _ => return None,
    };
    u64::try_from(days(year, month, day)? * DAY_S + time + offset).ok()
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the one form RFC 9110 lets a sender write.
fn http_date(value: &str) -> Option<u64> {
    let (_, date) = value.split_once(", ")?;
    let mut parts = date.split(' ');
    let day = number(parts.next()?)?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let year = number(parts.next()?)?;
    let time = clock(parts.next()?)?;
    let is_gmt = parts.next() == Some("GMT") && parts.next().is_none();
    u64::try_from(days(year, month, day).filter(|_| is_gmt)? * DAY_S + time).ok()
}

/// Seconds of `08:49:37`; a leap second is the next one.
fn clock(value: &str) -> Option<i64> {
    let mut parts = value.split(':');
    let (hour, minute, second) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    let is_valid = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    is_valid.then_some((hour * 60 + minute) * 60 + second)
}

/// One to four digits.
fn number(digits: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Days since 1970 in the Gregorian calendar, for years from 0. Years are taken to begin in March, so that
/// the leap day is the last of its year; the months from March then have 153 days in every five.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(365 * year + leap_days + day_of_year - DAYS_TO_1970)
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: i64 = 86_400;
/// From the first of March of the year 0 to the first of January 1970.
const DAYS_TO_1970: i64 = 719_468;
/// A century.
const SECONDS_MAX: f64 = 3.2e9;
