//! Frames out of a stream of bytes, where what has come of the next one is in the worker's account: a peer
//! that begins a frame on each of its streams and ends none is seen, and turned away before memory is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dataplane_state::ledger::{Debt, Ledger};
use dataplane_state::tally::WorkerTally;
use proto_core::frame::FRAME_BYTES_MAX;
use proto_core::session::Splitter;

use crate::worker::Worker;

/// What has come of frames that are not whole, of all streams of one connection.
#[derive(Debug, Clone)]
pub struct Begun {
    ledger: Arc<Ledger>,
    tally: Arc<WorkerTally>,
    /// A count of one thread's tasks, atomic only to be shared between them.
    bytes: Arc<AtomicUsize>,
}

impl Begun {
    /// `bytes`: of this connection.
    pub fn of(worker: &Worker, bytes: &Arc<AtomicUsize>) -> Begun {
        Begun {
            ledger: Arc::clone(&worker.ledger),
            tally: Arc::clone(&worker.tally),
            bytes: Arc::clone(bytes),
        }
    }

    /// So many more than before, or fewer.
    fn change(&self, before: usize, now: usize) -> usize {
        if now >= before {
            // Order: relaxed, here and below: a count that guards nothing.
            self.bytes.fetch_add(now - before, Ordering::Relaxed) + now - before
        } else {
            // Order: relaxed, see above.
            self.bytes.fetch_sub(before - now, Ordering::Relaxed)
        }
    }
}

/// What one stream of bytes holds of a frame that is not whole.
#[derive(Debug)]
pub struct Rest {
    debt: Debt,
    begun: Begun,
}

impl Rest {
    pub fn new(begun: &Begun) -> Rest {
        Rest { debt: Debt::none(&begun.ledger), begun: begun.clone() }
    }

    /// So many bytes now.
    ///
    /// # Errors
    /// There is no room for them; counted.
    pub fn set(&mut self, held: usize) -> Result<(), Uncut> {
        let (held, before) = (held as u64, self.debt.bytes());
        if held > before && !self.debt.try_grow(held - before) {
            self.begun.tally.frames_without_room.one();
            return Err(Uncut::NoRoom);
        }
        self.debt.give_back(before.saturating_sub(held));
        let of_all = self.begun.change(before as usize, held as usize);
        if held > before && of_all > BEGUN_BYTES_MAX {
            self.begun.tally.frames_without_room.one();
            return Err(Uncut::TooMuch);
        }
        Ok(())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.begun.change(self.debt.bytes() as usize, 0);
    }
}

/// Of one stream of bytes.
#[derive(Debug)]
pub struct Cutter {
    splitter: Splitter,
    rest: Rest,
}

/// Why nothing more can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncut {
    #[error("a frame is longer than any may be")]
    TooLong,
    #[error("this connection has begun as many frames as it may, and ended none of them")]
    TooMuch,
    #[error("no memory is left for the rest of a frame")]
    NoRoom,
}

impl Cutter {
    pub fn new(begun: &Begun) -> Cutter {
        let splitter = Splitter::new(FRAME_BYTES_MAX);
        Cutter { splitter, rest: Rest::new(begun) }
    }

    pub fn on_bytes(&mut self, piece: Bytes) {
        self.splitter.on_bytes(piece);
    }

    /// The next message; `None`: more has to come, and what there is of it is accounted for.
    pub fn poll(&mut self) -> Result<Option<Bytes>, Uncut> {
        let message = self.splitter.poll().map_err(|_| Uncut::TooLong)?;
        if message.is_none() {
            self.rest.set(self.splitter.held_bytes())?;
        }
        Ok(message)
    }
}

/// Of a connection: eight of the longest frames, or a piece of each of a hundred streams on its way at once.
pub const BEGUN_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(bytes_max: u64) -> Begun {
        Begun { ledger: Arc::new(Ledger::new(bytes_max)), tally: Arc::default(), bytes: Arc::default() }
    }

    #[test]
    fn what_has_come_of_a_frame_is_accounted_for_until_it_is_whole() {
        let begun = begun(100);
        let ledger = Arc::clone(&begun.ledger);
        let mut cutter = Cutter::new(&begun);
        cutter.on_bytes(Bytes::from_static(b"\0\0\0\x28half"));
        assert_eq!((cutter.poll(), ledger.buffered_bytes()), (Ok(None), 8));
        cutter.on_bytes(Bytes::from(vec![b'x'; 36]));
        assert!(cutter.poll().is_ok_and(|message| message.is_some_and(|message| message.len() == 40)));
        assert_eq!((cutter.poll(), ledger.buffered_bytes()), (Ok(None), 0));
        cutter.on_bytes(Bytes::from([&[0, 0, 1, 0], &[b'x'; 97][..]].concat()));
        assert_eq!(cutter.poll(), Err(Uncut::NoRoom));
        drop(cutter);
        assert_eq!((ledger.buffered_bytes(), begun.tally.frames_without_room.value()), (0, 1));
    }

    #[test]
    fn all_streams_of_a_connection_together_begin_so_much_and_not_a_byte_more() {
        let begun = begun(u64::MAX);
        let mut cutters: Vec<Cutter> = (0..8).map(|_| Cutter::new(&begun)).collect();
        // Each a byte short of the longest frame, its length before it.
        let length = u32::try_from(FRAME_BYTES_MAX).unwrap().to_be_bytes();
        let longest = Bytes::from([&length[..], &vec![b'x'; FRAME_BYTES_MAX - 4]].concat());
        for cutter in &mut cutters {
            cutter.on_bytes(longest.clone());
            assert_eq!(cutter.poll(), Ok(None), "at the edge");
        }
        let mut other = Cutter::new(&begun);
        other.on_bytes(Bytes::from_static(b"\0"));
        assert_eq!(other.poll(), Err(Uncut::TooMuch));
        drop(other);
        drop(cutters.pop());
        let mut other = Cutter::new(&begun);
        other.on_bytes(Bytes::from_static(b"\0"));
        assert_eq!(other.poll(), Ok(None), "one that ended made room");
        drop((cutters, other));
        // Order: relaxed, nobody else is there.
        assert_eq!(begun.bytes.load(Ordering::Relaxed), 0);
    }
}
