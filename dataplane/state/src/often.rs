//! How often each caller asked, shared by all workers: a table of a fixed size, a word for each caller, no
//! lock. Steps of [`dataplane_core::admit::often`] by compare-and-swap. Never asks what time it is.
//!
//! A caller's hash names a line of eight places. He has the one that carries his tag; a newcomer takes the
//! first whose holder is even again, which loses nothing. Where all eight hold somebody back, a newcomer is
//! counted with one of them: under an attack by many a few wait longer, and none asks more often. Two workers
//! that meet a newcomer at the same time want the same place, and one of them looks again; only where a place
//! became free between their looks may he get two, and so his burst twice, once.

use std::time::Duration;

use dataplane_core::admit::often::{Place, Rate, TAG_BITS};
use proto_core::units::Moment;

use crate::sync::{AtomicU64, Ordering};

/// Accounts of callers.
#[derive(Debug)]
pub struct Often {
    lines: Box<[Line]>,
    rate: Rate,
}

/// One cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

impl Often {
    pub fn new(rate: Rate) -> Often {
        Often::of_lines(rate, LINES)
    }

    /// With a number of lines of its own, for tests.
    pub fn of_lines(rate: Rate, lines: usize) -> Often {
        let line = |_| Line(std::array::from_fn(|_| AtomicU64::new(0)));
        Often { lines: (0..lines).map(line).collect(), rate }
    }

    /// One request of a caller: counted, or how long until it would pass. `caller`: a hash with a secret of
    /// this process, so that nobody can choose with whom to share a line.
    pub fn take(&self, caller: u64, now: Moment) -> Result<(), Duration> {
        // The tag is of the upper bits, the line of the lower ones.
        let tag = caller >> (64 - TAG_BITS);
        let at = usize::try_from(caller % self.lines.len() as u64).expect("below a length");
        let places = &self.lines[at].0;
        loop {
            let (place, seen) = self.find(places, tag, now);
            // Where all are taken, its holder's account is his.
            let counted = if self.rate.is_free(seen, now) { tag } else { seen.tag() };
            let next = self.rate.on_request(seen, counted, now)?;
            // Order: relaxed; the word is the whole account and guards nothing beside it.
            let swap = place.compare_exchange(seen.0, next.0, Ordering::Relaxed, Ordering::Relaxed);
            if swap.is_ok() {
                return Ok(());
            }
        }
    }

    /// His place; else the first that is free; else the one his tag falls on.
    fn find<'l>(&self, places: &'l [AtomicU64; PLACES], tag: u64, now: Moment) -> (&'l AtomicU64, Place) {
        let mut free = None;
        for place in places {
            // Order: relaxed, see `take`; what is out of date fails to be swapped.
            let seen = Place(place.load(Ordering::Relaxed));
            let is_free = self.rate.is_free(seen, now);
            if seen.is_of(tag) && !is_free {
                return (place, seen);
            }
            if is_free && free.is_none() {
                free = Some((place, seen));
            }
        }
        free.unwrap_or_else(|| {
            let place = &places[usize::try_from(tag % PLACES as u64).expect("below eight")];
            // Order: relaxed, see `take`.
            (place, Place(place.load(Ordering::Relaxed)))
        })
    }
}

/// Words of a cache line.
const PLACES: usize = 8;
/// 32,768 callers that ask faster than they may, at the same time, in 256 KiB.
const LINES: usize = 4096;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1 << 40);

    fn caller(tag: u64) -> u64 {
        tag << (64 - TAG_BITS)
    }

    #[test]
    fn each_caller_has_an_account_of_its_own() {
        let often = Often::new(Rate::new(1, 2));
        for tag in [1, 2, 3] {
            assert!(often.take(caller(tag), NOW).is_ok() && often.take(caller(tag), NOW).is_ok());
            assert_eq!(often.take(caller(tag), NOW), Err(Duration::from_secs(1)));
        }
        assert!(often.take(caller(1), NOW + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_line_holds_eight_who_owe_and_a_ninth_is_counted_with_one_of_them() {
        let often = Often::of_lines(Rate::new(1, 2), 1);
        for tag in 1..=8 {
            assert!(often.take(caller(tag), NOW).is_ok(), "{tag}");
        }
        assert!(often.take(caller(9), NOW).is_ok(), "what was left to him he shares with");
        assert!(often.take(caller(9), NOW).is_err(), "and no more");
        let later = NOW + Duration::from_secs(3);
        assert!(often.take(caller(10), later).is_ok() && often.take(caller(10), later).is_ok());
        assert!(often.take(caller(10), later).is_err(), "a place of one who is even is free");
    }

    #[test]
    fn callers_beyond_all_places_never_ask_more_often_together_than_places_allow() {
        let often = Often::of_lines(Rate::new(1, 1), 1);
        let passed = (1..1000).filter(|tag| often.take(caller(*tag), NOW).is_ok()).count();
        assert_eq!(passed, PLACES);
    }

    #[test]
    fn threads_together_get_one_burst() {
        let often = Often::new(Rate::new(1, 1000));
        let passed: u32 = std::thread::scope(|scope| {
            let asking = || scope.spawn(|| (0..1000).filter(|_| often.take(caller(5), NOW).is_ok()).count());
            let threads: Vec<_> = (0..4).map(|_| asking()).collect();
            threads.into_iter().map(|thread| u32::try_from(thread.join().unwrap()).unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }
}
