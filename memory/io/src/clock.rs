//! The only place that asks the system what time it is.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use memory_core::wall::Wall;
use proto_core::units::Moment;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, on the monotonic clock of this process.
pub fn now() -> Moment {
    Moment(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Now, as calendars have it.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
