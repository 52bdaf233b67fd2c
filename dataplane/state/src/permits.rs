//! How much an upstream is given at once: requests, and the tokens they hold.
//!
//! One word holds what is in flight and whether somebody waits; the bounds are another and may change at any
//! time. Bounds lowered below what is in flight drain: nothing is taken back, nothing is granted until enough
//! has come home. Never waits and never wakes: where an answer says that somebody waits, the caller wakes the
//! queue's owner ([`crate::wake`]).
//!
//! ```text
//! whoever comes:  try_acquire; else: push into the inbox, set_waiters, wake the owner
//! whoever leaves: release; wake the owner where it says so
//! the owner:      register its waker, then: move the inbox into the queue, acquire_for_queue and grant
//!                 while that works; queue empty: clear_waiters and look at the inbox again, and where
//!                 there is one: set_waiters, from the beginning
//! ```
//!
//! Nobody is forgotten, because whoever makes room and whoever waits both write the one word. One who waits
//! has set the bit before the owner looks for room. Who makes room reads the bit in the very step that makes
//! it (a change of bounds writes the word once more for that). The word has one order of writes: either room
//! comes after the bit and its maker is told, or before, and then the owner's look sees it.

use dataplane_core::admit::permits::{Bounds, Load, REQUESTS_MAX, TOKENS_MAX};
use proto_core::units::Permille;

use crate::sync::{AtomicU64, Ordering};

/// Permits of one upstream. Requests: at most [`REQUESTS_MAX`]; tokens: at most [`TOKENS_MAX`].
#[derive(Debug)]
pub struct Permits {
    /// [`Load`].
    load: AtomicU64,
    /// [`Bounds`].
    bounds: AtomicU64,
}

impl Permits {
    /// For `requests` at once with `tokens` between them; `None`: tokens are not bounded. Larger numbers
    /// mean the ends of their ranges.
    pub fn new(requests: u32, tokens: Option<u64>) -> Permits {
        let bounds = Bounds { requests, tokens };
        Permits { load: AtomicU64::new(Load::default().pack()), bounds: AtomicU64::new(bounds.pack()) }
    }

    /// Takes a permit with `tokens`, or says there is none; also while somebody waits. `share` is how much of
    /// the requests this one may fill.
    #[must_use]
    pub fn try_acquire(&self, tokens: u64, share: Permille) -> bool {
        self.acquire(|load, bounds| load.on_arrival(bounds, tokens, share))
    }

    /// The same for one whose turn in the queue it is.
    #[must_use]
    pub fn acquire_for_queue(&self, tokens: u64, share: Permille) -> bool {
        self.acquire(|load, bounds| load.on_turn(bounds, tokens, share))
    }

