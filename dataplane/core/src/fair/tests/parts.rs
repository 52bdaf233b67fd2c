//! The parts by themselves: heaps, accounts, waits, rates; and what the whole holds in memory.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::account::{Account, scaled};
use super::super::heap::Forest;
use super::super::rate::Rate;
use super::super::slab::NONE;
use super::super::waits::Waits;
use super::*;

proptest! {
    #[test]
    fn a_heap_gives_what_a_sorted_set_gives(
        steps in prop::collection::vec((0u32..64, 0u64..1000, 0u8..3), 1..400)
    ) {
        let mut heap = Forest::new();
        let (mut root, mut set) = (NONE, BTreeSet::new());
        let mut keys = [None; 64];
        for (at, key, what) in steps {
            match (keys[at as usize], what) {
                (None, _) => {
                    root = heap.push(root, at, (key, u64::from(at)));
                    set.insert((key, at));
                    keys[at as usize] = Some(key);
                }
                (Some(old), 0) => {
                    root = heap.rekey(root, at, (key, u64::from(at)));
                    set.remove(&(old, at));
                    set.insert((key, at));
                    keys[at as usize] = Some(key);
                }
                (Some(old), _) => {
                    root = heap.remove(root, at);
                    set.remove(&(old, at));
                    keys[at as usize] = None;
                }
            }
            let least = (root != NONE).then(|| (heap.key(root).0, root));
            prop_assert_eq!(least, set.first().copied());
            let mut seen = BTreeSet::new();
            heap.visit(root, 64, |key| key.0 < 500, |at, key| { seen.insert((key.0, at)); });
            let near: BTreeSet<(u64, u32)> = set.iter().copied().filter(|(key, _)| *key < 500).collect();
            prop_assert_eq!(seen, near);
        }
    }

    /// The one property that the proof of the bound rests on.
    #[test]
    fn an_accounts_floor_never_falls_and_its_counter_never_passes_below_it(
        steps in prop::collection::vec((0u8..4, 1u64..1000, 0u64..1200, 1u32..1000), 1..200)
    ) {
        let mut account = Account::default();
        let mut shares: Vec<(u32, u64, u32)> = Vec::new();
        let mut floor = 0;
        for (what, one, other, weight) in steps {
            match what {
                0 => shares.push((account.charge(scaled(one, weight)), one, weight)),
                1 => account.lift(account.floor() + scaled(other, weight)),
                2 if !shares.is_empty() => {
                    let at = one as usize % shares.len();
                    let (epoch, charged, weight) = &mut shares[at];
                    account.extend(*epoch, scaled(*charged + other, *weight) - scaled(*charged, *weight));
                    *charged += other;
                }
                3 if !shares.is_empty() => {
                    let (epoch, charged, weight) = shares.swap_remove(one as usize % shares.len());
                    account.settle(epoch, scaled(charged, weight), scaled(other, weight));
                }
                _ => {}
            }
            prop_assert!(account.floor() >= floor && account.counter() >= account.floor());
            prop_assert_eq!(account.in_flight() as usize, shares.len());
            floor = account.floor();
        }
    }
}

#[test]
fn charging_and_giving_back_leaves_no_trace_at_any_weight() {
    for weight in 1..=WEIGHT_MAX {
        let mut account = Account::default();
        let (mut charged, epoch) = (7, account.charge(scaled(7, weight)));
        for _ in 0..50 {
            account.extend(epoch, scaled(charged + 13, weight) - scaled(charged, weight));
            charged += 13;
        }
        account.settle(epoch, scaled(charged, weight), scaled(11, weight));
        assert_eq!(account.counter(), scaled(11, weight), "weight {weight}");
    }
}

#[test]
fn what_was_reserved_before_a_lift_comes_back_down_to_the_lift_and_no_further() {
    let mut account = Account::default();
    let old = account.charge(100);
    account.lift(40);
    let new = account.charge(30);
    assert_eq!((account.counter(), account.floor()), (130, 40));
    account.settle(old, 100, 10);
    assert_eq!(account.counter(), 70, "60 of 90 come back: 100 was 60 above the lift");
    account.settle(new, 30, 5);
    assert_eq!((account.counter(), account.floor()), (45, 45), "the new one comes back in full");
}

#[test]
fn starvation_is_the_95th_percentile_of_the_last_hundred_waits() {
    let mut waits = Waits::new();
    assert_eq!(waits.starved(), Duration::from_millis(50), "without history");
    waits.push(Duration::from_millis(1));
    assert_eq!(waits.starved(), Duration::from_millis(10), "never below");
    for wait in (1..=1000).rev() {
        waits.push(Duration::from_millis(wait));
    }
    assert_eq!(waits.starved(), Duration::from_millis(96), "of 1 to 100");
}

#[test]
fn a_rate_is_units_by_busy_time_and_a_stall_counts() {
    let mut rate = Rate::NEW;
    rate.on_backlog(at(100));
    assert_eq!(rate.wait(at(100), 10), None);
    for second in 1..=100 {
        rate.on_dispatch(at(100 + second), 50);
    }
    let near = |wait: Option<Duration>, seconds: f64| {
        let wait = wait.expect("much was seen").as_secs_f64();
        assert!((wait / seconds - 1.0).abs() < 0.01, "{wait} is not about {seconds}");
    };
    near(rate.wait(at(200), 500), 10.0);
    let stalled = rate.wait(at(260), 500).expect("much was seen");
    assert!(stalled > Duration::from_secs(40), "a minute without any: {stalled:?}");
}

#[test]
fn a_waiting_request_takes_at_most_512_bytes_where_nothing_of_it_is_shared() {
    // Lists grow by an eighth, tables by doubling at seven eighths: at worst 16/7 of four bytes and a mark
    // each.
    let in_lists = super::super::per_request();
    let (in_lists, in_tables) = (in_lists + in_lists.div_ceil(8), 2 * (5 * 16usize).div_ceil(7));
    assert!(in_lists + in_tables <= 512, "{in_lists} and {in_tables} bytes");
}
