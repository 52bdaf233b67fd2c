//! Who waits for an adapter: one queue for each of its models, all owned by one task.
//!
//! Nobody else touches a queue. A request that finds no permit leaves a note and waits for its answer;
//! whoever gives a permit back while somebody waits wakes the owner. Notes go through a lock-free list with a
//! bound; what may be lost of them (how long a first token took, who may be cut) is counted where it is lost.
//!
//! ```text
//!  no permit ──▶ note, WAITERS, wake ─┐                          ┌──▶ permit, sent to the one who waits
//!  permit back, WAITERS set: wake ────┤                          │
//!  one who waited leaves: wake ───────┼──▶ owner: notes, choose ─┤
//!  clock: deadlines, limits ──────────┘                          └──▶ too late, or cut for one in need
//! ```
//! The owner is a task of one worker, picked by the adapter's name. It ends when no snapshot and no request
//! holds its queue any more.

mod lane;
mod owner;
mod permit;
mod victims;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crossbeam_queue::SegQueue;
use dataplane_core::fair::{Ask, Charge, Share};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::limit::{Ceiling, Loss, Sample};
use dataplane_core::table::{OfferId, Table};
use dataplane_state::registry::{AdapterCell, OfferCell};
use dataplane_state::wake::WakeCell;
use proto_core::model::{Concurrency, Limits};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

pub use self::owner::run;
pub use self::permit::Permit;
pub use self::victims::{Preemptible, Preemption};
use crate::served::Hold;

/// The queue of one adapter, as others see it.
#[derive(Debug)]
pub struct Queue {
    cell: Arc<AdapterCell>,
    notes: SegQueue<Note>,
    notes_count: AtomicUsize,
    notes_lost: AtomicUsize,
    wake: WakeCell<Waker>,
}

/// What an adapter's queues are to be, from the newest set.
#[derive(Debug)]
pub struct Terms {
    pub limits: Limits,
    pub concurrency: Concurrency,
    /// With the hash each lane is known by.
    pub offers: Vec<(u64, Arc<OfferCell>)>,
}

/// One request that waits.
#[derive(Debug)]
struct Waiting {
    held: Hold,
    offer: OfferId,
    tokens: u64,
    answer: oneshot::Sender<Result<Permit, Fault>>,
}

/// A place in a queue. Dropping it gives it up, and a permit that is on its way to it goes back.
#[derive(Debug)]
pub struct Place {
    answer: oneshot::Receiver<Result<Permit, Fault>>,
    held: Hold,
    offer: OfferId,
}

/// What a permit was charged, and by which life of its owner: after a mistake of ours all accounts are new.
#[derive(Debug, Clone, Copy)]
struct Charged {
    share: Share,
    life: u32,
}

/// What the owner is told. `lane`: the offer's hash.
#[derive(Debug)]
enum Note {
    Wait { lane: u64, ask: Ask, waiting: Box<Waiting> },
    Gone { lane: u64 },
    Extended { lane: u64, charged: Charged, more: Charge },
    Settled { lane: u64, charged: Charged, used: Charge },
    Served { lane: u64, ask: Ask },
    Sample { lane: u64, sample: Sample },
    Loss { lane: u64, loss: Loss },
    Ceiling { lane: u64, ceiling: Ceiling },
    Preemptible { lane: u64, victim: Preemptible },
    Terms(Box<Terms>),
}

impl Queue {
    pub fn new(cell: Arc<AdapterCell>) -> Queue {
        Queue {
            cell,
            notes: SegQueue::new(),
            notes_count: AtomicUsize::new(0),
            notes_lost: AtomicUsize::new(0),
            wake: WakeCell::new(),
        }
    }

    /// From the newest set; never lost.
    pub fn set_terms(&self, terms: Terms) {
        self.push(Note::Terms(Box::new(terms)));
        self.wake.wake();
    }

    /// A place in the queue of `ask`'s offer.
    pub fn wait(&self, held: &Hold, offer: OfferId, ask: Ask) -> Result<Place, Fault> {
        let lane = held.table.offer(offer).hash;
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { held: Arc::clone(held), offer, tokens: ask.need_tokens, answer: sender };
        if !self.offer_note(Note::Wait { lane, ask, waiting: Box::new(waiting) }) {
            return Err(Fault::proxy(Kind::NoPermit));
        }
        // After the note is where the owner looks, before the owner is woken: then nobody is forgotten.
        self.cell.permits.set_waiters();
        self.wake.wake();
        Ok(Place { answer, held: Arc::clone(held), offer })
    }

