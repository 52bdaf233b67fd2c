//! The spelling of events, and chains that were tampered with in every way.

use proptest::prelude::*;

use super::*;

fn event<'a>(kind: EventKind, key: &'a str, details: &'a [(&'a str, u64)]) -> Event<'a> {
    Event { at: Wall(1_795_369_654_123), kind, tenant: "acme", namespace: "notes", key, details }
}

/// Events as they are kept: number, spelling, hash.
type Log = Vec<(u64, String, Hash)>;

/// A whole log, and where its chain stands.
fn log(count: u64) -> (Log, Chain) {
    let mut chain = Chain::EMPTY;
    let events = (1..=count).map(|number| {
        let canonical = event(EventKind::Put, "k", &[("size", number)]).canonical();
        let hash = chain.append(&canonical);
        (number, canonical, hash)
    });
    (events.collect(), chain)
}

fn verify(anchor: Chain, events: &[(u64, String, Hash)], head: Chain) -> Result<(), Break> {
    let mut verifier = Verifier::new(anchor, None);
    for (number, canonical, hash) in events {
        verifier.on_event(*number, canonical.as_bytes(), hash, None)?;
    }
    verifier.finish(head)
}

#[test]
fn an_event_has_one_spelling() {
    let spelled = event(EventKind::Put, "today.txt", &[("size", 12), ("version", 3)]).canonical();
    assert_eq!(
        spelled,
        "{\"details\":{\"size\":12,\"version\":3},\"event_type\":\"memory_put\",\"key\":\"today.txt\",\
         \"namespace\":\"notes\",\"tenant_id\":\"acme\",\"timestamp\":\"2026-11-22T17:47:34.123Z\"}"
    );
    let odd = event(EventKind::Search, "\"\\\n\u{1}ä\u{1f600}", &[]).canonical();
    assert!(odd.contains(r#""key":"\"\\\n\u0001\u00e4\ud83d\ude00""#), "{odd}");
    assert!(odd.is_ascii());
}

#[test]
fn an_event_is_read_back_by_time_and_kind() {
    let spelled = event(EventKind::Delete, "k", &[]).canonical();
    assert_eq!(read(&spelled), Some((Wall(1_795_369_654_123), EventKind::Delete)));
    assert_eq!(read("{}"), None);
}

#[test]
fn the_first_hash_is_of_the_event_alone_and_the_next_of_both() {
    let mut chain = Chain::EMPTY;
    let one = chain.append("one");
    assert_eq!(hex(&one), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
    let two = chain.append("two");
    assert_eq!(two, <Hash>::from(Sha256::new_with_prefix(one).chain_update("two").finalize()));
    assert_eq!(chain, Chain { next: 3, head: Some(two) });
}

#[test]
fn every_kind_is_found_by_its_name() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(EventKind::parse("memory_gone"), None);
}

#[test]
fn a_log_nobody_touched_verifies_whole_empty_and_from_an_anchor() {
    assert_eq!(verify(Chain::EMPTY, &[], Chain::EMPTY), Ok(()));
    let (events, head) = log(5);
    assert_eq!(verify(Chain::EMPTY, &events, head), Ok(()));
    let anchor = Chain { next: 3, head: Some(events[1].2) };
    assert_eq!(verify(anchor, &events[2..], head), Ok(()));
}

#[test]
fn each_way_of_tampering_shows_at_its_event() {
    let (events, head) = log(5);
    let with = |change: fn(&mut Log)| {
        let mut events = events.clone();
        change(&mut events);
        verify(Chain::EMPTY, &events, head)
    };
    let table: [(_, fn(&mut Log)); 8] = [
        (Break::Changed { number: 3 }, |events| events[2].1 = events[2].1.replace('k', "l")),
        (Break::Changed { number: 3 }, |events| events[2].2[0] ^= 1),
        (Break::Missing { number: 3 }, |events| drop(events.remove(2))),
        (Break::Missing { number: 1 }, |events| drop(events.remove(0))),
        (Break::Missing { number: 5 }, |events| drop(events.pop())),
        (Break::Missing { number: 1 }, Vec::clear),
        (Break::Added { number: 5 }, |events| events.push(events[4].clone())),
        (Break::Changed { number: 2 }, |events| {
            let (one, two) = (events[1].clone(), events[2].clone());
            (events[1].1, events[1].2, events[2].1, events[2].2) = (two.1, two.2, one.1, one.2);
        }),
    ];
    for (expected, change) in table {
        assert_eq!(with(change), Err(expected));
        assert!((1..=5).contains(&expected.number()));
    }
}

#[test]
fn an_event_that_was_appended_without_its_chain_was_never_written() {
    let (events, _) = log(5);
    let (_, head) = log(4);
    assert_eq!(verify(Chain::EMPTY, &events, head), Err(Break::Added { number: 5 }));
}

#[test]
fn a_chain_written_anew_as_a_whole_does_not_fit_its_end() {
    let (_, head) = log(3);
    let mut other = Chain::EMPTY;
    let events: Vec<_> = (1..=3).map(|number| (number, "{}".to_owned(), other.append("{}"))).collect();
    assert_eq!(verify(Chain::EMPTY, &events, head), Err(Break::Changed { number: 3 }));
}

#[test]
fn a_seal_is_hmac_sha_256_over_the_hash() {
    // RFC 4231 has no case over 32 bytes of zeros; this one is of Python's hmac module.
    let secret = Secret::new(b"0123456789abcdef").unwrap();
    assert_eq!(
        hex(&secret.seal(&[0; 32])),
        "a0d810aa82c1dce17e623bfb25614e0dbce8a8ac130d3e81b502acd21bec054f"
    );
    assert!(secret.is_seal(&secret.seal(&[0; 32]), &[0; 32]));
    assert!(!secret.is_seal(&secret.seal(&[0; 32]), &[1; 32]));
    assert!(Secret::new(b"0123456789abcde").is_err());
    assert_eq!(format!("{secret:?}"), "Secret");
}

#[test]
fn with_a_secret_a_chain_written_anew_shows_at_its_first_event() {
    let (secret, other) = (Secret::new(&[7; 16]).unwrap(), Secret::new(&[8; 16]).unwrap());
    let (events, head) = log(4);
    // Which secret, if any, sealed each of the four.
    let verify = |seals: [Option<&Secret>; 4], with: Option<&Secret>| {
        let mut verifier = Verifier::new(Chain::EMPTY, with);
        for ((number, canonical, hash), sealed_by) in events.iter().zip(seals) {
            let seal = sealed_by.map(|secret| secret.seal(hash));
            verifier.on_event(*number, canonical.as_bytes(), hash, seal.as_ref())?;
        }
        let sealed = verifier.sealed();
        verifier.finish(head).map(|()| sealed)
    };
    let (ours, theirs) = (Some(&secret), Some(&other));
    assert_eq!(verify([ours; 4], ours), Ok(4));
    assert_eq!(verify([None, None, ours, ours], ours), Ok(2));
    assert_eq!(verify([ours, theirs, ours, ours], ours), Err(Break::Forged { number: 2 }));
    assert_eq!(verify([ours, ours, None, ours], ours), Err(Break::Unsealed { number: 3 }));
    assert_eq!(verify([None; 4], ours), Ok(0));
    assert_eq!(verify([ours; 4], None), Ok(0));
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_breaks_the_chain_at_its_event(
        count in 1..12_u64,
        at in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let (mut events, head) = log(count);
        let at = at.index(events.len());
        let mut bytes = events[at].1.clone().into_bytes();
        let byte = byte.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        let mut verifier = Verifier::new(Chain::EMPTY, None);
        let mut broke = None;
        for (index, (number, canonical, hash)) in events.drain(..).enumerate() {
            let canonical = if index == at { bytes.clone() } else { canonical.into_bytes() };
            if let Err(found) = verifier.on_event(number, &canonical, &hash, None) {
                broke = Some(found);
                break;
            }
        }
        prop_assert_eq!(broke, Some(Break::Changed { number: at as u64 + 1 }));
        prop_assert_eq!(head.next, count + 1);
    }

    #[test]
    fn an_events_spelling_is_json_that_says_the_same(key in "\\PC{0,20}", size in any::<u64>()) {
        let canonical = event(EventKind::Get, &key, &[("size", size)]).canonical();
        let read: serde_json::Value = serde_json::from_str(&canonical).unwrap();
        prop_assert_eq!(read["key"].as_str(), Some(&*key));
        prop_assert_eq!(read["details"]["size"].as_u64(), Some(size));
        prop_assert!(canonical.is_ascii());
    }
}
