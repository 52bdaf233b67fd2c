//! Which addresses behind a name are used, which of them is next, and when to look again. Decides only:
//! whoever asks the servers of names gives in what they said.

use std::net::SocketAddr;
use std::time::Duration;

/// One line of an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Lower is first.
    pub priority: u16,
    pub name: String,
    pub port: u16,
}

/// The addresses to use of those found: each once, at most [`ADDRESSES_MAX`]; and how many are left out. The
/// same answer in another order is the same set.
pub fn chosen(found: impl IntoIterator<Item = SocketAddr>) -> (Vec<SocketAddr>, usize) {
    let mut all: Vec<SocketAddr> = found.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    let left_out = all.len().saturating_sub(ADDRESSES_MAX);
    all.truncate(ADDRESSES_MAX);
    (all, left_out)
}

/// The targets whose addresses to look for: those of the best priority, at most [`TARGETS_MAX`]. Weights are
/// not used: who has least under way is asked, which follows what a weight only guesses.
pub fn targets(found: impl IntoIterator<Item = Target>) -> Vec<Target> {
    // A service that is not there has the root as its only target.
    let mut all: Vec<Target> =
        found.into_iter().filter(|target| !target.name.trim_end_matches('.').is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    let best = all.first().map(|first| first.priority);
    all.retain(|target| Some(target.priority) == best);
    all.truncate(TARGETS_MAX);
    all
}

/// When to look again after an answer that is good for `ttl`.
pub fn look_again(ttl: Duration) -> Duration {
    ttl.clamp(LOOK_MIN, LOOK_MAX)
}

/// Which of `count` is next: of two drawn by `random`, the one with less load (Mitzenmacher, "The power of
/// two choices in randomized load balancing", 2001). `None` where there is none.
pub fn pick<L: Ord>(count: usize, random: u64, load: impl Fn(usize) -> L) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let first = (random % count as u64) as usize;
            let step = 1 + ((random >> 32) % (count as u64 - 1)) as usize;
            let second = (first + step) % count;
            Some(if load(second) < load(first) { second } else { first })
        }
    }
}

/// Of one name. Each has connections of its own on every worker.
pub const ADDRESSES_MAX: usize = 64;
/// Of one SRV record: each is a lookup of its own.
pub const TARGETS_MAX: usize = 16;
/// Between two lookups: a time to live of zero must not become a flood.
pub const LOOK_MIN: Duration = Duration::from_secs(1);
/// A container that was added gets traffic within it, however long its name may be kept.
pub const LOOK_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn addresses_are_a_set_with_a_bound() {
        let (found, left_out) = chosen([address(2), address(1), address(2)]);
        assert_eq!((found, left_out), (vec![address(1), address(2)], 0));
        let at_most = |count: u8| chosen((0..count).rev().map(address));
        assert_eq!((at_most(64).0.len(), at_most(64).1), (64, 0));
        assert_eq!((at_most(65).0.len(), at_most(65).1), (64, 1));
        assert_eq!(at_most(65).0, at_most(64).0);
    }

    #[test]
    fn of_targets_the_best_priority_counts_and_a_service_that_is_absent_has_none() {
        let target = |priority, name: &str| Target { priority, name: name.into(), port: 80 };
        let found = targets([target(2, "c"), target(1, "b"), target(1, "a"), target(1, "a")]);
        assert_eq!(found, [target(1, "a"), target(1, "b")]);
        assert!(targets([target(0, ".")]).is_empty());
        assert_eq!(targets((0..17).map(|at| target(1, &format!("t{at}")))).len(), TARGETS_MAX);
    }

    #[test]
    fn looking_again_has_a_least_and_a_longest_wait() {
        assert_eq!(look_again(Duration::ZERO), LOOK_MIN);
        assert_eq!(look_again(Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(look_again(Duration::from_secs(86_400)), LOOK_MAX);
    }

    #[test]
    fn of_two_drawn_the_one_with_less_load_is_next_and_any_can_be_drawn() {
        assert_eq!(pick(0, 7, |_| 0), None);
        assert_eq!(pick(1, 7, |_| 0), Some(0));
        for random in 0..1000u64 {
            let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(pick(2, random, |at| at), Some(0), "two of two are both");
            let busiest = pick(5, random, |at| usize::from(at == 3));
            assert_ne!(busiest, Some(3), "the busiest loses to whomever it is drawn with");
        }
        let drawn: std::collections::BTreeSet<_> =
            (0..1000u64).filter_map(|at| pick(5, at.wrapping_mul(0x9e37_79b9_7f4a_7c15), |_| 0)).collect();
        assert_eq!(drawn.len(), 5);
    }
}
