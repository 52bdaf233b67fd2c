//! How much an upstream is given at once, found from how it answers.
//!
//! One [`Limiter`] stands for one adapter × model. It belongs to one task, so nothing here is shared. It is
//! told what happened (`on_*`) and says two coupled limits: requests in flight and tokens in flight
//! ([`Limiter::limits`]). Beside it: what providers say about their own limits ([`headers`]), what an agent
//! says ([`AgentStatus`]), when a queue is too old ([`Watermark`]), and the window of one session
//! ([`SessionWindow`]).
//!
//! ```text
//!  Sample ──▶ signal: ttft / expected ──▶ window: ≥ 1 s, ≥ 20 samples ──▶ aimd | gradient ──▶ level R, T
//!  Loss ────────────────────────────────────────────────────────────────────────────────────▶ × 0.9
//!  Ceiling, AgentStatus ────────────────────────────────────────────── caps over what was learned ──▶ Limits
//! ```
//! It never queues, never counts what is in flight, never looks at a clock, and never cuts because whole
//! answers take longer: that measures their length. docs/concurrency.md has the formulas with their sources
//! and the figures.

mod acked;
mod agent;
mod aimd;
mod ceiling;
mod gradient;
pub mod headers;
mod level;
mod limiter;
mod session;
mod signal;
mod watermark;
mod window;

pub use agent::AgentStatus;
pub use ceiling::Ceiling;
pub use limiter::Limiter;
pub use session::{SessionSettings, SessionWindow};
pub use watermark::{Mark, Watermark, mark_ecn};

use std::time::Duration;

use proto_core::model::Concurrency;
use proto_core::units::Moment;

/// What the operator declares, and what earlier runs learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub kind: Concurrency,
    /// Requests in flight, at least 1; the limit found never passes it, and `Fixed` is exactly it.
    pub requests_max: u32,
    /// Tokens in flight; `None`: not limited until the upstream refuses for tokens.
    pub tokens_max: Option<u64>,
    /// Requests in flight to begin with and to return to when idle. Taken as 1 to `requests_max`.
    pub prior: u32,
}

/// What may be in flight at once. Zero only where a provider or an agent said so; there is then an end to it
/// or a next status. What is learned never falls below one, so that a probe gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub requests: u32,
    /// `u64::MAX`: not limited.
    pub tokens: u64,
}

/// Which of the two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    Requests,
    Tokens,
    Both,
}

impl Axis {
    pub(crate) fn is_requests(self) -> bool {
        self != Axis::Tokens
    }

    pub(crate) fn is_tokens(self) -> bool {
        self != Axis::Requests
    }
}

/// A request whose first token came, or, without a stream, whose answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it left this proxy for the upstream.
    pub dispatched_at: Moment,
    pub now: Moment,
    /// From `dispatched_at` to the first token, so without the wait in our own queue. `None` where the answer
    /// was not a stream: such a sample counts only as a request that was not lost.
    pub ttft: Option<Duration>,
    /// Prompt tokens the upstream had to read: without those its cache held.
    pub prompt_tokens_uncached: u64,
    /// Requests in flight when it was dispatched, with it.
    pub requests_in_flight: u32,
    /// Tokens in flight when it was dispatched, with its own.
    pub tokens_in_flight: u64,
    /// Which limit kept somebody waiting when it was dispatched.
    pub bound: Option<Axis>,
}

/// A request the upstream refused for load (429, 503, 529) or did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub dispatched_at: Moment,
    pub now: Moment,
    /// What the refusal names; [`Axis::Requests`] where it names nothing.
    pub what: Axis,
    /// As in [`Sample`].
    pub requests_in_flight: u32,
    pub tokens_in_flight: u64,
}