    /// More was used than what a permit was charged with. Whether the owner will hear of it.
    fn on_extended(&self, lane: u64, charged: Charged, more: Charge) -> bool {
        self.offer_note(Note::Extended { lane, charged, more })
    }

    pub fn on_sample(&self, lane: u64, sample: Sample) {
        self.offer_note(Note::Sample { lane, sample });
    }

    /// Looked at once: a limit that is too high hurts at every moment.
    pub fn on_loss(&self, lane: u64, loss: Loss) {
        self.offer_note(Note::Loss { lane, loss });
        self.wake.wake();
    }

    pub fn on_ceiling(&self, lane: u64, ceiling: Ceiling) {
        self.offer_note(Note::Ceiling { lane, ceiling });
        self.wake.wake();
    }

    /// A request that may be cut for one in need.
    pub fn on_preemptible(&self, lane: u64, victim: Preemptible) {
        self.offer_note(Note::Preemptible { lane, victim });
    }

    /// Notes that found no room, ever.
    pub fn notes_lost(&self) -> usize {
        // Order: relaxed, a count for people.
        self.notes_lost.load(Ordering::Relaxed)
    }

    /// Never lost: one for each permit that was waited for, and a share that is not settled is charged for
    /// ever.
    fn on_settled(&self, lane: u64, charged: Charged, used: Charge) {
        self.push(Note::Settled { lane, charged, used });
    }

    /// What was served to one that did not wait, while others do now.
    fn on_served(&self, lane: u64, ask: Ask) {
        if ask.charge > Charge(0) {
            self.offer_note(Note::Served { lane, ask });
        }
    }

    /// Whether there was room. The owner is not woken for it.
    fn offer_note(&self, note: Note) -> bool {
        // Order: relaxed. The count bounds the list; that a note is seen is the list's own order.
        let is_room = self.notes_count.load(Ordering::Relaxed) < NOTES_MAX;
        if is_room {
            self.push(note);
        } else {
            // Order: relaxed, a count for people.
            self.notes_lost.fetch_add(1, Ordering::Relaxed);
            self.wake.wake();
        }
        is_room
    }

    fn push(&self, note: Note) {
        // Order: relaxed, see above. Counted before it can be taken, so that the count never passes zero.
        let before = self.notes_count.fetch_add(1, Ordering::Relaxed);
        self.notes.push(note);
        if before == NOTES_WAKE {
            self.wake.wake();
        }
    }

    fn take_note(&self) -> Option<Note> {
        let note = self.notes.pop()?;
        // Order: relaxed, see above.
        self.notes_count.fetch_sub(1, Ordering::Relaxed);
        Some(note)
    }
}

/// The permit or the reason why there is none; an error where the owner ended before it said either.
impl Future for Place {
    type Output = Result<Result<Permit, Fault>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.answer.is_terminated() {
            return;
        }
        // Before the owner is told: it lets go whom nobody listens for. Whoever stood behind may fit now.
        self.answer.close();
        let queue = self.held.queue(self.offer);
        queue.offer_note(Note::Gone { lane: self.held.table.offer(self.offer).hash });
        queue.wake.wake();
    }
}

impl Terms {
    /// Of each adapter of a table, in its order.
    pub fn of(table: &Table, offers: &[Arc<OfferCell>]) -> Vec<Terms> {
        let mut all: Vec<Terms> = table
            .adapters
            .iter()
            .map(|row| Terms { limits: row.limits, concurrency: row.concurrency, offers: Vec::new() })
            .collect();
        for (row, cell) in table.offers.iter().zip(offers) {
            all[row.adapter.0 as usize].offers.push((row.hash, Arc::clone(cell)));
        }
        all
    }
}

/// Notes that were not read yet: all who wait and all that ends in the milliseconds an owner may be away.
const NOTES_MAX: usize = 32_768;
/// Notes nobody was woken for, until somebody is.
const NOTES_WAKE: usize = 512;
