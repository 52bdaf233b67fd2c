//! Where a server is: one place, or the addresses that its name has now. Each place has connections of its
//! own. A request takes the less busy of two; a place that is lost ends what it has under way and gets
//! nothing new.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use dataplane_core::discover::pick;
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_state::tables::Tables;
use tokio::sync::watch;
use tokio::time::timeout;

use super::pool::Pool;
use crate::clock;
use crate::worker::Worker;

#[derive(Debug)]
pub enum Places {
    /// What connects looks its host up.
    One(Arc<Place>),
    Several(Arc<Found>),
}

/// The addresses found last.
#[derive(Debug)]
pub struct Found {
    now: Tables<Box<[Arc<Place>]>>,
    is_there: watch::Sender<bool>,
    workers: usize,
}

/// One address of a server, with its connections.
#[derive(Debug)]
pub struct Place {
    pub address: Option<SocketAddr>,
    /// By worker.
    pools: Box<[Pool]>,
    in_flight: AtomicU32,
    /// Others are preferred until then, nanoseconds of [`clock::now`]. Zero: never failed.
    shunned_until: AtomicU64,
    is_lost: AtomicBool,
}

/// A place while a request is with it; counts until dropped.
#[derive(Debug)]
pub struct Taken(Arc<Place>);

impl Places {
    pub fn one(workers: usize) -> Places {
        Places::One(Arc::new(Place::new(None, workers)))
    }

    /// Where the next request goes, another than `tried` where there is one. Waits only where nothing was
    /// ever found.
    pub async fn take(&self, worker: &Worker, tried: Option<&Arc<Place>>) -> Result<Taken, Fault> {
        let found = match self {
            Places::One(place) => return Ok(Taken::of(place)),
            Places::Several(found) => found,
        };
        let unknown = Fault::upstream(Kind::Connect, Retry::Elsewhere);
        let places = match found.now.peek() {
            Some(places) => places,
            None => {
                let mut is_there = found.is_there.subscribe();
                let waited = timeout(FIRST_WAIT, is_there.wait_for(|is_there| *is_there)).await;
                waited.map_err(|_| unknown)?.map_err(|_| unknown)?;
                found.now.peek().ok_or(unknown)?
            }
        };
        let now = clock::now().0;
        let chosen = pick(places.len(), worker.random(), |at| {
            let place = &places[at];
            let is_tried = tried.is_some_and(|tried| Arc::ptr_eq(tried, place));
            // Order: relaxed. Counts and times that steer load; nothing is read because of them.
            let is_shunned = place.shunned_until.load(Ordering::Relaxed) > now;
            // Order: relaxed, see above.
            (is_tried, is_shunned, place.in_flight.load(Ordering::Relaxed))
        });
        Ok(Taken::of(&places[chosen.ok_or(unknown)?]))
    }

    /// See [`Pool::retire`].
    pub fn retire(&self, age: u64) {
        let places = match self {
            Places::One(place) => return place.retire(age),
            Places::Several(found) => found.now.peek(),
        };
        places.iter().flat_map(|places| places.iter()).for_each(|place| place.retire(age));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Places::One(_) => 1,
            Places::Several(found) => found.now.peek().map_or(0, |places| places.len()),
        }
    }
}

impl Found {
    pub fn new(workers: usize) -> Found {
        Found { now: Tables::new(), is_there: watch::Sender::new(false), workers }
    }

    /// These from now on; places that stay keep their connections. Whether anything changed.
    pub fn set(&self, addresses: &[SocketAddr]) -> bool {
        let before = self.now.peek();
        let before: &[Arc<Place>] = before.as_deref().map_or(&[], |places| places);
        let is_same = before.len() == addresses.len()
            && before.iter().zip(addresses).all(|(place, address)| place.address == Some(*address));
        if is_same {
            return false;
        }
        let known = |address: &SocketAddr| before.iter().find(|place| place.address == Some(*address));
        let places: Box<[_]> = addresses
            .iter()
            .map(|address| match known(address) {
                Some(place) => Arc::clone(place),
                None => Arc::new(Place::new(Some(*address), self.workers)),
            })
            .collect();
        for lost in before.iter().filter(|place| !places.iter().any(|kept| Arc::ptr_eq(kept, place))) {
            // Order: relaxed. Connections given back a moment later are dropped with their place.
            lost.is_lost.store(true, Ordering::Relaxed);
        }
        self.now.swap(places);
        self.is_there.send_replace(true);
        true
    }
}

impl Place {
    fn new(address: Option<SocketAddr>, workers: usize) -> Place {
        Place {
            address,
            pools: (0..workers).map(|_| Pool::new()).collect(),
            in_flight: AtomicU32::new(0),
            shunned_until: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
        }
    }

    /// `None` where it is lost: what comes back is not kept.
    pub fn pool(&self, worker: usize) -> Option<&Pool> {
        // Order: relaxed, see `Found::set`.
        (!self.is_lost.load(Ordering::Relaxed)).then(|| &self.pools[worker])
    }

    fn retire(&self, age: u64) {
        self.pools.iter().for_each(|pool| pool.retire(age));
    }

    /// It could not be reached.
    pub fn shun(&self) {
        let until = clock::now().0.saturating_add(SHUN_NS);
        // Order: relaxed, see `Places::take`.
        self.shunned_until.store(until, Ordering::Relaxed);
    }
}

impl Taken {
    pub fn of(place: &Arc<Place>) -> Taken {
        // Order: relaxed, see `Places::take`.
        place.in_flight.fetch_add(1, Ordering::Relaxed);
        Taken(Arc::clone(place))
    }

    pub fn place(&self) -> &Arc<Place> {
        &self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Order: relaxed, see `Places::take`.
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For the first addresses of a name, as for any connection.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// A place that refused a connection: longer than a container takes to leave the name it had.
const SHUN_NS: u64 = 5_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 80))
    }

    fn now(found: &Found) -> Vec<Arc<Place>> {
        found.now.peek().unwrap().to_vec()
    }

    #[test]
    fn a_place_that_stays_is_the_same_and_one_that_is_lost_keeps_no_connection() {
        let found = Found::new(1);
        assert!(found.set(&[address(1), address(2)]));
        let before = now(&found);
        let taken = Taken::of(&before[0]);
        assert!(!found.set(&[address(1), address(2)]), "nothing changed");
        assert!(found.set(&[address(2), address(3)]));
        let after = now(&found);
        assert!(Arc::ptr_eq(&before[1], &after[0]));
        assert_eq!(after[1].address, Some(address(3)));
        assert!(before[0].pool(0).is_none() && after[0].pool(0).is_some());
        // What it has under way goes on.
        assert_eq!(taken.place().in_flight.load(Ordering::Relaxed), 1);
        drop(taken);
        assert_eq!(before[0].in_flight.load(Ordering::Relaxed), 0);
    }
}
