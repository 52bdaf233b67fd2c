//! What one that waits takes.

use std::mem::size_of;

use dataplane_core::fair::FairQueue;

use super::*;

#[test]
fn what_is_kept_for_one_that_waits_is_small() {
    type Told = Result<Permit, Fault>;
    // Tokio's channel: two counts, its state, what is sent, a waker at either end.
    let word = size_of::<usize>();
    let channel = 3 * word + size_of::<Option<Told>>() + 2 * size_of::<Waker>();
    let (waiting, note, place) = (size_of::<Waiting>(), size_of::<Note>(), size_of::<Place>());
    let permit = size_of::<Permit>();
    let in_queue = FairQueue::<Box<Waiting>>::REQUEST_BYTES;
    println!("queue {in_queue}, waiting {waiting}, place {place}, channel {channel} of a permit of {permit}");
    println!("a note, for a moment: {note}");
    assert!(in_queue + waiting + channel + place <= MOST);
}

const MOST: usize = 512;
