//! Adapters that say themselves where they are: each place that its document allows is known from the start,
//! and is asked while whoever stands there has said so lately. Who may say so is not known here.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane_core::fault::{Fault, Kind, Retry, Side};
use proto_core::model::{Auth, Endpoint, TlsFiles};
use proto_core::units::Moment;

use super::openai::OpenAi;
use super::{Answer, Call, Unusable, Ways};
use crate::clock;
use crate::worker::Worker;

/// The places of one adapter.
#[derive(Debug)]
pub struct Dialled {
    places: Box<[Place]>,
    lease: Duration,
    next: AtomicUsize,
}

struct Place {
    endpoint: Endpoint,
    openai: OpenAi,
    /// A [`Moment`] up to which it is asked; 0: it is not.
    until: AtomicU64,
    /// The same, on the word of another data plane.
    elsewhere: AtomicU64,
    /// Taken by those who come, renew or go, never by a request.
    holder: Mutex<Option<Holder>>,
}

/// Whose word a place stands on.
#[derive(Debug, Clone, Copy)]
struct Holder {
    id: u64,
    until: Moment,
}

/// What a word came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// Nobody stood there, or somebody else.
    Anew,
    Again,
}

impl Dialled {
    /// Reads secrets and certificates, as for any adapter.
    pub fn build(
        endpoints: &[Endpoint],
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        lease: Duration,
        ways: &Ways,
    ) -> Result<Dialled, Unusable> {
        let place = |endpoint: &Endpoint| {
            let openai = OpenAi::build(endpoint, auth, files, ways)?;
            let (until, elsewhere, holder) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None));
            Ok(Place { endpoint: endpoint.clone(), openai, until, elsewhere, holder })
        };
        let places = endpoints.iter().map(place).collect::<Result<_, _>>()?;
        Ok(Dialled { places, lease, next: AtomicUsize::new(0) })
    }

    /// For how long a word holds.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// `holder` says that it stands at `endpoint`; `None` where that place is not allowed. `is_well`: it
    /// wants to be asked.
    pub fn register(&self, endpoint: &Endpoint, holder: u64, is_well: bool) -> Option<Registered> {
        let place = self.places.iter().find(|place| place.endpoint == *endpoint)?;
        let mut held = place.lock();
        let until = clock::now() + self.lease;
        let before = held.replace(Holder { id: holder, until });
        // Order: relaxed. What is read because of it was there before the place was.
        place.until.store(if is_well { until.0 } else { 0 }, Ordering::Relaxed);
        Some(if before.is_some_and(|before| before.id == holder) {
            Registered::Again
        } else {
            Registered::Anew
        })
    }

    /// `holder` is gone; whether it still stood there.
    pub fn withdraw(&self, endpoint: &Endpoint, holder: u64) -> bool {
        let Some(place) = self.places.iter().find(|place| place.endpoint == *endpoint) else { return false };
        let mut held = place.lock();
        let is_its = held.is_some_and(|held| held.id == holder);
        if is_its {
            place.clear(&mut held);
        }
        is_its
    }

    /// Where those stand that said so here and may be asked, and until when.
    pub fn standing(&self, now: Moment) -> impl Iterator<Item = (&Endpoint, Moment)> {
        // Order: relaxed, see `register`.
        let until = |place: &Place| Moment(place.until.load(Ordering::Relaxed));
        self.places
            .iter()
            .map(move |place| (&place.endpoint, until(place)))
            .filter(move |(_, until)| *until > now)
    }

    /// What other data planes were told of each place; a word that was said here stands beside it.
    pub fn hear(&self, until: impl Fn(&Endpoint) -> Option<Moment>) {
        for place in &self.places {
            let until = until(&place.endpoint).map_or(0, |until| until.0);
            // Order: relaxed, see `register`.
            place.elsewhere.store(until, Ordering::Relaxed);
        }
    }

    /// Forgets those whose word is too old; how many.
    pub fn expire(&self, now: Moment) -> u64 {
        let mut expired = 0;
        for place in &self.places {
            let mut held = place.lock();
            if held.is_some_and(|held| held.until <= now) {
                place.clear(&mut held);
                expired += 1;
                tracing::info!(endpoint = %place.endpoint.authority(), "a registered endpoint fell silent");
            }
        }
        expired
    }

    /// Places that may be asked.
    pub fn live(&self, now: Moment) -> usize {
        self.places.iter().filter(|place| place.is_live(now)).count()
    }

    /// Sends a call to one that may be asked, in turn.
    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        let (now, count) = (clock::now(), self.places.len());
        // Order: relaxed. A turn; nothing is read because of it.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let live = (0..count).map(|step| &self.places[first.wrapping_add(step) % count]);
        match live.into_iter().find(|place| place.is_live(now)) {
            Some(place) => place.openai.send(worker, call).await,
            None => Err(ABSENT),
        }
    }

    pub async fn look_at_files(&self, adapter: &str) -> Option<bool> {
        let mut looked = None;
        for place in &self.places {
            let one = place.openai.server.look_at_files(adapter).await;
            looked = match (looked, one) {
                (Some(all), Some(one)) => Some(all && one),
                (looked, one) => looked.or(one),
            };
        }
        looked
    }
}

