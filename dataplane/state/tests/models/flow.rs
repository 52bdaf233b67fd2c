//! Two answers of one session end at once.

use std::time::Duration;

use dataplane_state::flow::FlowCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

const FAST: Duration = Duration::from_millis(1);

#[test]
fn no_answer_is_lost_on_a_sessions_window() {
    loom::model(|| {
        let flow = Arc::new(FlowCell::new());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let flow = Arc::clone(&flow);
                thread::spawn(move || flow.on_answer(FAST, 0))
            })
            .collect();
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap()));
        assert_eq!(flow.current(), 6, "an answer was lost");
    });
}

/// The same promise asked of a cell that reads, then writes: it must be found broken.
#[test]
#[should_panic(expected = "an answer was lost")]
fn a_window_that_is_read_and_then_written_is_found_out() {
    loom::model(|| {
        let flow = Arc::new(AtomicU32::new(4));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let flow = Arc::clone(&flow);
                thread::spawn(move || flow.store(flow.load(Ordering::SeqCst) + 1, Ordering::SeqCst))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(flow.load(Ordering::SeqCst), 6, "an answer was lost");
    });
}
