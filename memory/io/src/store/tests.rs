//! The store on a real disk: what is kept, what is counted, what is found, and that tenants never meet.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use memory_core::audit::{Break, EventKind};
use memory_core::entry::{Entry, Precondition};
use memory_core::place::{Namespace, Place};
use memory_core::quota::{Quota, QuotaFault, Usage};
use memory_core::wall::Wall;
use tempfile::TempDir;

use super::changes::{Changes, EVENTS_MAX, Put, Refused};
use super::feed::{Change, Unseen};
use super::reading::{EventFilter, Page};
use super::*;

const QUOTA: Quota = Quota { items_max: 1000, bytes_max: 1_000_000 };
const NOW: Wall = Wall(1_000_000);

fn open_in(folder: &TempDir) -> Store {
    Store::open(folder.path(), None).unwrap().0
}

fn place(raw: &str) -> Place {
    Place::of_url(raw).unwrap()
}

fn asked(tenant: &str, raw: &str, value: &str) -> Put {
    Put {
        tenant: tenant.into(),
        place: place(raw),
        value: value.as_bytes().to_vec(),
        precondition: Precondition::Any,
        lifetime: None,
        quota: QUOTA,
    }
}

fn put(store: &Store, put: &Put, now: Wall) -> Result<Entry, Refused> {
    store.write(|writing| writing.put(put, now)).unwrap()
}

fn get(store: &Store, tenant: &str, raw: &str, now: Wall) -> Option<String> {
    let item = store.read(|reading| reading.get(tenant, &place(raw), now)).unwrap();
    item.map(|item| String::from_utf8(item.value).unwrap())
}

fn usage(store: &Store, tenant: &str) -> Usage {
    store.read(|reading| reading.account(tenant)).unwrap().map_or(Usage::default(), |account| account.usage)
}

