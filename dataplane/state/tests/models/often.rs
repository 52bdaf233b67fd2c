//! How often a caller asks: two workers that meet a newcomer together give him one burst.

use dataplane_core::admit::often::{Place, Rate};
use dataplane_state::often::Often;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use proto_core::units::Moment;

const NOW: Moment = Moment(1 << 40);
const CALLER: u64 = 5 << 58;

#[test]
fn two_who_meet_a_newcomer_give_him_one_burst() {
    loom::model(|| {
        let often = Arc::new(Often::of_lines(Rate::new(1, 1), 1));
        let other = {
            let often = Arc::clone(&often);
            thread::spawn(move || often.take(CALLER, NOW).is_ok())
        };
        let own = often.take(CALLER, NOW).is_ok();
        let of_other = other.join().unwrap();
        assert!(own != of_other, "one of two passes: {own} and {of_other}");
    });
}

/// An account that is stored instead of swapped.
#[test]
#[should_panic(expected = "one of two passes")]
fn an_account_stored_without_comparing_is_found_out() {
    loom::model(|| {
        let (rate, word) = (Rate::new(1, 1), Arc::new(AtomicU64::new(0)));
        let take = move |word: &AtomicU64| {
            let seen = Place(word.load(Ordering::Relaxed));
            let next = rate.on_request(seen, 5, NOW);
            next.map(|next| word.store(next.0, Ordering::Relaxed)).is_ok()
        };
        let other = {
            let word = Arc::clone(&word);
            thread::spawn(move || take(&word))
        };
        let own = take(&word);
        let of_other = other.join().unwrap();
        assert!(own != of_other, "one of two passes: {own} and {of_other}");
    });
}
