//! What it costs when worker threads meet: each shared cell on 1 to N threads, nanoseconds an operation. The
//! ratio to one thread is the figure; it comes from one run. Nothing is asserted: a machine that is shared
//! decides itself.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use benches::{Admission, Fixture, Mode};
use dataplane_core::breaker::Verdict;
use proto_core::units::{Moment, Permille};

/// What one thread does, so many times; `usize` is its number.
type Work = fn(&Fixture, usize, u64);

const CELLS: &[(&str, Work)] = &[
    ("snapshot: load, drop", |fixture, _, times| {
        (0..times).for_each(|_| drop(black_box(fixture.tables.load())));
    }),
    ("snapshot: peek (one count for all)", |fixture, _, times| {
        (0..times).for_each(|_| drop(black_box(fixture.tables.peek())));
    }),
    ("permits: acquire, release", |fixture, _, times| {
        let snapshot = fixture.tables.peek().expect("a snapshot");
        for _ in 0..times {
            assert!(black_box(snapshot.adapters[0].permits.try_acquire(400, Permille(1000))));
            assert!(!snapshot.adapters[0].permits.release(400));
        }
    }),
    ("session, tenant, permit: in and out", |fixture, _, times| {
        let session = Admission::session();
        (0..times).for_each(|_| fixture.admission.pass(&session));
    }),
    ("budgets of a tenant: charge, correct", |fixture, _, times| {
        (1..=times).for_each(|now| fixture.admission.spend(Moment(now * 1000)));
    }),
    ("breaker: pass, success", |fixture, _, times| {
        let snapshot = fixture.tables.peek().expect("a snapshot");
        for _ in 0..times {
            assert_eq!(black_box(snapshot.adapters[0].breaker.on_request(Moment(1))), Verdict::Pass);
            snapshot.adapters[0].breaker.on_success(false);
        }
    }),
    ("retry budget: earn", |fixture, _, times| {
        let snapshot = fixture.tables.peek().expect("a snapshot");
        (0..times).for_each(|_| black_box(&snapshot.routes[0].retries).on_request(Permille(200)));
    }),
    ("tally of a model: one add each", |fixture, own, times| {
        let snapshot = fixture.tables.peek().expect("a snapshot");
        (0..times).for_each(|_| black_box(&snapshot.offers[0].tallies[own]).output_tokens.add(60));
    }),
];

fn main() {
    let times = if Mode::of_arguments().is_quick { 1000 } else { 2_000_000 };
    let threads_max = std::thread::available_parallelism().map_or(1, usize::from);
    let fixture = Fixture::new(threads_max);
    println!("{:<36} {:>8} {:>10} {:>14}", "cell", "threads", "ns/op", "of one thread");
    for (name, work) in CELLS {
        let mut alone = 0.0;
        for threads in 1..=threads_max {
            // The best of a few: what disturbs a run only makes it longer.
            let rounds = (0..ROUNDS).map(|_| measure(&fixture, *work, threads, times));
            let ns = rounds.fold(f64::INFINITY, f64::min);
            if threads == 1 {
                alone = ns;
            }
            println!("{name:<36} {threads:>8} {ns:>10.1} {:>13.1}x", ns / alone);
        }
    }
}

/// Nanoseconds an operation takes a thread while `threads` of them do it.
fn measure(fixture: &Fixture, work: Work, threads: usize, times: u64) -> f64 {
    let start = Barrier::new(threads);
    let spans: Vec<f64> = std::thread::scope(|scope| {
        let spawn = |own| {
            let start = &start;
            scope.spawn(move || {
                work(fixture, own, times / 100);
                start.wait();
                let begun = Instant::now();
                work(fixture, own, times);
                begun.elapsed().as_nanos() as f64 / times as f64
            })
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("a bench does not panic")).collect()
    });
    spans.iter().sum::<f64>() / threads as f64
}

const ROUNDS: usize = 5;
