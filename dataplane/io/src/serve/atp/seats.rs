//! Sessions whose peer may come back: found by a token that was given out once, for the one it was given to.
//! The map has locks (one a shard): asked when a session opens, is lost or comes back, never for a frame.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crossbeam_utils::atomic::AtomicCell;
use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use proto_core::frame::Text;
use proto_core::session::Received;
use rustls::crypto::aws_lc_rs;
use sha2::{Digest, Sha256};

use super::link::Link;
use super::opening::Caller;

/// All of a data plane.
#[derive(Debug, Default)]
pub struct Seats(DashMap<[u8; 32], Seat>);

/// Whom a session belongs to. A token is worth nothing to anybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Hash of the tenant's name.
    pub tenant: u64,
    /// As the certificate said it.
    pub identity: Option<Arc<str>>,
}

/// A session that waits, or would.
#[derive(Debug)]
struct Seat {
    who: Who,
    session_id: Text,
    door: Arc<Door>,
}

/// Where a session waits for its next connection. Of two that come at once, the later one counts: the other's
/// peer sees its connection end.
#[derive(Default)]
pub struct Door {
    newest: AtomicCell<Option<Box<Comeback>>>,
    waits: AtomicWaker,
}

impl fmt::Debug for Door {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    pub fn bring(&self, comeback: Comeback) {
        self.newest.store(Some(Box::new(comeback)));
        self.waits.wake();
    }

    /// The newest; for the session alone.
    pub async fn next(&self) -> Box<Comeback> {
        poll_fn(|cx| {
            self.waits.register(cx.waker());
            self.newest.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A new connection for a session.
pub struct Comeback {
    pub link: Link,
    /// What its peer showed this time: a key may be another of the same tenant's.
    pub caller: Caller,
    /// What it showed.
    pub token: Text,
    /// What its peer has of each stream.
    pub received: Vec<Received>,
}

/// Keeps a seat until it is dropped or taken.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Seats>,
    hash: [u8; 32],
}

impl Seats {
    /// A token for a session, which waits at `door`. The token itself is not kept.
    pub fn keep(self: &Arc<Seats>, who: &Who, session_id: &Text, door: &Arc<Door>) -> Option<(Text, Ticket)> {
        let mut bits = [0; TOKEN_BYTES];
        // Without chance there are no secrets, and so no coming back.
        aws_lc_rs::default_provider().secure_random.fill(&mut bits).ok()?;
        let token: String = bits.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
        let hash = hash(token.as_str());
        let seat = Seat { who: who.clone(), session_id: session_id.clone(), door: Arc::clone(door) };
        self.0.insert(hash, seat);
        Some((token.into(), Ticket { shared: Arc::clone(self), hash }))
    }

    /// Where the session is that `token` was given out for; nowhere for somebody else, or another session.
    /// The token is spent when the session says so: an answer to who shows it may be lost on the way, and it
    /// is all that peer has until it has read the next one.
    pub fn find(&self, token: &Text, who: &Who, session_id: &Text) -> Option<Arc<Door>> {
        let is_its = |seat: &Seat| seat.who == *who && seat.session_id == *session_id;
        self.0.get(&hash(token.as_str())).filter(|seat| is_its(seat)).map(|seat| Arc::clone(&seat.door))
    }

    /// For metrics.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Ticket {
    /// Whether it keeps the seat of this token.
    pub fn is_of(&self, token: &Text) -> bool {
        self.hash == hash(token.as_str())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.0.remove(&self.hash);
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Six bits each.
const TOKEN_BYTES: usize = 32;
/// Of base64url (RFC 4648 §5): a token needs no escaping anywhere.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_the_one_it_was_given_to_until_it_is_spent() {
        let seats = Arc::new(Seats::default());
        let who = Who { tenant: 1, identity: Some("spiffe://a/tenant/b".into()) };
        let door = Arc::default();
        let session = Text::from("s");
        let (token, seat) = seats.keep(&who, &session, &door).expect("there is chance");
        assert_eq!(token.len(), TOKEN_BYTES);
        let other = Who { tenant: 2, ..who.clone() };
        let nameless = Who { identity: None, ..who.clone() };
        for (token, who, session) in
            [(&token, &other, "s"), (&token, &nameless, "s"), (&token, &who, "t"), (&"x".into(), &who, "s")]
        {
            assert!(seats.find(token, who, &session.into()).is_none());
        }
        assert!(seats.find(&token, &who, &session).is_some());
        assert!(seats.find(&token, &who, &session).is_some(), "the answer may have been lost");
        let (next, second) = seats.keep(&who, &session, &door).expect("there is chance");
        assert!(seat.is_of(&token) && !seat.is_of(&next));
        drop(seat);
        assert!(seats.find(&token, &who, &session).is_none(), "spent");
        assert!(seats.find(&next, &who, &session).is_some());
        drop(second);
        assert_eq!(seats.count(), 0, "a session that is over is not come back to");
    }
}
