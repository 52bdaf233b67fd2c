//! What a connection may have waiting for its peer: so many bytes, and all of them in the worker's account. A
//! peer that does not read holds its own calls back, and no memory beyond that.

use std::sync::Arc;

use dataplane_core::admit::pressure::Level;
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::ledger::{Debt, Ledger};
use tokio::sync::Semaphore;

use crate::serve::atp::link::Held;

/// Of one connection; clones are of the same.
#[derive(Debug, Clone)]
pub struct Room {
    places: Arc<Semaphore>,
    ledger: Arc<Ledger>,
}

impl Room {
    pub fn new(ledger: &Arc<Ledger>) -> Room {
        Room { places: Arc::new(Semaphore::new(BYTES_MAX as usize)), ledger: Arc::clone(ledger) }
    }

    /// For so many bytes. Waits until the peer has taken enough of what came before; that its connection is
    /// cut where it takes nothing is the deadline. One message that is longer than all there is has it to
    /// itself.
    ///
    /// # Errors
    /// The worker holds as much as it may.
    pub async fn take(&self, bytes: usize) -> Result<Held, Fault> {
        let places = u32::try_from(bytes).unwrap_or(BYTES_MAX).min(BYTES_MAX);
        // Before the wait: what waits for room is there already.
        let debt = self.owe(bytes as u64)?;
        let permit = Arc::clone(&self.places).acquire_many_owned(places).await;
        Ok(Held::new(debt, Some(permit.expect("nobody closes it"))))
    }

    fn owe(&self, bytes: u64) -> Result<Debt, Fault> {
        if bytes <= ALWAYS_BYTES {
            return Ok(Debt::of(&self.ledger, bytes));
        }
        let mut debt = Debt::none(&self.ledger);
        match debt.try_grow(bytes) {
            true => Ok(debt),
            false => Err(Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() })),
        }
    }
}

/// A refusal, a heartbeat: said however full the worker is.
const ALWAYS_BYTES: u64 = 1024;
/// A few whole answers, or a second of sixty-four streams.
pub const BYTES_MAX: u32 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_wait_for_a_peer_and_one_more_waits_for_them() {
        let ledger = Arc::new(Ledger::new(u64::MAX));
        let room = Room::new(&ledger);
        let half = room.take(BYTES_MAX as usize / 2).await.unwrap();
        let rest = room.take(BYTES_MAX as usize / 2).await.unwrap();
        assert_eq!(ledger.buffered_bytes(), u64::from(BYTES_MAX), "at the edge");
        assert!(timeout(MOMENT, room.take(1)).await.is_err(), "one past it");
        drop(half);
        assert!(timeout(MOMENT, room.take(1)).await.is_ok(), "what was read made room");
        drop(rest);
        assert_eq!(ledger.buffered_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_longer_than_all_of_it_goes_alone() {
        let ledger = Arc::new(Ledger::new(u64::MAX));
        let room = Room::new(&ledger);
        let long = room.take(5 * BYTES_MAX as usize).await.unwrap();
        assert_eq!(ledger.buffered_bytes(), 5 * u64::from(BYTES_MAX));
        assert!(timeout(MOMENT, room.take(1)).await.is_err());
        drop(long);
        assert!(timeout(MOMENT, room.take(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_worker_is_full_it_is_refused_and_nothing_is_kept() {
        let ledger = Arc::new(Ledger::new(2 * ALWAYS_BYTES));
        let room = Room::new(&ledger);
        let refused = room.take(2 * ALWAYS_BYTES as usize + 1).await.unwrap_err();
        assert!(matches!(refused.kind, Kind::Shed { .. }), "{refused:?}");
        let all = timeout(MOMENT, room.take(2 * ALWAYS_BYTES as usize)).await;
        assert!(all.as_ref().is_ok_and(Result::is_ok), "its places went back");
        let few = room.take(ALWAYS_BYTES as usize).await;
        assert!(few.is_ok() && room.take(ALWAYS_BYTES as usize + 1).await.is_err(), "a refusal can be said");
    }
}
