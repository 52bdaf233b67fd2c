//! Leaving without losing anyone: not ready, then no new connections, then an end to those there are, then
//! out.

use std::time::Duration;

/// What a data plane is doing, in this order and never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Not ready any more, still serving all that comes: balancers and clients take notice. Answers over
    /// HTTP/1 close their connection.
    Leaving,
    /// No new connections. GOAWAY to those there are, requests under way go on.
    Draining,
    /// Time is up: what still runs ends with an error its caller can read.
    Closing,
}

/// How long each takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Of `Leaving`: until balancers have noticed.
    pub delay: Duration,
    /// Of `Draining`: until the longest streams are done.
    pub grace: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { delay: Duration::from_secs(2), grace: Duration::from_secs(60) }
    }
}

/// Of `Closing`: until the last error is written.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