fn list(store: &Store, namespace: &str, prefix: &str, after: Option<&str>, limit: usize) -> Page<String> {
    let namespace = Namespace::parse(namespace).unwrap();
    let page = store.read(|reading| reading.list("acme", &namespace, prefix, after, limit, NOW)).unwrap();
    Page { rows: page.rows.into_iter().map(|(key, _)| key).collect(), next: page.next }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    put(&open_in(&folder), &asked("acme", "tenant/acme/session/s1", r#"{"a":1.50}"#), NOW).unwrap();
    let store = open_in(&folder);
    assert_eq!(get(&store, "acme", "tenant%2Facme/session%2Fs1", NOW).as_deref(), Some(r#"{"a":1.50}"#));
    let (_, account) = store.read(Reading::accounts).unwrap().remove(0);
    assert_eq!((account.usage, account.chain.next), (Usage { items: 1, bytes: 32 }, 2));
    assert_eq!(store.read(|reading| reading.integrity("acme")).unwrap().verdict, Ok(()));
}

#[test]
fn a_store_that_is_open_is_not_opened_twice_and_only_its_owner_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open_in(&folder);
    let told = Store::open(folder.path(), None).unwrap_err().to_string();
    assert!(told.contains("memory.redb is open in another process"), "{told}");
    let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_is_no_store_is_left_alone_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "not a database").unwrap();
    let told = Store::open(folder.path(), None).unwrap_err().to_string();
    assert!(told.contains("memory.redb"), "{told}");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn tenants_share_nothing_not_even_a_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    put(&store, &asked("acme", "notes/a", r#"{"t":"secret plan"}"#), NOW).unwrap();
    assert_eq!(get(&store, "other", "notes/a", NOW), None);
    assert_eq!(put(&store, &asked("other", "notes/a", "{}"), NOW).unwrap().version, 1);
    assert_eq!(get(&store, "acme", "notes/a", NOW).as_deref(), Some(r#"{"t":"secret plan"}"#));
    assert_eq!(usage(&store, "other"), Usage { items: 1, bytes: 9 });
    let all = EventFilter { limit: 10, ..EventFilter::default() };
    let events = store.read(|reading| reading.events("other", &all)).unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].event.contains(r#""tenant_id":"other""#));
    store.write(|writing| writing.delete_paths("other", &["notes/a".into()])).unwrap();
    assert!(get(&store, "acme", "notes/a", NOW).is_some());
}

#[test]
fn preconditions_are_asked_of_what_lives() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    let with = |precondition| Put { precondition, ..asked("acme", "n/k", "{}") };
    assert_eq!(put(&store, &with(Precondition::Present), NOW), Err(Refused::Precondition(None)));
    let mut first = with(Precondition::Absent);
    first.lifetime = Some(Duration::from_millis(5));
    assert_eq!(put(&store, &first, NOW).unwrap().version, 1);
    assert_eq!(put(&store, &with(Precondition::Absent), NOW), Err(Refused::Precondition(Some(1))));
    assert_eq!(put(&store, &with(Precondition::Version(2)), NOW), Err(Refused::Precondition(Some(1))));
    let later = Wall(NOW.0 + 5);
    assert_eq!(put(&store, &with(Precondition::Version(1)), later), Err(Refused::Precondition(None)));
    assert_eq!(put(&store, &with(Precondition::Absent), later).unwrap().version, 2);
    let delete = |precondition| {
        store.write(|writing| writing.delete("acme", &place("n/k"), precondition, later)).unwrap()
    };
    assert_eq!(delete(Precondition::Version(1)), Err(Refused::Precondition(Some(2))));
    assert_eq!(delete(Precondition::Version(2)), Ok(true));
    assert_eq!(delete(Precondition::Any), Ok(false));
    assert_eq!(usage(&store, "acme"), Usage::default());
}

#[test]
fn what_expired_is_gone_at_once_and_makes_way_for_writes_that_need_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    let small = Quota { items_max: 2, bytes_max: 1000 };
    let with = |raw: &str, lifetime: Option<u64>| Put {
        quota: small,
        lifetime: lifetime.map(Duration::from_millis),
        ..asked("acme", raw, r#"{"t":"word"}"#)
    };
    put(&store, &with("n/short", Some(10)), NOW).unwrap();
    put(&store, &with("n/long", None), NOW).unwrap();
    assert_eq!(
        put(&store, &with("n/more", None), NOW),
        Err(Refused::Quota(QuotaFault::Items { items_max: 2 }))
    );
    let later = Wall(NOW.0 + 10);
    assert_eq!(get(&store, "acme", "n/short", later), None);
    put(&store, &with("n/more", None), later).unwrap();
    assert_eq!(usage(&store, "acme"), Usage { items: 2, bytes: 2 * 6 + 2 * 12 });
    assert!(put(&store, &with("n/fourth", None), later).is_err());
    assert!(get(&store, "acme", "n/long", later).is_some(), "what lives never makes way");
}

#[test]
fn a_sweep_removes_every_trace_of_what_expired_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    for (raw, lifetime) in [("n/a", Some(1)), ("n/b", Some(1000)), ("n/c", None)] {
        let lifetime = lifetime.map(Duration::from_millis);
        put(&store, &Put { lifetime, ..asked("acme", raw, r#"{"t":"word"}"#) }, NOW).unwrap();
    }
    let later = Wall(NOW.0 + 1);
    assert_eq!(store.write(|writing| writing.sweep("acme", later)).unwrap(), 1);
    assert_eq!(store.write(|writing| writing.sweep("acme", later)).unwrap(), 0);
    assert_eq!(usage(&store, "acme").items, 2);
    // Also at a time when it had still lived, were it there.
    let left = ["n/a", "n/b", "n/c"].map(|raw| get(&store, "acme", raw, NOW).is_some());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn a_namespace_is_listed_in_pages_of_all_below_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    for raw in ["t/acme/s1", "t/acme/s2", "t/acme/x/y", "t/acme2/s1", "t/acm", "u/s1"] {
        put(&store, &asked("acme", raw, "{}"), NOW).unwrap();
    }
    let page = |rows: &[&str], next: Option<&str>| Page {
        rows: rows.iter().map(|row| (*row).to_owned()).collect(),
        next: next.map(str::to_owned),
    };
    assert_eq!(list(&store, "t/acme", "", None, 10), page(&["s1", "s2", "x/y"], None));
    assert_eq!(list(&store, "t/acme", "s", None, 10), page(&["s1", "s2"], None));
    assert_eq!(list(&store, "t", "acme", None, 2), page(&["acme/s1", "acme/s2"], Some("acme/s2")));
    assert_eq!(list(&store, "t", "acme", Some("acme/s2"), 2), page(&["acme/x/y", "acme2/s1"], None));
    assert_eq!(list(&store, "none", "", None, 10), page(&[], None));
}

#[test]
fn a_subject_is_found_wherever_a_segment_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    for raw in ["user/u42/profile", "notes/u42", "user/u421/profile", "a/b"] {
        put(&store, &asked("acme", raw, "{}"), NOW).unwrap();
    }
    let all = store.read(|reading| reading.of_subject("acme", "u42", None, 10)).unwrap();
    assert_eq!((all.rows, all.next), (vec!["notes/u42".into(), "user/u42/profile".into()], None));
    let first = store.read(|reading| reading.of_subject("acme", "u42", None, 1)).unwrap();
    let rest = store.read(|reading| reading.of_subject("acme", "u42", first.next.as_deref(), 1)).unwrap();
    assert_eq!((first.rows, rest.rows), (vec!["notes/u42".into()], vec!["user/u42/profile".to_owned()]));
}

#[test]
fn an_answer_of_many_large_items_ends_early_and_says_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    let large = format!("{{\"t\":\"word {}\"}}", "x".repeat(900_000));
    let quota = Quota { bytes_max: 10_000_000, ..QUOTA };
    for raw in ["u42/a", "u42/b", "u42/c"] {
        put(&store, &Put { quota, ..asked("acme", raw, &large) }, NOW).unwrap();
    }
    let places = ["u42/a", "u42/b", "u42/c"].map(str::to_owned).into_iter().zip(1..).collect::<Vec<_>>();
    let told = store.read(|reading| reading.items_of("acme", &places, NOW)).unwrap();
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true]);
    let page = |after: Option<&str>| {
        let page = store.read(|reading| reading.items_of_subject("acme", "u42", after, 10, NOW)).unwrap();
        (page.rows.into_iter().map(|item| item.path).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None), (vec!["u42/a".into(), "u42/b".into()], Some("u42/b".into())));
    assert_eq!(page(Some("u42/b")), (vec!["u42/c".into()], None));
}

#[test]
fn events_are_told_newest_first_with_what_they_are_linked_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    put(&store, &asked("acme", "n/a", "{}"), NOW).unwrap();
    store.write(|writing| writing.get("acme", &place("n/a"), Wall(NOW.0 + 1))).unwrap();
    store.write(|writing| writing.get("acme", &place("n/b"), Wall(NOW.0 + 2))).unwrap();
    let events = |filter: EventFilter| store.read(|reading| reading.events("acme", &filter)).unwrap();
    let numbers = |filter| events(filter).iter().map(|kept| kept.number).collect::<Vec<_>>();
    let all = EventFilter { limit: 10, ..EventFilter::default() };
    let kept = events(all);
    assert_eq!(kept.iter().map(|kept| kept.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(kept[0].previous, Some(kept[1].hash));
    assert_eq!(kept[2].previous, None);
    assert_eq!(numbers(EventFilter { limit: 1, ..all }), [3]);
    assert_eq!(numbers(EventFilter { before: Some(3), ..all }), [2, 1]);
    assert_eq!(numbers(EventFilter { from: Some(Wall(NOW.0 + 1)), ..all }), [3, 2]);
    assert_eq!(numbers(EventFilter { to: Some(Wall(NOW.0 + 1)), ..all }), [1]);
    assert_eq!(numbers(EventFilter { kind: Some(EventKind::GetNotFound), ..all }), [3]);
}

#[test]
fn an_event_changed_in_the_file_is_found_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    for raw in ["n/a", "n/b", "n/c"] {
        put(&store, &asked("acme", raw, "{}"), NOW).unwrap();
    }
    drop(store);
    let database = Database::create(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut events = transaction.open_table(tables::EVENTS).unwrap();
        let row = events.remove((1, 2)).unwrap().unwrap();
        let (hash, event) = (*row.value().0, row.value().2.replace("n", "m"));
        drop(row);
        events.insert((1, 2), (&hash, &[][..], event.as_str())).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let verdict = open_in(&folder).read(|reading| reading.integrity("acme")).unwrap().verdict;
    assert_eq!(verdict, Err(Break::Changed { number: 2 }));
}

#[test]
fn with_a_secret_events_are_sealed_and_a_store_without_it_cannot_go_on_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let with = |byte: u8| Store::open(folder.path(), Some(Secret::new(&[byte; 16]).unwrap())).unwrap().0;
    let one = |store: Store| put(&store, &asked("acme", "n/a", "{}"), NOW).unwrap();
    let integrity = |store: Store| {
        let found = store.read(|reading| reading.integrity("acme")).unwrap();
        (found.verdict, found.sealed)
    };
    one(open_in(&folder));
    one(with(7));
    assert_eq!(integrity(with(7)), (Ok(()), Some(1)));
    assert_eq!(integrity(with(8)), (Err(Break::Forged { number: 2 }), Some(0)));
    assert_eq!(integrity(open_in(&folder)), (Ok(()), None));
    one(open_in(&folder));
    assert_eq!(integrity(with(7)), (Err(Break::Unsealed { number: 3 }), Some(1)));
}

#[test]
fn the_oldest_events_go_and_the_rest_still_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    store
        .write(|writing| {
            for _ in 0..EVENTS_MAX + 2 {
                writing.note(&memory_core::audit::Event {
                    at: NOW,
                    kind: EventKind::List,
                    tenant: "acme",
                    namespace: "n",
                    key: "",
                    details: &[],
                })?;
            }
            Ok(())
        })
        .unwrap();
    let integrity = store.read(|reading| reading.integrity("acme")).unwrap();
    assert_eq!(integrity.verdict, Ok(()));
    assert_eq!((integrity.account.anchor.next, integrity.account.chain.next), (3, EVENTS_MAX + 3));
    let oldest = EventFilter { before: Some(4), limit: 10, ..EventFilter::default() };
    let kept = store.read(|reading| reading.events("acme", &oldest)).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].previous, integrity.account.anchor.head);
}

