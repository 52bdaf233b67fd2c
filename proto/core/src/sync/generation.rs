//! Which set: its generation, and the hash that proves it is the same one.

use std::cmp::Ordering;
use std::fmt;

use super::wire;

/// SHA-256 over a set, see [`super::hash`].
pub type SetHash = [u8; 32];

/// A numbered set of one store. Ordered only within an epoch: a store that was wiped starts another epoch, so
/// its number 1 is not older than anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Random, drawn when the store is created.
    pub epoch: u64,
    /// Counts applied changes. Zero: the store as it was created, empty.
    pub number: u64,
}

impl PartialOrd for Generation {
    /// `None` between epochs.
    fn partial_cmp(&self, other: &Generation) -> Option<Ordering> {
        (self.epoch == other.epoch).then(|| self.number.cmp(&other.number))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {:016x}", self.number, self.epoch)
    }
}

impl From<wire::Generation> for Generation {
    fn from(wire: wire::Generation) -> Generation {
        Generation { epoch: wire.epoch, number: wire.number }
    }
}

impl From<Generation> for wire::Generation {
    fn from(generation: Generation) -> wire::Generation {
        wire::Generation { epoch: generation.epoch, number: generation.number }
    }
}

/// The identity of a set that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub generation: Generation,
    pub hash: SetHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_ordered_within_an_epoch_only() {
        let first = Generation { epoch: 1, number: 1 };
        let second = Generation { epoch: 1, number: 2 };
        let elsewhere = Generation { epoch: 2, number: 1 };
        assert!(first < second);
        assert_eq!(second.partial_cmp(&elsewhere), None);
    }
}