    fn acquire(&self, step: impl Fn(Load, Bounds) -> Option<Load>) -> bool {
        // Order: acquire, so that an owner who reads a resizer's write of this word also reads its bounds.
        let mut word = self.load.load(Ordering::Acquire);
        loop {
            // Order: relaxed. Bounds are advice that takes effect at the next look; what must not be missed
            // is ordered by the word.
            let bounds = Bounds::unpack(self.bounds.load(Ordering::Relaxed));
            let Some(next) = step(Load::unpack(word), bounds) else { return false };
            // Order: acquire pairs with the release in `give_back`, so that whoever takes a permit sees what
            // its last holder did to cells beside it.
            match self.load.compare_exchange_weak(word, next.pack(), Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// A permit holds `tokens` more than it was taken with; never refused. Says how many were counted: all,
    /// but at the end of the range. Those belong to the permit from now on and go back with it.
    #[must_use]
    pub fn extend(&self, tokens: u64) -> u64 {
        // Order: relaxed. The word is the whole state; more load makes room for nobody.
        let mut word = self.load.load(Ordering::Relaxed);
        loop {
            let load = Load::unpack(word);
            let next = load.on_extend(tokens);
            // Order: relaxed, see above; a write between a release and an acquire keeps their pairing.
            match self.load.compare_exchange_weak(word, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next.tokens - load.tokens,
                Err(now) => word = now,
            }
        }
    }

    /// A permit holds `tokens` less, of those it was taken with or extended by. True where somebody waits:
    /// wake the owner.
    #[must_use]
    pub fn shrink(&self, tokens: u64) -> bool {
        self.give_back(tokens)
    }

    /// Gives a permit back with the `tokens` it holds. Exactly once for each that was taken. True where
    /// somebody waits: wake the owner.
    #[must_use]
    pub fn release(&self, tokens: u64) -> bool {
        self.give_back(Load::one(tokens))
    }

    fn give_back(&self, part: u64) -> bool {
        // Order: release pairs with the acquire in `acquire`; acquire, so that a caller who is told of a
        // waiter and wakes the owner does so after what that waiter did.
        let before = self.load.fetch_sub(part, Ordering::AcqRel);
        debug_assert!(
            Load::unpack(before).tokens >= part & TOKENS_MAX && before & !Load::WAITERS >= part,
            "a permit is given back once, with what it holds"
        );
        before & Load::WAITERS != 0
    }

    /// Somebody waits: from now on nobody passes [`Permits::try_acquire`]. After the waiter is where the
    /// owner looks, before the owner is woken.
    pub fn set_waiters(&self) {
        // Order: release, so that an owner who clears this bit and looks again sees the waiter; acquire, so
        // that an owner woken by this thread sees every bound set before the bit.
        self.load.fetch_or(Load::WAITERS, Ordering::AcqRel);
    }

    /// Nobody waits any more. The owner only, and it must look for new waiters once more afterwards: one that
    /// came before this call has had its bit cleared.
    pub fn clear_waiters(&self) {
        // Order: acquire pairs with `set_waiters`, see there.
        self.load.fetch_and(!Load::WAITERS, Ordering::AcqRel);
    }

    /// New bounds, from the newest snapshot or from what finds limits. True where somebody waits: wake the
    /// owner.
    #[must_use]
    pub fn set_limits(&self, requests: u32, tokens: Option<u64>) -> bool {
        // Order: relaxed; the write of the word below carries it.
        self.bounds.store(Bounds { requests, tokens }.pack(), Ordering::Relaxed);
        // Order: a write, although it changes nothing: a mere read could miss the bit of one who in turn
        // misses the bounds. Release carries the bounds to whoever sees the word after this.
        self.load.fetch_or(0, Ordering::AcqRel) & Load::WAITERS != 0
    }

    /// Requests, for metrics: may be stale by the time it is read.
    pub fn in_flight(&self) -> u32 {
        self.now().requests
    }

    /// Tokens, for metrics.
    pub fn tokens_in_flight(&self) -> u64 {
        self.now().tokens
    }

    /// Of requests and tokens, from one look.
    pub fn now(&self) -> Load {
        // Order: relaxed, numbers for people and for what finds limits.
        Load::unpack(self.load.load(Ordering::Relaxed))
    }

    /// Of requests.
    pub fn limit(&self) -> u32 {
        self.bounds().requests
    }

    /// Of tokens; `None`: not bounded.
    pub fn tokens_limit(&self) -> Option<u64> {
        self.bounds().tokens
    }

    fn bounds(&self) -> Bounds {
        // Order: relaxed, numbers for people.
        Bounds::unpack(self.bounds.load(Ordering::Relaxed))
    }
}

// The word has room for every request a document may allow.
const _: () = assert!(REQUESTS_MAX < 1 << 20 && TOKENS_MAX == (1 << 43) - 1);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ALL: Permille = Permille(1000);

    #[test]
    fn what_is_taken_extended_and_shrunk_comes_home_to_nothing() {
        let permits = Permits::new(2, Some(100));
        assert!(permits.try_acquire(40, ALL));
        assert!(permits.try_acquire(60, ALL));
        assert_eq!(permits.extend(64), 64);
        assert_eq!((permits.in_flight(), permits.tokens_in_flight()), (2, 164));
        assert!(!permits.shrink(4));
        assert!(!permits.release(40));
        assert!(!permits.try_acquire(0, ALL), "still above the bound of tokens");
        assert!(!permits.release(120));
        assert_eq!(permits.now(), Load::default());
    }

    #[test]
    fn an_extension_past_the_range_counts_what_there_is_room_for_and_takes_no_more_back() {
        let permits = Permits::new(2, None);
        assert!(permits.try_acquire(1, ALL));
        assert_eq!(permits.extend(u64::MAX), TOKENS_MAX - 1);
        assert_eq!(permits.extend(1), 0);
        assert!(!permits.release(TOKENS_MAX));
        assert_eq!(permits.now(), Load::default());
    }

    #[test]
    fn makers_of_room_hear_of_those_who_wait() {
        let permits = Permits::new(1, None);
        assert!(permits.try_acquire(5, ALL));
        permits.set_waiters();
        assert!(permits.shrink(1) && permits.set_limits(1, None) && permits.release(4));
        assert!(!permits.try_acquire(0, ALL), "nobody overtakes the queue");
        assert!(permits.acquire_for_queue(0, ALL));
        permits.clear_waiters();
        assert!(!permits.set_limits(2, Some(7)) && !permits.release(0));
        assert_eq!((permits.limit(), permits.tokens_limit()), (2, Some(7)));
    }
}
