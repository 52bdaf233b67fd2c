//! The time sessions are told: from the runtime's clock.

use std::sync::OnceLock;
use std::time::Duration;

use proto_core::units::Moment;
use tokio::time::Instant;

pub fn now() -> Moment {
    Moment(0) + origin().elapsed()
}

pub fn instant(at: Moment) -> Instant {
    origin() + Duration::from_nanos(at.0)
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
