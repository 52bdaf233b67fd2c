//! A route: which requests it takes, whom it may ask, how it chooses, how long it waits.

use std::time::Duration;

use super::Name;
use crate::units::Permille;

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: Name,
    pub matches: Match,
    /// 1 to [`CANDIDATES_MAX`]; each names an adapter's model that exists in the set.
    pub candidates: Vec<Candidate>,
    pub strategy: Strategy,
    pub fallback: Fallback,
    pub retry: Retry,
    pub timeout: Timeout,
}

/// Which requests a route takes. `None` is `*`: any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The `model` of the request; `auto` takes requests that leave the choice to the proxy.
    pub model: Option<Box<str>>,
    pub task_type: Option<Box<str>>,
    pub tenant: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub adapter: Name,
    pub model: Name,
    /// Share under `weighted`. Zero: only as a fallback.
    pub weight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Draw by weight; the others follow by weight.
    #[default]
    Weighted,
    /// The cheapest that meets quality, safety and latency; dearer ones follow.
    CheapestAcceptable,
    /// Drawn by weight until a learner's weights arrive.
    Ucb,
    /// Drawn by weight until a learner's weights arrive.
    Thompson,
}

impl Strategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Weighted => "weighted",
            Strategy::CheapestAcceptable => "cheapest_acceptable",
            Strategy::Ucb => "ucb",
            Strategy::Thompson => "thompson",
        }
    }
}

/// When the next of the plan is tried. Never after the first byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// Only what certainly did no work: connect failures, REFUSED_STREAM, 429, 503, 529.
    #[default]
    OnRefusal,
    /// Also after the request was sent: resets, 5xx, first-token timeouts. May do the work twice; the tenant
    /// pays once.
    OnError,
    /// Never.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, 1 to 8.
    pub attempts: u8,
    /// Retries a thousand requests may cause, over the floor of [`Retry::FLOOR`].
    pub budget: Permille,
}

impl Retry {
    /// Retries always allowed in a burst, so that a quiet route can fall back at all.
    pub const FLOOR: u32 = 10;
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 3, budget: Permille(200) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// From dispatch to the first token of a stream (to the head of an answer that is not streamed: `total`).
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// From the arrival of the request to the end of its answer.
    pub total: Duration,
}

impl Default for Timeout {
    fn default() -> Timeout {
        Timeout {
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// Candidates a route may have: a plan lives on the stack.
pub const CANDIDATES_MAX: usize = 16;
