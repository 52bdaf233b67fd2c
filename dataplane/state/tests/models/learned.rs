//! What is learned: samples that arrive together both count.

use dataplane_core::admit::estimate::SAMPLES_MIN;
use dataplane_state::learned::Learned;
use loom::sync::Arc;
use loom::thread;

#[test]
fn samples_that_arrive_together_both_count() {
    loom::model(|| {
        let learned = Arc::new(Learned::with_cells(1));
        (2..SAMPLES_MIN).for_each(|_| learned.on_output(1, 5000));
        let other = {
            let learned = Arc::clone(&learned);
            thread::spawn(move || learned.on_output(1, 5000))
        };
        learned.on_output(1, 5000);
        other.join().unwrap();
        assert!(learned.output(1, None) > 4000, "a sample was lost: not enough to believe them");
    });
}
