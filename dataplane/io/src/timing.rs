//! When an exchange reached which point, for histograms and headers.

use proto_core::units::Moment;

use crate::clock;
use crate::worker::Worker;

/// One exchange's clock readings.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub arrived: Moment,
}

impl Timing {
    /// The request is decided and about to be dispatched.
    pub fn on_dispatch(&self, worker: &Worker) -> u64 {
        let micros = u64::try_from((clock::now() - self.arrived).as_micros()).unwrap_or(u64::MAX);
        worker.tally.overhead_us.record(micros);
        micros
    }

    /// The first byte of its answer came.
    pub fn on_first_byte(&self, worker: &Worker, at: Moment) {
        worker.tally.first_token_ms.record(millis(at - self.arrived));
    }

    /// Its answer is out.
    pub fn on_end(&self, worker: &Worker) {
        worker.tally.latency_ms.record(millis(clock::now() - self.arrived));
    }
}

/// Whole ones.
pub fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
