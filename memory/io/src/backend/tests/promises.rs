//! The promises themselves. Each knows only that there is a backend.

use std::sync::Arc;
use std::time::Duration;

use memory_core::audit::{Break, EventKind, Secret};
use memory_core::consistency::Consistency;
use memory_core::entry::Precondition;
use memory_core::place::Namespace;
use memory_core::quota::{Quota, QuotaFault, Usage};
use memory_core::wall::Wall;

use super::kit::{Bench, NOW, QUOTA, asked, place};
use crate::backend::Noted;
use crate::store::changes::{Put, Refused};
use crate::store::reading::{EventFilter, Page};

const ALL: EventFilter = EventFilter { from: None, to: None, kind: None, before: None, limit: 100 };

fn ms(lifetime: u64) -> Option<Duration> {
    Some(Duration::from_millis(lifetime))
}

pub async fn what_is_put_is_there_until_its_very_moment(bench: Bench) {
    let put = Put { lifetime: ms(10), ..asked("acme", "tenant/acme/session/s1", r#"{"a":1.50}"#) };
    let entry = bench.backend.put(put).await.unwrap().unwrap();
    assert_eq!((entry.version, entry.expires), (1, Some(Wall(NOW + 10))));
    bench.pass(9);
    for level in [Consistency::Eventual, Consistency::Strong] {
        let item =
            bench.backend.get("acme".into(), place("tenant%2Facme/session%2Fs1"), level).await.unwrap();
        let item = item.expect("it lives for another millisecond");
        assert_eq!((&*item.value, item.entry), (&br#"{"a":1.50}"#[..], entry));
    }
    bench.pass(1);
    for level in [Consistency::Eventual, Consistency::Strong] {
        let item = bench.backend.get("acme".into(), place("tenant/acme/session/s1"), level).await.unwrap();
        assert_eq!(item, None);
    }
    assert_eq!(bench.keys("acme", "tenant").await, [""; 0]);
    let forever = bench.backend.put(asked("acme", "n/k", "{}")).await.unwrap().unwrap();
    assert_eq!(forever.expires, None);
}

pub async fn quotas_hold_to_the_item_and_to_the_byte(bench: Bench) {
    // Four bytes of path, two of value.
    let with = |raw: &str, items_max, bytes_max| Put {
        quota: Quota { items_max, bytes_max },
        ..asked("acme", raw, "{}")
    };
    bench.backend.put(with("n/k1", 2, 12)).await.unwrap().unwrap();
    bench.backend.put(with("n/k2", 2, 12)).await.unwrap().unwrap();
    let items = bench.backend.put(with("n/k3", 2, 1000)).await.unwrap();
    assert_eq!(items, Err(Refused::Quota(QuotaFault::Items { items_max: 2 })));
    let bytes = bench.backend.put(with("n/k3", 3, 17)).await.unwrap();
    assert_eq!(bytes, Err(Refused::Quota(QuotaFault::Bytes { bytes: 18, bytes_max: 17 })));
    // In the place of what is there it takes no room of its own.
    bench.backend.put(with("n/k2", 2, 12)).await.unwrap().unwrap();
    bench.backend.put(with("n/k3", 3, 18)).await.unwrap().unwrap();
    assert_eq!(bench.usage("acme").await, Usage { items: 3, bytes: 18 });
    let deleted = bench.backend.delete("acme".into(), place("n/k1"), Precondition::Any).await.unwrap();
    assert_eq!((deleted, bench.usage("acme").await), (Ok(true), Usage { items: 2, bytes: 12 }));
}

pub async fn what_expired_makes_way_and_what_lives_never_does(bench: Bench) {
    let small = Quota { items_max: 2, bytes_max: 1000 };
    let with = |raw: &str, lifetime| Put { quota: small, lifetime, ..asked("acme", raw, "{}") };
    bench.backend.put(with("n/short", ms(10))).await.unwrap().unwrap();
    bench.backend.put(with("n/long", None)).await.unwrap().unwrap();
    assert!(bench.backend.put(with("n/more", None)).await.unwrap().is_err());
    bench.pass(10);
    bench.backend.put(with("n/more", None)).await.unwrap().unwrap();
    assert_eq!(bench.usage("acme").await.items, 2);
    assert!(bench.backend.put(with("n/fourth", None)).await.unwrap().is_err());
    assert_eq!(bench.keys("acme", "n").await, ["long", "more"]);
}

pub async fn preconditions_are_asked_of_what_lives(bench: Bench) {
    let with = |precondition| Put { precondition, ..asked("acme", "n/k", "{}") };
    let put = async |precondition| bench.backend.put(with(precondition)).await.unwrap();
    assert_eq!(put(Precondition::Present).await, Err(Refused::Precondition(None)));
    let first = Put { lifetime: ms(5), ..with(Precondition::Absent) };
    assert_eq!(bench.backend.put(first).await.unwrap().unwrap().version, 1);
    assert_eq!(put(Precondition::Absent).await, Err(Refused::Precondition(Some(1))));
    assert_eq!(put(Precondition::Version(2)).await, Err(Refused::Precondition(Some(1))));
    bench.pass(5);
    assert_eq!(put(Precondition::Version(1)).await, Err(Refused::Precondition(None)));
    assert_eq!(put(Precondition::Absent).await.unwrap().version, 2);
    let delete =
        async |precondition| bench.backend.delete("acme".into(), place("n/k"), precondition).await.unwrap();
    assert_eq!(delete(Precondition::Version(1)).await, Err(Refused::Precondition(Some(2))));
    assert_eq!(delete(Precondition::Version(2)).await, Ok(true));
    assert_eq!(delete(Precondition::Any).await, Ok(false));
    assert_eq!(bench.usage("acme").await, Usage::default());
}

pub async fn tenants_share_nothing_not_even_a_count(bench: Bench) {
    bench.backend.put(asked("acme", "notes/a", r#"{"t":"secret plan"}"#)).await.unwrap().unwrap();
    assert_eq!(bench.text("other", "notes/a").await, None);
    assert_eq!(bench.keys("other", "notes").await, [""; 0]);
    let subject = bench.backend.of_subject("other".into(), "notes".into(), None, 10).await.unwrap();
    assert_eq!(subject.rows, [""; 0]);
    let first = bench.backend.put(asked("other", "notes/a", "{}")).await.unwrap().unwrap();
    // Its own reading is the event before.
    assert_eq!(first.version, 2);
    assert_eq!(bench.backend.delete_paths("other".into(), vec!["notes/a".into()]).await.unwrap(), 1);
    assert_eq!(bench.text("acme", "notes/a").await.as_deref(), Some(r#"{"t":"secret plan"}"#));
    assert_eq!(bench.usage("other").await, Usage::default());
    let events = bench.backend.events("other".into(), ALL).await.unwrap();
    assert!(events.iter().all(|kept| kept.event.contains(r#""tenant_id":"other""#)));
}

pub async fn a_namespace_is_listed_in_pages_of_all_below_it(bench: Bench) {
    for raw in ["t/acme/s1", "t/acme/s2", "t/acme/x/y", "t/acme2/s1", "t/acm", "u/s1"] {
        bench.backend.put(asked("acme", raw, "{}")).await.unwrap().unwrap();
    }
    let list = async |namespace: &str, prefix: &str, after: Option<&str>, limit| {
        let (namespace, after) = (Namespace::parse(namespace).unwrap(), after.map(str::to_owned));
        let page = bench.backend.list("acme".into(), namespace, prefix.into(), after, limit).await.unwrap();
        Page { rows: page.rows.into_iter().map(|(key, _)| key).collect(), next: page.next }
    };
    let page = |rows: &[&str], next: Option<&str>| Page {
        rows: rows.iter().map(|row| (*row).to_owned()).collect(),
        next: next.map(str::to_owned),
    };
    assert_eq!(list("t/acme", "", None, 10).await, page(&["s1", "s2", "x/y"], None));
    assert_eq!(list("t/acme", "", None, 3).await, page(&["s1", "s2", "x/y"], None));
    assert_eq!(list("t/acme", "s", None, 10).await, page(&["s1", "s2"], None));
    assert_eq!(list("t", "acme", None, 2).await, page(&["acme/s1", "acme/s2"], Some("acme/s2")));
    assert_eq!(list("t", "acme", Some("acme/s2"), 2).await, page(&["acme/x/y", "acme2/s1"], None));
    assert_eq!(list("t", "", Some("zzz"), 2).await, page(&[], None));
    assert_eq!(list("none", "", None, 10).await, page(&[], None));
}

pub async fn a_subject_is_found_wherever_a_segment_names_it_and_deleted_as_a_whole(bench: Bench) {
    for raw in ["user/u42/profile", "notes/u42", "user/u421/profile", "a/b"] {
        bench.backend.put(asked("acme", raw, r#"{"x":1}"#)).await.unwrap().unwrap();
    }
    let of = async |after: Option<String>, limit| {
        bench.backend.of_subject("acme".into(), "u42".into(), after, limit).await.unwrap()
    };
    let all = of(None, 10).await;
    assert_eq!((&*all.rows, all.next), (&["notes/u42".to_owned(), "user/u42/profile".to_owned()][..], None));
    let first = of(None, 1).await;
    let rest = of(first.next.clone(), 1).await;
    assert_eq!((first.rows, rest.rows), (vec!["notes/u42".to_owned()], vec!["user/u42/profile".to_owned()]));
    let items = bench.backend.items_of_subject("acme".into(), "u42".into(), None, 10).await.unwrap();
    assert!(items.rows.len() == 2 && items.rows.iter().all(|item| item.value == br#"{"x":1}"#));
    assert_eq!(bench.backend.delete_paths("acme".into(), all.rows).await.unwrap(), 2);
    assert_eq!(of(None, 10).await.rows, [""; 0]);
    assert_eq!(bench.usage("acme").await.items, 2);
}

pub async fn an_answer_of_many_large_items_ends_early_and_says_where_to_go_on(bench: Bench) {
    let large = format!("{{\"t\":\"word {}\"}}", "x".repeat(900_000));
    for raw in ["u42/a", "u42/b", "u42/c"] {
        bench.backend.put(Put { quota: QUOTA, ..asked("acme", raw, &large) }).await.unwrap().unwrap();
    }
    let page = async |after: Option<&str>| {
        let after = after.map(str::to_owned);
        let page = bench.backend.items_of_subject("acme".into(), "u42".into(), after, 10).await.unwrap();
        (page.rows.into_iter().map(|item| item.path).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None).await, (vec!["u42/a".into(), "u42/b".into()], Some("u42/b".into())));
    assert_eq!(page(Some("u42/b")).await, (vec!["u42/c".into()], None));
}

pub async fn events_are_told_newest_first_with_what_they_are_linked_to(bench: Bench) {
    bench.backend.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    for raw in ["n/a", "n/b"] {
        bench.pass(1);
        bench.backend.get("acme".into(), place(raw), Consistency::Strong).await.unwrap();
    }
    let numbers = async |filter| {
        let kept = bench.backend.events("acme".into(), filter).await.unwrap();
        kept.iter().map(|kept| kept.number).collect::<Vec<_>>()
    };
    let kept = bench.backend.events("acme".into(), ALL).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.number).collect::<Vec<_>>(), [3, 2, 1]);
    let linked: Vec<_> = kept.iter().map(|kept| kept.previous).collect();
    assert_eq!(linked, [Some(kept[1].hash), Some(kept[2].hash), None]);
    assert_eq!(numbers(EventFilter { limit: 1, ..ALL }).await, [3]);
    assert_eq!(numbers(EventFilter { before: Some(3), ..ALL }).await, [2, 1]);
    assert_eq!(numbers(EventFilter { before: Some(1), ..ALL }).await, [0; 0]);
    assert_eq!(numbers(EventFilter { from: Some(Wall(NOW + 1)), ..ALL }).await, [3, 2]);
    assert_eq!(numbers(EventFilter { to: Some(Wall(NOW + 1)), ..ALL }).await, [1]);
    assert_eq!(numbers(EventFilter { kind: Some(EventKind::GetNotFound), ..ALL }).await, [3]);
    let report = bench.backend.report("acme".into(), Some(Wall(NOW + 1)), None).await.unwrap();
    assert_eq!(report.into_iter().collect::<Vec<_>>(), [(EventKind::Get, 1), (EventKind::GetNotFound, 1)]);
}

pub async fn every_access_is_an_event_of_a_chain_that_verifies(bench: Bench) {
    let empty = bench.backend.integrity("acme".into()).await.unwrap();
    assert_eq!((empty.verdict, empty.account.chain.next), (Ok(()), 1));
    bench.backend.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    bench.text("acme", "n/a").await;
    bench.backend.delete("acme".into(), place("n/a"), Precondition::Any).await.unwrap().unwrap();
    let noted = Noted { kind: EventKind::List, namespace: "n".into(), key: String::new(), detail: None };
    bench.backend.note_later("acme".into(), noted.clone()).await.unwrap();
    bench.backend.note("acme".into(), noted).await.unwrap();
    let whole = bench.backend.integrity("acme".into()).await.unwrap();
    assert_eq!((whole.verdict, whole.account.chain.next, whole.sealed), (Ok(()), 6, None));
    let kinds: Vec<String> = bench
        .backend
        .events("acme".into(), ALL)
        .await
        .unwrap()
        .into_iter()
        .map(|kept| {
            let event: serde_json::Value = serde_json::from_str(&kept.event).unwrap();
            event["event_type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["memory_list", "memory_list", "memory_delete", "memory_get", "memory_put"]);
}

pub async fn with_a_secret_events_are_sealed(bench: Bench) {
    let secret = |byte: u8| Some(Secret::new(&[byte; 16]).unwrap());
    let one = async |bench: &Bench| bench.backend.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    let integrity = async |bench: &Bench| {
        let found = bench.backend.integrity("acme".into()).await.unwrap();
        (found.verdict, found.sealed)
    };
    one(&bench).await;
    let bench = bench.again(secret(7)).await;
    one(&bench).await;
    assert_eq!(integrity(&bench).await, (Ok(()), Some(1)));
    let bench = bench.again(secret(8)).await;
    assert_eq!(integrity(&bench).await, (Err(Break::Forged { number: 2 }), Some(0)));
    let bench = bench.again(None).await;
    assert_eq!(integrity(&bench).await, (Ok(()), None));
    one(&bench).await;
    let bench = bench.again(secret(7)).await;
    assert_eq!(integrity(&bench).await, (Err(Break::Unsealed { number: 3 }), Some(1)));
}

pub async fn a_sweep_removes_what_expired_and_nothing_else(bench: Bench) {
    for (raw, lifetime) in [("n/a", ms(1)), ("n/b", ms(1000)), ("n/c", None)] {
        bench.backend.put(Put { lifetime, ..asked("acme", raw, "{}") }).await.unwrap().unwrap();
    }
    bench.pass(1);
    assert_eq!(bench.backend.sweep("acme".into()).await.unwrap(), 1);
    assert_eq!(bench.backend.sweep("acme".into()).await.unwrap(), 0);
    assert_eq!(bench.usage("acme").await.items, 2);
    assert_eq!(bench.keys("acme", "n").await, ["b", "c"]);
}

pub async fn writes_at_once_are_each_a_version_of_their_own(bench: Bench) {
    let mut writing = tokio::task::JoinSet::new();
    for at in 0..100 {
        let backend = bench.backend.clone();
        writing.spawn(async move {
            let put = asked("acme", &format!("n/k{}", at % 10), "{}");
            backend.put(put).await.unwrap().unwrap().version
        });
    }
    let mut versions = writing.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=100).collect::<Vec<u64>>());
    assert_eq!(bench.usage("acme").await.items, 10);
    let tenant: Arc<str> = "acme".into();
    assert_eq!(bench.backend.integrity(tenant).await.unwrap().verdict, Ok(()));
}

pub async fn an_item_is_found_by_the_words_it_has_now_once_it_is_acknowledged(bench: Bench) {
    let none = [""; 0];
    bench.backend.put(asked("acme", "n/a", r#"{"t":"red red apple"}"#)).await.unwrap().unwrap();
    assert_eq!(bench.found("acme", "APPLE").await, ["n/a"]);
    assert_eq!(bench.found("other", "apple").await, none);
    let long = r#"{"t":"red pear and a lot of other words"}"#;
    bench.backend.put(asked("acme", "n/b", long)).await.unwrap().unwrap();
    assert_eq!(bench.found("acme", "red").await, ["n/a", "n/b"]);
    let short = Put { lifetime: ms(10), ..asked("acme", "n/a", r#"{"t":"green apple"}"#) };
    bench.backend.put(short).await.unwrap().unwrap();
    assert_eq!(bench.found("acme", "red").await, ["n/b"]);
    assert_eq!(bench.found("acme", "green").await, ["n/a"]);
    bench.pass(10);
    assert_eq!(bench.found("acme", "green").await, none);
    bench.backend.delete("acme".into(), place("n/b"), Precondition::Any).await.unwrap().unwrap();
    assert_eq!(bench.found("acme", "red").await, none);
}
