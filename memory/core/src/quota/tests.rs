//! Quotas at their edges, and the counts against a model that keeps every item.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const QUOTA: Quota = Quota { items_max: 3, bytes_max: 100 };

fn usage(items: u64, bytes: u64) -> Usage {
    Usage { items, bytes }
}

#[test]
fn a_quota_may_be_filled_to_its_last_byte_and_item_and_not_past_them() {
    let admit = |before: Usage, bytes| before.admit(QUOTA, None, Charge(bytes), []);
    assert_eq!(admit(usage(2, 90), 10), Ok(Admitted { usage: usage(3, 100), evicted: 0 }));
    assert_eq!(admit(usage(2, 90), 11), Err(QuotaFault::Bytes { bytes: 101, bytes_max: 100 }));
    assert_eq!(admit(usage(3, 0), 1), Err(QuotaFault::Items { items_max: 3 }));
}

#[test]
fn an_item_that_replaces_another_needs_only_the_difference() {
    let full = usage(3, 100);
    let replaced = full.admit(QUOTA, Some(Charge(40)), Charge(40), []);
    assert_eq!(replaced, Ok(Admitted { usage: full, evicted: 0 }));
    assert!(full.admit(QUOTA, Some(Charge(40)), Charge(41), []).is_err());
}

#[test]
fn expired_items_make_way_in_order_and_no_more_of_them_than_needed() {
    let expired = [Charge(10), Charge(20), Charge(30)];
    let admitted = usage(3, 100).admit(QUOTA, None, Charge(25), expired).unwrap();
    assert_eq!(admitted, Admitted { usage: usage(2, 95), evicted: 2 });
}

#[test]
fn what_lives_never_makes_way() {
    let refused = usage(3, 100).admit(QUOTA, None, Charge(80), [Charge(10)]);
    assert_eq!(refused, Err(QuotaFault::Bytes { bytes: 170, bytes_max: 100 }));
}

#[test]
fn a_charge_counts_path_and_value() {
    assert_eq!(Charge::of("a/b", 7), Charge(10));
    assert_eq!(Charge::of("a/b", u64::MAX), Charge(u64::MAX));
}

#[derive(Debug, Clone)]
enum Step {
    Put { name: u8, bytes: u64, is_expired: bool },
    Delete { name: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let put = (0..6_u8, 0..60_u64, any::<bool>());
    prop_oneof![
        3 => put.prop_map(|(name, bytes, is_expired)| Step::Put { name, bytes, is_expired }),
        1 => (0..6_u8).prop_map(|name| Step::Delete { name }),
    ]
}

/// Items by name: bytes, and whether they have expired.
type Stored = BTreeMap<u8, (u64, bool)>;

/// Does a step, to the model and to the counts.
fn take(step: &Step, stored: &mut Stored, counted: Usage) -> Result<Usage, TestCaseError> {
    let (name, bytes, is_expired) = match *step {
        Step::Put { name, bytes, is_expired } => (name, bytes, is_expired),
        Step::Delete { name } => {
            let gone = stored.remove(&name);
            return Ok(gone.map_or(counted, |(bytes, _)| counted.without(Charge(bytes))));
        }
    };
    let replaced = stored.get(&name).map(|(bytes, _)| Charge(*bytes));
    let others: Stored = stored.iter().filter(|(other, _)| **other != name).map(|(k, v)| (*k, *v)).collect();
    let (expired, living): (Stored, Stored) = others.into_iter().partition(|(_, (_, expired))| *expired);
    let charges = expired.values().map(|(bytes, _)| Charge(*bytes));
    match counted.admit(QUOTA, replaced, Charge(bytes), charges) {
        Ok(admitted) => {
            for name in expired.keys().take(admitted.evicted) {
                stored.remove(name);
            }
            stored.insert(name, (bytes, is_expired));
            Ok(admitted.usage)
        }
        Err(_) => {
            let least = living.values().map(|(bytes, _)| bytes).sum::<u64>() + bytes;
            let count = living.len() as u64 + 1;
            prop_assert!(least > QUOTA.bytes_max || count > QUOTA.items_max, "it would have fitted");
            Ok(counted)
        }
    }
}

proptest! {
    #[test]
    fn counts_are_exactly_what_is_stored_after_any_steps(steps in prop::collection::vec(step(), 0..60)) {
        let mut stored = Stored::new();
        let mut counted = Usage::default();
        for step in steps {
            counted = take(&step, &mut stored, counted)?;
            let bytes: u64 = stored.values().map(|(bytes, _)| bytes).sum();
            prop_assert_eq!(counted, Usage { items: stored.len() as u64, bytes });
            prop_assert!(counted.items <= QUOTA.items_max && counted.bytes <= QUOTA.bytes_max);
        }
    }
}
