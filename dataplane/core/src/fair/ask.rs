//! What comes into the queue, what comes out, and the words for what may happen between.

use std::time::Duration;

use proto_core::model::Qos;
use proto_core::units::Moment;

/// How much service something is, in tenths of a token of uncached input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Charge(pub u64);

/// What tokens weigh against each other, in tenths. Set to ratios of prices, fair shares are shares of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tariff {
    pub uncached: u32,
    pub cached: u32,
    pub output: u32,
}

impl Tariff {
    /// Output costs twice the input (Sheng et al., OSDI 2024), input from a cache a tenth.
    pub const DEFAULT: Tariff = Tariff { uncached: 10, cached: 1, output: 20 };

    /// Counts above [`TOKENS_MAX`] are taken as that.
    pub fn charge(&self, uncached: u64, cached: u64, output: u64) -> Charge {
        let part = |tokens: u64, each: u32| tokens.min(TOKENS_MAX) * u64::from(each);
        let sum = part(uncached, self.uncached).saturating_add(part(cached, self.cached));
        Charge(sum.saturating_add(part(output, self.output)))
    }
}

/// One request that wants to wait.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The tenant's identity, well mixed (a hash of its name): tenants past the limit share flows by it.
    pub tenant: u64,
    /// The tenant's share, 1 to 1000; 0 is taken as 1.
    pub weight: u32,
    /// The session or run it belongs to, within the tenant.
    pub session: u64,
    pub band: Qos,
    /// Input plus reserved output.
    pub charge: Charge,
    /// What it takes of the upstream's window of tokens in flight.
    pub need_tokens: u64,
    /// After it the request is not worth starting.
    pub deadline: Moment,
    /// What the payload holds in memory.
    pub bytes: u32,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) at: u32,
    pub(super) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The tenant already has as much of the queue as is left over: others must find room.
    Crowded,
    /// It would not be its turn before its deadline.
    Late { expected_wait: Duration },
}

/// Why a request left the queue without being granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody waits for it any more.
    Gone,
    /// Its deadline passed.
    Late,
    /// It waited longer than any request may.
    Aged,
}

/// What the owner knows of the upstream at the moment of choosing.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub in_flight: u32,
    pub limit: u32,
    /// Whether so many tokens still fit the window. One larger than the window must fit an idle upstream.
    pub fits: &'a dyn Fn(u64) -> bool,
    /// Whether a tenant's prefixes are likely in the upstream's cache. Asked only with some slack set.
    pub is_warm: &'a dyn Fn(u64) -> bool,
}

/// Who is next; for [`take`](super::FairQueue::take).
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    pub(super) ticket: Ticket,
    /// By its band's guaranteed minimum.
    pub(super) is_due: bool,
    pub(super) is_starved: bool,
    pub need_tokens: u64,
    pub band: Qos,
}

#[must_use = "a share that is not settled stays charged in full"]
#[derive(Debug)]
pub struct Granted<T> {
    pub payload: T,
    pub share: Share,
    pub waited: Duration,
}

/// What a granted request was charged. It is settled exactly once, when the request has ended.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub(super) flow: u32,
    pub(super) weight: u32,
    pub(super) band: Qos,
    pub(super) flow_epoch: u32,
    pub(super) band_epoch: u32,
    pub(super) session: u32,
    /// Which session of that place.
    pub(super) session_number: u64,
    pub(super) charged: u64,
}

impl Share {
    pub fn charged(&self) -> Charge {
        Charge(self.charged)
    }

    /// This share after `more`: to be kept by its holder when the queue is told to extend it.
    pub fn extended(self, more: Charge) -> Share {
        Share { charged: self.charged.saturating_add(more.0), ..self }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Requests that wait.
    pub items_max: u32,
    /// Bytes their payloads hold.
    pub bytes_max: u64,
    /// Longest wait, whatever the deadline.
    pub age_max: Duration,
    /// Tenants with a flow of their own, those away but remembered included; more share flows by hash.
    pub tenants_max: u32,
    /// Sessions remembered; at least as many as may wait.
    pub sessions_max: u32,
    /// How far above the least served a tenant may be and still be preferred for a warm cache. 0: never.
    pub slack: Charge,
    /// A session's attained service counts half after this.
    pub half_life: Duration,
    /// Of the hashes of tables.
    pub seed: u64,
}

impl Settings {
    pub const DEFAULT: Settings = Settings {
        items_max: ITEMS_MAX,
        bytes_max: BYTES_MAX,
        age_max: AGE_MAX,
        tenants_max: TENANTS_MAX,
        sessions_max: 2 * ITEMS_MAX,
        slack: Charge(0),
        half_life: HALF_LIFE,
        seed: 0,
    };
}

/// What happened since the queue began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub enqueued: u64,
    pub granted: u64,
    /// Left without a grant: gone, late or aged.
    pub dropped: u64,
    pub refused_full: u64,
    pub refused_crowded: u64,
    pub refused_late: u64,
    /// Grants to a request that waited past the starvation threshold before others of its tenant.
    pub starved: u64,
    /// Grants past a band's hold-back, by its guaranteed minimum.
    pub guaranteed: u64,
    /// Requests that went to a shared flow.
    pub hashed: u64,
}

/// Beyond any context window; keeps sums of a request far from the range's end.
pub const TOKENS_MAX: u64 = 1 << 32;
/// A start costs at least one token: requests said to be free would otherwise always be first.
pub const CHARGE_MIN: Charge = Charge(10);
pub const WEIGHT_MAX: u32 = 1000;
/// At 100 answers a second, more than a minute and a half of waiting.
const ITEMS_MAX: u32 = 10_000;
/// Waiting bodies of one upstream.
const BYTES_MAX: u64 = 256 << 20;
/// Nobody waits longer for a first token than the path's default timeout.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Exact for this many; a shared flow is fair to its tenants together.
const TENANTS_MAX: u32 = 10_000;
/// As common schedulers of programs use: a run of minutes yields, one of an hour ago is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(60);
