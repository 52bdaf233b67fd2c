//! Wall time: what expiry and audit events are counted in, since both must outlive the process. Never used to
//! measure how long something took; the system may set it back.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970 UTC, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub u64);

impl Wall {
    /// Saturates.
    pub fn after(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// From `2026-11-22`, `2026-11-22T17:47:34Z`, `2026-11-22T17:47:34.123Z` (RFC 3339 in UTC; a date is its
    /// first moment) or whole seconds since 1970.
    pub fn parse(text: &str) -> Option<Wall> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse::<u64>().ok()?.checked_mul(1000).map(Wall);
        }
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time.strip_suffix('Z')?)),
            None => (text, None),
        };
        let [year, month, day] = numbers::<3>(date, '-', &[4, 2, 2])?;
        if year < 1970 || !(1..=12).contains(&month) || day == 0 || day > days_of_month(year, month) {
            return None;
        }
        let ms = time.map_or(Some(0), ms_of_day)?;
        days_since_1970(year, month, day).checked_mul(DAY_MS)?.checked_add(ms).map(Wall)
    }
}

/// RFC 3339 in UTC, with milliseconds.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / DAY_MS, self.0 % DAY_MS);
        let (year, month, day) = date_of(days);
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
    }
}

fn ms_of_day(time: &str) -> Option<u64> {
    let (whole, fraction) = match time.split_once('.') {
        Some((whole, fraction)) => (whole, numbers::<1>(fraction, '.', &[3])?[0]),
        None => (time, 0),
    };
    let [hours, minutes, seconds] = numbers::<3>(whole, ':', &[2, 2, 2])?;
    (hours < 24 && minutes < 60 && seconds < 60)
        .then(|| ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction)
}

/// Numbers of given widths between separators, and nothing else.
fn numbers<const N: usize>(text: &str, separator: char, widths: &[usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut out = [0; N];
    for (number, width) in out.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != *width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Years counted from March put the leap day last, so that the days before a month are a line (Fliegel and
/// van Flandern, CACM 11(10), 1968, in the proleptic Gregorian calendar).
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    before_year + before_month + (day - 1) - DAYS_TO_1970
}

/// The reverse of [`days_since_1970`].
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    // 400 years are 146,097 days; within them a century lacks a leap day, but for the last.
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const DAY_MS: u64 = 86_400_000;
/// From the first of March of year 0.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_read_and_written() {
        let table = [
            ("1970-01-01", 0, "1970-01-01T00:00:00.000Z"),
            ("2000-02-29T23:59:59Z", 951_868_799_000, "2000-02-29T23:59:59.000Z"),
            ("2000-03-01", 951_868_800_000, "2000-03-01T00:00:00.000Z"),
            ("2026-11-22T17:47:34.123Z", 1_795_369_654_123, "2026-11-22T17:47:34.123Z"),
            ("2100-03-01", 4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            ("1795369654", 1_795_369_654_000, "2026-11-22T17:47:34.000Z"),
        ];
        for (text, ms, shown) in table {
            assert_eq!(Wall::parse(text), Some(Wall(ms)), "{text}");
            assert_eq!(Wall(ms).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2100-02-29",
            "2026-1-1",
            "1969-12-31",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:00:00",
            "2026-11-22T10:00:00+01:00",
            "2026-11-22T10:00:00.1Z",
            "99999999999999999999",
            "-1",
            "2026-11-22-01",
        ] {
            assert_eq!(Wall::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(ms in 0..253_402_300_800_000_u64) {
            prop_assert_eq!(Wall::parse(&Wall(ms).to_string()), Some(Wall(ms)));
        }

        #[test]
        fn later_moments_are_later_texts(
            one in 0..253_402_300_800_000_u64,
            other in 0..253_402_300_800_000_u64,
        ) {
            prop_assert_eq!(Wall(one).to_string().cmp(&Wall(other).to_string()), one.cmp(&other));
        }
    }
}
