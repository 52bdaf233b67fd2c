//! The only place that asks the system what time it is.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto_core::units::Moment;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, on the monotonic clock of this process.
pub fn now() -> Moment {
    Moment(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// For timers.
pub fn instant(moment: Moment) -> tokio::time::Instant {
    let at = ORIGIN.checked_add(std::time::Duration::from_nanos(moment.0));
    // "Never" is further than any clock goes; a day is far enough for a timer that is looked at again.
    at.unwrap_or_else(|| Instant::now() + FAR).into()
}

/// Seconds since 1970, for people and for `created` fields.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const FAR: std::time::Duration = std::time::Duration::from_secs(86_400);
