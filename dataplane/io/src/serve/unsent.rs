//! What an HTTP/2 connection owes its client: bytes of answers that wait for the client's window, in our
//! buffers or the protocol's. A client whose window stays shut looks, from the socket, like one
//! that has nothing to read; this is how the guard tells them apart.
//!
//! Each piece of an answer carries its [`Share`]; what the protocol takes of it counts as sent, what is
//! dropped with a reset stream is owed no more.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use dataplane_state::ledger::{Debt, Ledger};

/// Of one connection. Counts of one task, atomic only to be shared between the streams' tasks.
#[derive(Debug, Default)]
pub struct Unsent {
    waiting_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Unsent {
    /// Owed now.
    pub fn waiting_bytes(&self) -> u64 {
        // Order: relaxed, here and below: counts that guard nothing.
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Written so far, ever.
    pub fn sent_bytes(&self) -> u64 {
        // Order: relaxed, see above.
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// Part of what is owed, and of what the worker holds.
#[derive(Debug)]
pub struct Share {
    /// `None` over HTTP/1.1: there the socket shows who does not read.
    of: Option<Arc<Unsent>>,
    debt: Debt,
}

impl Share {
    pub fn new(of: Option<&Arc<Unsent>>, ledger: &Arc<Ledger>, bytes: u64) -> Share {
        if let Some(of) = of {
            // Order: relaxed, see above.
            of.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Share { of: of.cloned(), debt: Debt::of(ledger, bytes) }
    }

    /// The part for `bytes` of it.
    pub fn split(&mut self, bytes: u64) -> Share {
        Share { of: self.of.clone(), debt: self.debt.split(bytes) }
    }

    fn on_sent(&mut self, bytes: u64) {
        let bytes = self.debt.give_back(bytes);
        if let Some(of) = &self.of {
            // Order: relaxed, see above.
            of.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            // Order: relaxed, see above.
            of.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            // Order: relaxed, see above.
            of.waiting_bytes.fetch_sub(self.debt.bytes(), Ordering::Relaxed);
        }
    }
}

/// A piece of an answer as the protocol takes it.
#[derive(Debug)]
pub struct Parcel {
    pub bytes: Bytes,
    /// `None` where it passes without being held.
    pub share: Option<Share>,
}

impl Buf for Parcel {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(into)
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        if let Some(share) = &mut self.share {
            share.on_sent(bytes as u64);
        }
    }

    fn copy_to_bytes(&mut self, bytes: usize) -> Bytes {
        if let Some(share) = &mut self.share {
            share.on_sent(bytes as u64);
        }
        self.bytes.copy_to_bytes(bytes)
    }
}

/// Looks at a connection once an interval and says what is to become of it. Pure: the guard has the timer.
#[derive(Debug, Default)]
pub struct Watch {
    waiting_bytes: u64,
    sent_bytes: u64,
    /// Requests ever begun.
    begun: u32,
    idle_looks: u32,
    /// Since the last that counted.
    ticks: u32,
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Well,
    /// Answers wait and hardly a byte of them was taken since the last look.
    Stalled,
    /// Nothing was asked for so long that the client may be told to go.
    Idle,
}

impl Watch {
    /// A look that counts where it is the last of `ticks`: fewer where the worker is hard pressed, since what
    /// a client leaves lying is given back only when its connection ends.
    pub fn on_tick(&mut self, ticks: u32, unsent: &Unsent, under_way: u32, begun: u32) -> Look {
        self.ticks += 1;
        if self.ticks < ticks {
            return Look::Well;
        }
        self.ticks = 0;
        self.on_look(unsent, under_way, begun)
    }

    /// `under_way`: requests not answered to their end. `begun`: requests ever.
    fn on_look(&mut self, unsent: &Unsent, under_way: u32, begun: u32) -> Look {
        let (waiting, sent) = (unsent.waiting_bytes(), unsent.sent_bytes());
        let owed = waiting.min(self.waiting_bytes);
        let wanted = (self.waiting_bytes / MOVES_PART).max(MOVES_BYTES_MIN).min(owed);
        let is_stalled = owed > 0 && sent - self.sent_bytes < wanted;
        let is_idle = under_way == 0 && waiting == 0 && begun == self.begun;
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        (self.waiting_bytes, self.sent_bytes, self.begun) = (waiting, sent, begun);
        match () {
            () if is_stalled => Look::Stalled,
            () if self.idle_looks >= IDLE_LOOKS => Look::Idle,
            () => Look::Well,
        }
    }
}

/// In an interval: 34 bytes a second, slower than any link,
const MOVES_BYTES_MIN: u64 = 1024;
/// or this part of what waits, so that one stream read drop by drop does not hold a hundred that are not.
const MOVES_PART: u64 = 256;
/// Intervals without a request: ten of the guard's half minutes, in red of its six seconds. Longer than
/// clients' own pools keep a connection, and a client that is told to go (GOAWAY) loses no request.
const IDLE_LOOKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Arc<Ledger> {
        Arc::new(Ledger::new(u64::MAX))
    }

    #[test]
    fn what_is_taken_counts_as_sent_and_what_is_dropped_is_owed_no_more() {
        let unsent = Arc::new(Unsent::default());
        let mut whole = Share::new(Some(&unsent), &ledger(), 100);
        let share = Some(whole.split(60));
        let mut parcel = Parcel { bytes: Bytes::from_static(&[7; 60]), share };
        parcel.advance(20);
        assert_eq!(parcel.copy_to_bytes(30).len(), 30);
        assert_eq!((unsent.waiting_bytes(), unsent.sent_bytes()), (50, 50));
        drop(parcel);
        assert_eq!((unsent.waiting_bytes(), unsent.sent_bytes()), (40, 50));
        drop(whole);
        assert_eq!((unsent.waiting_bytes(), unsent.sent_bytes()), (0, 50));
    }

    #[test]
    fn a_client_is_stalled_where_answers_wait_and_hardly_move() {
        // Owed at one look; then sent, and owed at the next; what that shows.
        for (before, sent, added, look) in [
            (0, 0, 100, Look::Well),
            (100, 0, 0, Look::Stalled),
            (100, 99, 0, Look::Well),
            (100, 100, 0, Look::Well),
            (5000, MOVES_BYTES_MIN - 1, 0, Look::Stalled),
            (5000, MOVES_BYTES_MIN, 0, Look::Well),
            (256 * 5000, 4999, 0, Look::Stalled),
            (256 * 5000, 5000, 0, Look::Well),
            (5000, 0, 5000, Look::Stalled),
        ] {
            let unsent = Arc::new(Unsent::default());
            let mut share = Share::new(Some(&unsent), &ledger(), before);
            let mut watch = Watch::default();
            assert_eq!(watch.on_look(&unsent, 1, 1), Look::Well);
            share.on_sent(sent);
            let _more = Share::new(Some(&unsent), &ledger(), added);
            assert_eq!(watch.on_look(&unsent, 1, 1), look, "{before} {sent} {added}");
        }
    }

    #[test]
    fn who_takes_nothing_is_found_at_the_second_look_that_counts_sooner_under_pressure() {
        let unsent = Arc::new(Unsent::default());
        let _owed = Share::new(Some(&unsent), &ledger(), 5000);
        let looks_until_stalled = |ticks: &[u32]| {
            let mut watch = Watch::default();
            ticks.iter().take_while(|ticks| watch.on_tick(**ticks, &unsent, 1, 1) != Look::Stalled).count()
        };
        assert_eq!(looks_until_stalled(&[5; 20]), 9, "at ease: two intervals of five");
        assert_eq!(looks_until_stalled(&[1; 20]), 1, "hard pressed: two of one");
        assert_eq!(looks_until_stalled(&[5, 5, 5, 5, 5, 5, 5, 1]), 7, "pressed in the middle of one");
    }

    #[test]
    fn a_connection_is_idle_after_ten_looks_without_a_request_and_a_request_starts_the_count_again() {
        let unsent = Arc::new(Unsent::default());
        let mut watch = Watch::default();
        let looks = |watch: &mut Watch, under_way, begun, count: u32| {
            (0..count).filter(|_| watch.on_look(&unsent, under_way, begun) == Look::Idle).count()
        };
        assert_eq!(looks(&mut watch, 0, 0, IDLE_LOOKS - 1), 0);
        assert_eq!(looks(&mut watch, 0, 1, IDLE_LOOKS), 0, "one came and went");
        assert_eq!(looks(&mut watch, 0, 1, 1), 1);
        assert_eq!(looks(&mut watch, 1, 2, 100), 0, "one is under way");
    }
}
