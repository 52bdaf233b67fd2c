//! Calls under way that may be cancelled by name: of a tenant, in a session, under the id of its request. The
//! map has locks (one a shard): asked when a call of a session begins, ends or is cancelled, never for a
//! piece of its answer, and never for a revision without sessions.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustls::crypto::aws_lc_rs;
use tokio::sync::Notify;

/// All of a data plane.
#[derive(Debug, Default)]
pub struct Calls(DashMap<Name, Arc<Notify>>);

/// Whose, in which session, which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Hash of the tenant's name.
    pub tenant: u64,
    pub session: Box<str>,
    /// As its caller wrote it.
    pub request: Box<str>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    calls: Arc<Calls>,
    name: Name,
    stop: Arc<Notify>,
}

impl Calls {
    /// Keeps a call's name; `None`: there is one of that name already, or there are too many.
    pub fn begin(self: &Arc<Calls>, name: Name) -> Option<UnderWay> {
        // Not exact between threads, and it need not be.
        if self.0.len() >= CALLS_MAX {
            return None;
        }
        let stop = Arc::new(Notify::new());
        match self.0.entry(name.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(Arc::clone(&stop))),
        }
        Some(UnderWay { calls: Arc::clone(self), name, stop })
    }

    /// Whoever runs it is told; one that is over, or never was, is nobody's.
    pub fn cancel(&self, name: &Name) {
        if let Some(stop) = self.0.get(name) {
            stop.notify_one();
        }
    }
}

impl UnderWay {
    /// Until it is wanted no more.
    pub async fn cancelled(&self) {
        self.stop.notified().await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.calls.0.remove(&self.name);
    }
}

/// The name of a new session: enough chance that nobody guesses one, though it opens nothing.
pub fn session() -> Option<String> {
    let mut bits = [0; SESSION_BYTES];
    aws_lc_rs::default_provider().secure_random.fill(&mut bits).ok()?;
    Some(bits.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex).collect())
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).expect("four bits are a digit")
}

/// As many as a data plane has connections.
const CALLS_MAX: usize = 16_384;
const SESSION_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    fn name(tenant: u64, session: &str, request: &str) -> Name {
        Name { tenant, session: session.into(), request: request.into() }
    }

    #[tokio::test]
    async fn a_call_is_cancelled_by_its_own_tenant_session_and_id_only() {
        let calls = Arc::new(Calls::default());
        let under_way = calls.begin(name(1, "s", "7")).expect("the name is free");
        assert!(calls.begin(name(1, "s", "7")).is_none(), "in use");
        for other in [name(2, "s", "7"), name(1, "t", "7"), name(1, "s", "\"7\"")] {
            calls.cancel(&other);
        }
        let mut cancelled = std::pin::pin!(under_way.cancelled());
        let mut is_cancelled =
            async || poll_fn(|cx| Poll::Ready(cancelled.as_mut().poll(cx).is_ready())).await;
        assert!(!is_cancelled().await);
        calls.cancel(&name(1, "s", "7"));
        assert!(is_cancelled().await);
    }

    #[test]
    fn a_name_is_free_again_when_its_call_is_over() {
        let calls = Arc::new(Calls::default());
        drop(calls.begin(name(1, "s", "7")));
        assert!(calls.begin(name(1, "s", "7")).is_some());
        assert!(calls.0.is_empty());
    }

    #[test]
    fn as_many_calls_as_the_limit_have_a_name_and_no_more() {
        let calls = Arc::new(Calls::default());
        let mut held: Vec<_> = (0..CALLS_MAX).map(|at| calls.begin(name(1, "s", &at.to_string()))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(calls.begin(name(1, "s", "more")).is_none());
        held.pop();
        assert!(calls.begin(name(1, "s", "more")).is_some());
    }

    #[test]
    fn sessions_are_named_by_chance() {
        let (one, other) = (session().expect("there is chance"), session().expect("there is chance"));
        assert!(
            one != other
                && one.len() == 2 * SESSION_BYTES
                && one.bytes().all(|byte| byte.is_ascii_hexdigit())
        );
    }
}