#[test]
fn the_file_counts_as_closed_when_the_last_handle_is_gone_and_it_can_be_opened_again() {
    let folder = TempDir::new().unwrap();
    let (store, mut closed) = Store::open(folder.path(), None).unwrap();
    let reader = std::sync::Arc::new(store);
    let other = std::sync::Arc::clone(&reader);
    drop(reader);
    assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(other);
    assert_eq!(closed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    open_in(&folder);
}

#[test]
fn a_file_with_an_index_of_its_own_is_taken_over_without_it() {
    let folder = tempfile::tempdir().unwrap();
    put(&open_in(&folder), &asked("acme", "n/a", r#"{"a":1}"#), NOW).unwrap();
    let database = Database::create(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(tables::META).unwrap().insert("format", tables::FORMAT_BEFORE).unwrap();
    transaction.open_table(tables::WORDS).unwrap().insert((1, "red", 1), (1, 1)).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = open_in(&folder);
    assert_eq!(get(&store, "acme", "n/a", NOW).as_deref(), Some(r#"{"a":1}"#));
    drop(store);
    let database = Database::create(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_read().unwrap();
    let format = transaction.open_table(tables::META).unwrap().get("format").unwrap().unwrap().value();
    assert_eq!(format, tables::FORMAT);
    assert!(transaction.open_table(tables::WORDS).is_err());
}

#[test]
fn who_follows_is_told_each_change_once_with_the_state_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    put(&store, &asked("acme", "n/a", "{}"), NOW).unwrap();
    assert_eq!(store.follow().unwrap().unseen, Unseen::Lost, "nobody has seen anything yet");
    put(&store, &asked("acme", "n/a", r#"{"a":1}"#), NOW).unwrap();
    put(&store, &asked("other", "n/b", "{}"), NOW).unwrap();
    store.write(|writing| writing.get("acme", &place("n/a"), NOW)).unwrap();
    let Followed { reached, unseen, state } = store.follow().unwrap();
    let (acme, other) = ("acme".to_owned(), "other".to_owned());
    let expected = [
        Change::Gone { tenant: acme.clone(), version: 1 },
        Change::Put { tenant: acme, version: 2 },
        Change::Put { tenant: other, version: 1 },
    ];
    assert_eq!(unseen, Unseen::Some(expected.to_vec()));
    assert_eq!(reached, store.reached());
    put(&store, &asked("acme", "n/a", "{}"), NOW).unwrap();
    assert_eq!(state.stamps("acme").unwrap(), [(2, NOW)], "later writes do not show in it");
    assert_eq!(state.item("acme", 1).unwrap(), None);
    assert_eq!(state.item("acme", 2).unwrap().unwrap().value, br#"{"a":1}"#);
    assert!(store.reached() > reached);
}

#[test]
fn a_write_that_was_given_up_changed_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    store.follow().unwrap();
    let failed = store.write(|writing| {
        writing.put(&asked("acme", "n/a", "{}"), NOW)?.unwrap();
        Err::<(), Fail>(redb::StorageError::Io(std::io::ErrorKind::StorageFull.into()).into())
    });
    assert!(failed.is_err());
    assert_eq!(store.follow().unwrap().unseen, Unseen::Some(Vec::new()));
}
