//! On two threads, as fast as it goes: nothing leaks and nobody waits for ever.

use std::future::poll_fn;
use std::path::PathBuf;

use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::config::{Config, Origin};
use crate::worker::Shared;

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    at_once: usize,
    granted: usize,
    refused: usize,
    left: usize,
}

/// One caller after another: each comes, waits or leaves, holds its permit for a moment.
async fn caller(seed: u64, queue: Arc<Queue>, tables: Arc<Tables<Served>>) -> Counts {
    let (mut dice, mut counts) = (Dice(seed), Counts::default());
    for _ in 0..ROUNDS {
        let held = tables.load().expect("a set is served");
        let offer = OfferId(dice.below(held.table.offers.len() as u64) as u32);
        let tokens = dice.below(30);
        let band = [Qos::Bronze, Qos::Silver, Qos::Gold][dice.below(3) as usize];
        let ask = Ask { need_tokens: tokens, charge: Charge(10 * tokens), ..of_band(band, dice.below(5)) };
        let permit = match Permit::try_now(&held, offer, &ask) {
            Some(permit) => {
                counts.at_once += 1;
                Some(permit)
            }
            None => {
                let place = queue.wait(&held, offer, ask).expect("few notes");
                let patience = if dice.below(3) == 0 { dice.below(40) } else { u64::MAX };
                match within(place, patience).await {
                    Some(Ok(permit)) => {
                        counts.granted += 1;
                        Some(permit)
                    }
                    Some(Err(fault)) => {
                        assert!(matches!(fault.kind, Kind::NoPermit | Kind::Preempted), "{fault:?}");
                        counts.refused += 1;
                        None
                    }
                    None => {
                        counts.left += 1;
                        None
                    }
                }
            }
        };
        for _ in 0..dice.below(4) {
            yield_now().await;
        }
        if let Some(mut permit) = permit
            && dice.below(2) == 0
        {
            permit.extend(64, Charge(20 * 64));
            permit.on_used(Charge(dice.below(2000)));
        }
    }
    counts
}

/// What it is told, or `None` where it has no more patience than for so many looks of others.
async fn within(mut place: Place, patience: u64) -> Option<Result<Permit, Fault>> {
    if patience == u64::MAX {
        return Some(place.await.expect("nobody is left without an answer"));
    }
    for _ in 0..patience {
        let told = poll_fn(|cx| match Pin::new(&mut place).poll(cx) {
            Poll::Ready(told) => Poll::Ready(Some(told)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        if let Some(told) = told {
            return Some(told.expect("nobody is left without an answer"));
        }
        yield_now().await;
    }
    None
}

/// Sets come and go under them; at the end one with room.
async fn changes(
    queue: Arc<Queue>,
    tables: Arc<Tables<Served>>,
    mut registry: Registry,
    is_over: Arc<AtomicBool>,
) {
    let mut dice = Dice(99);
    let mut number = 1;
    // Order: relaxed, here and where it is set: the last set is the same whenever it comes.
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let kind = ["fixed", "aimd", "gradient"][dice.below(3) as usize];
        let (parallel, queued) = (1 + dice.below(6), [0, 20, 1000, 1000][dice.below(4) as usize]);
        let terms = format!("max_parallel: {parallel}, max_queued: {queued}, max_tokens_in_flight: 100");
        let terms = format!("{}  concurrency: {kind}\n", limits(&terms));
        let models = if dice.below(3) == 0 { &["m"][..] } else { &["m", "n"][..] };
        tables.swap(served(&mut registry, &queue, number, &terms, models));
        for _ in 0..20 + dice.below(1000) {
            yield_now().await;
        }
    }
    tables.swap(served(&mut registry, &queue, number + 1, &limits("max_parallel: 5"), &["m", "n"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_threads_nothing_leaks_and_nobody_waits_for_ever() {
    let shared = Arc::new(Shared::new(Config::local(PathBuf::new(), Origin::File(PathBuf::new())), None));
    let (mut registry, tables) = (Registry::new(1), Arc::new(Tables::new()));
    let snapshot = registry.bind(0, 1, table(&limits("max_parallel: 2"), &["m", "n"]));
    let queue = Arc::new(Queue::new(Arc::clone(&snapshot.adapters[0])));
    let cells: Vec<_> = snapshot.offers.iter().map(Arc::clone).collect();
    tables.swap(served(&mut registry, &queue, 1, &limits("max_parallel: 2"), &["m", "n"]));
    drop(tokio::spawn(run(Arc::clone(&queue), Arc::clone(&shared))));
    let is_over = Arc::new(AtomicBool::new(false));
    let changer = changes(Arc::clone(&queue), Arc::clone(&tables), registry, Arc::clone(&is_over));
    let changer = tokio::spawn(changer);
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| tokio::spawn(caller(seed, Arc::clone(&queue), Arc::clone(&tables))))
        .collect();
    let mut sum = Counts::default();
    for caller in callers {
        let counts = timeout(HANGS, caller).await.expect("nobody waits for ever").expect("no panic");
        sum.at_once += counts.at_once;
        sum.granted += counts.granted;
        sum.refused += counts.refused;
        sum.left += counts.left;
    }
    // Order: relaxed, see `changes`.
    is_over.store(true, Ordering::Relaxed);
    timeout(HANGS, changer).await.expect("it sees that it is over").expect("no panic");
    timeout(HANGS, async {
        while queue.cell.permits.now().has_waiters || !queue.notes.is_empty() {
            yield_now().await;
        }
    })
    .await
    .expect("the owner finds that nobody waits");
    println!("{sum:?}");
    assert_eq!(queue.cell.permits.now(), Default::default());
    for cell in cells {
        let load = cell.permits.now();
        assert_eq!((load.requests, load.tokens), (0, 0));
        let tally = &cell.queue;
        assert_eq!(tally.enqueued.value(), tally.granted.value() + tally.dropped.value());
    }
    assert_eq!(shared.tallies[0].panics.value(), 0);
    assert!(sum.at_once > 0 && sum.granted > 0 && sum.left > 0, "{sum:?}");
}

const CALLERS: u64 = 32;
const ROUNDS: usize = 1000;
/// Far beyond anything; only a caller that is forgotten reaches it.
const HANGS: Duration = Duration::from_secs(60);