impl Place {
    fn is_live(&self, now: Moment) -> bool {
        // Order: relaxed, see `register`.
        let until = self.until.load(Ordering::Relaxed).max(self.elsewhere.load(Ordering::Relaxed));
        until > now.0
    }

    fn clear(&self, held: &mut Option<Holder>) {
        *held = None;
        // Order: relaxed, see `register`.
        self.until.store(0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        // A panic while it was held leaves a holder that is one or is none.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Nobody stands anywhere; whoever comes is asked next.
const ABSENT: Fault = Fault { side: Side::Proxy, kind: Kind::Absent, retry: Retry::Elsewhere };

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::parse(&format!("http://127.0.0.1:{port}/v1")).unwrap()
    }

    fn dialled() -> Dialled {
        let ways = Ways { workers: 2, names: Arc::default() };
        Dialled::build(&[endpoint(1), endpoint(2)], None, None, LEASE, &ways).unwrap()
    }

    const LEASE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_place_is_asked_from_its_word_to_its_end_and_only_one_that_is_allowed() {
        let dialled = dialled();
        let now = clock::now();
        assert_eq!(dialled.live(now), 0);
        assert_eq!(dialled.register(&endpoint(3), 1, true), None, "not on the list");
        assert_eq!(dialled.register(&endpoint(1), 1, true), Some(Registered::Anew));
        assert_eq!(dialled.register(&endpoint(1), 1, true), Some(Registered::Again));
        assert_eq!((dialled.live(now), dialled.expire(now)), (1, 0));
        let last = clock::now() + LEASE;
        assert_eq!((dialled.live(last), dialled.expire(last)), (0, 1), "nobody renewed it");
        assert_eq!(dialled.expire(last), 0, "counted once");
        assert_eq!(dialled.register(&endpoint(1), 1, true), Some(Registered::Anew));
    }

    #[test]
    fn whoever_comes_later_takes_a_place_over_and_who_was_there_withdraws_nothing() {
        let dialled = dialled();
        dialled.register(&endpoint(2), 1, true);
        assert_eq!(dialled.register(&endpoint(2), 2, true), Some(Registered::Anew));
        assert!(!dialled.withdraw(&endpoint(2), 1));
        assert_eq!(dialled.live(clock::now()), 1);
        assert!(dialled.withdraw(&endpoint(2), 2) && !dialled.withdraw(&endpoint(2), 2));
        assert_eq!(dialled.live(clock::now()), 0);
    }

    #[test]
    fn a_place_that_another_data_plane_was_told_of_is_asked_as_long_as_that_one_says() {
        let dialled = dialled();
        let now = clock::now();
        let said = |port: u16, until: Moment| move |at: &Endpoint| (*at == endpoint(port)).then_some(until);
        dialled.hear(said(2, now + LEASE));
        assert_eq!((dialled.live(now), dialled.live(now + LEASE)), (1, 0));
        assert_eq!(dialled.standing(now).count(), 0, "it is not this one's to tell");
        // Who stands there says it here too, and goes: the other's word still holds.
        dialled.register(&endpoint(2), 1, true);
        assert_eq!(dialled.standing(now).map(|(at, _)| at.port).collect::<Vec<_>>(), [2]);
        assert!(dialled.withdraw(&endpoint(2), 1));
        assert_eq!(dialled.live(now), 1);
        dialled.hear(said(3, now + LEASE));
        assert_eq!(dialled.live(now), 0, "and a place that is not on the list is none");
    }

    #[test]
    fn one_that_is_not_well_keeps_its_place_and_is_not_asked() {
        let dialled = dialled();
        dialled.register(&endpoint(1), 1, true);
        dialled.register(&endpoint(1), 1, false);
        assert_eq!(dialled.live(clock::now()), 0);
        assert_eq!(dialled.register(&endpoint(1), 1, true), Some(Registered::Again));
        assert_eq!(dialled.live(clock::now()), 1);
    }
}
