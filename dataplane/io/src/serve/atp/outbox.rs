//! The way from the tasks that answer to the session that carries: bounded in bytes for each stream, so that
//! a stream its peer does not read holds its own upstream back and nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::fault::{Fault, Kind};
use proto_core::frame::Text;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::work::{Done, Failed};
use crate::serve::unsent::Share;
use crate::worker::Worker;

/// Something that came of a request.
#[derive(Debug)]
pub enum Said {
    /// Somebody answers.
    Began {
        adapter: Text,
    },
    /// An event of the upstream's stream: a JSON object.
    Data(Bytes),
    /// Some text, as it stands between the quotes of JSON.
    Text(Bytes),
    Done(Box<Done>),
    Failed(Box<Failed>),
}

/// Which request of a session it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What arrives at the session.
#[derive(Debug)]
pub struct Delivery {
    pub ticket: Ticket,
    pub said: Said,
    /// Of the answer, by then.
    pub tokens: u64,
    /// Goes back when the session has handed it over.
    pub room: Option<Room>,
}

/// Bytes of one stream that its peer has no place for yet.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
    _share: Share,
}

/// A task's end.
pub struct Outbox {
    worker: Arc<Worker>,
    ticket: Ticket,
    room: Arc<Semaphore>,
    stop: Arc<Notify>,
    /// Of the answer so far.
    tokens: AtomicU64,
    to: mpsc::UnboundedSender<Delivery>,
}

impl Outbox {
    /// `to` is bounded by the room of each stream, and by how many streams a session has.
    pub fn new(worker: &Arc<Worker>, ticket: Ticket, to: &mpsc::UnboundedSender<Delivery>) -> Outbox {
        let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
        Outbox {
            worker: Arc::clone(worker),
            ticket,
            room,
            stop: Arc::default(),
            tokens: AtomicU64::new(0),
            to: to.clone(),
        }
    }

    /// For whoever may want the task to end, and to hear what it took.
    pub fn stop(&self) -> Arc<Notify> {
        Arc::clone(&self.stop)
    }

    /// How many tokens have come with what is sent next.
    pub fn set_tokens(&self, tokens: u64) {
        // Order: relaxed, here and where it is read: one task does both.
        self.tokens.store(tokens, Ordering::Relaxed);
    }

    /// Until the task is told to end.
    pub async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// Hands it over, where there is room for it now; gives it back where there is none.
    pub fn try_send(&self, said: Said) -> Result<Option<Said>, Fault> {
        match Arc::clone(&self.room).try_acquire_many_owned(places(&said)) {
            Ok(permit) => self.put_in(said, permit).map(|()| None),
            Err(_) => Ok(Some(said)),
        }
    }

    /// Hands it over; waits where the peer does not read this stream, for so long at most.
    pub async fn send(&self, said: Said) -> Result<(), Fault> {
        let Some(said) = self.try_send(said)? else { return Ok(()) };
        let patience = self.worker.ledger.level().patience(STALL_WAIT);
        let acquired = timeout(patience, Arc::clone(&self.room).acquire_many_owned(places(&said))).await;
        let permit = acquired.map_err(|_| self.too_slow())?.map_err(|_| Fault::client(Kind::ClientGone))?;
        self.put_in(said, permit)
    }

    /// The last there is; never waits.
    pub fn last(&self, said: Said) {
        // A session that is over needs none.
        let _ = self.put(said, None);
    }

    /// Until nobody wants it any more.
    pub async fn gone(&self) {
        self.to.closed().await;
    }

    fn put_in(&self, said: Said, permit: OwnedSemaphorePermit) -> Result<(), Fault> {
        let share = Share::new(None, &self.worker.ledger, bytes(&said) as u64);
        self.put(said, Some(Room { _permit: permit, _share: share }))
    }

    fn put(&self, said: Said, room: Option<Room>) -> Result<(), Fault> {
        // Order: relaxed, see `set_tokens`.
        let tokens = self.tokens.load(Ordering::Relaxed);
        let delivery = Delivery { ticket: self.ticket, said, tokens, room };
        self.to.send(delivery).map_err(|_| Fault::client(Kind::ClientGone))
    }

    fn too_slow(&self) -> Fault {
        self.worker.tally.clients_too_slow.one();
        Fault::client(Kind::SlowClient)
    }
}

fn bytes(said: &Said) -> usize {
    match said {
        Said::Data(piece) | Said::Text(piece) => piece.len(),
        Said::Began { .. } | Said::Done(_) | Said::Failed(_) => 0,
    }
}

fn places(said: &Said) -> u32 {
    u32::try_from(bytes(said) + PIECE_BYTES).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES)
}

/// Of one stream: a second of a fast model, beside what the session itself holds for it.
const BUFFER_BYTES: u32 = 64 * 1024;
/// What a piece costs beside its bytes.
const PIECE_BYTES: usize = 64;
/// A stream that is not read, or a session whose connection is lost: as long as a session waits for its peer.
const STALL_WAIT: Duration = Duration::from_secs(30);
