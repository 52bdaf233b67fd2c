//! How many streams of changes there are on a worker, and whose: nobody fills all of the places.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

/// Of one worker. The map has locks (one a shard): asked when a stream begins or ends, never for what it
/// says.
#[derive(Debug, Default)]
pub struct Listeners {
    of_one: DashMap<Whose, usize>,
    all: AtomicUsize,
}

/// Who counts as one: a tenant; of those who need no key, an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Whose {
    pub tenant: u64,
    pub address: Option<IpAddr>,
}

/// The place of one stream.
#[derive(Debug)]
pub struct Place {
    listeners: Arc<Listeners>,
    whose: Whose,
}

impl Listeners {
    /// `None` where all places are taken, or all that one may have.
    pub fn join(self: &Arc<Listeners>, whose: Whose) -> Option<Place> {
        // Order: relaxed, here and below: a count that guards nothing, and this worker alone adds to it.
        if self.all.load(Ordering::Relaxed) >= LIVE_MAX {
            return None;
        }
        let mut own = self.of_one.entry(whose).or_insert(0);
        if *own >= LIVE_OF_ONE_MAX {
            return None;
        }
        *own += 1;
        // Order: relaxed, see above.
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Place { listeners: Arc::clone(self), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Order: relaxed, see `join`.
        self.listeners.all.fetch_sub(1, Ordering::Relaxed);
        self.listeners.of_one.remove_if_mut(&self.whose, |_, own| {
            *own -= 1;
            *own == 0
        });
    }
}

/// Of one worker: each looks at the list once a second.
const LIVE_MAX: usize = 1024;
/// Of them, those of one tenant, or of one address without a key: the other half is there for others.
const LIVE_OF_ONE_MAX: usize = LIVE_MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(tenant: u64) -> Whose {
        Whose { tenant, address: None }
    }

    #[test]
    fn one_has_half_of_the_places_and_all_together_have_them_all() {
        let listeners = Arc::new(Listeners::default());
        let join = |whose, most| -> Vec<Place> { (0..most).map_while(|_| listeners.join(whose)).collect() };
        let mut first = join(tenant(1), LIVE_MAX);
        assert_eq!(first.len(), LIVE_OF_ONE_MAX, "and not one more");
        let address = |last| Whose { tenant: 2, address: Some(IpAddr::from([10, 0, 0, last])) };
        let second = join(address(1), LIVE_OF_ONE_MAX - 1);
        let third = join(address(2), LIVE_MAX);
        assert_eq!((second.len(), third.len()), (LIVE_OF_ONE_MAX - 1, 1), "another address is another");
        assert!(listeners.join(tenant(3)).is_none(), "all are taken");
        first.pop();
        assert!(listeners.join(tenant(3)).is_some(), "one that ended made room");
        drop((first, second, third));
        assert!(listeners.of_one.is_empty(), "nobody is remembered");
    }
}
