//! The only place that asks the system what time it is.

#[cfg(feature = "http3")]
use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "http3")]
use http::HeaderValue;
use proto_core::units::Moment;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, on the monotonic clock of this process.
pub fn now() -> Moment {
    Moment(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// For timers.
pub fn instant(moment: Moment) -> tokio::time::Instant {
    let at = ORIGIN.checked_add(Duration::from_nanos(moment.0));
    // "Never" is further than any clock goes; a day is far enough for a timer that is looked at again.
    at.unwrap_or_else(|| Instant::now() + FAR).into()
}

/// Seconds since 1970, for people and for `created` fields.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds since 1970, for what others compare with their own clocks.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The same as the value of `date` (RFC 9110 section 5.6.7), written once a second by each thread.
#[cfg(feature = "http3")]
pub fn date() -> HeaderValue {
    thread_local! {
        static WRITTEN: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = unix_seconds();
    WRITTEN.with_borrow_mut(|written| match written {
        Some((at, date)) if *at == now => date.clone(),
        _ => {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            let date = HeaderValue::try_from(text).expect("a date is letters and digits");
            *written = Some((now, date.clone()));
            date
        }
    })
}

const FAR: Duration = Duration::from_secs(86_400);
