//! The embedded store on a real disk.

use std::os::unix::fs::PermissionsExt;

use controlplane_core::intent::Write;
use controlplane_core::stored::Entry;
use proto_core::model::{Kind, Name};
use proto_core::sync::Generation;
use tempfile::TempDir;

use super::embedded::{Embedded, FILE};
use super::*;

fn entry(name: &str, quality: &str) -> Entry {
    let models = format!(r#"[{{"name":"m","quality":{quality}}}]"#);
    let spec = format!(r#"{{"kind":"echo","models":{models}}}"#);
    let json = format!(r#"{{"kind":"Adapter","name":"{name}","spec":{spec}}}"#);
    Entry::read(json.as_bytes()).unwrap()
}

fn open(folder: &TempDir) -> Embedded {
    Embedded::open(folder.path()).unwrap()
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.entries.iter().map(|entry| entry.document.name.as_str()).collect()
}

fn next(generation: Generation) -> Generation {
    Generation { number: generation.number + 1, ..generation }
}

#[test]
fn what_was_committed_is_there_after_reopening_in_the_same_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder).load().unwrap();
    assert_eq!((first.generation.number, first.entries.len()), (0, 0));
    let one = next(first.generation);
    open(&folder).commit(one, &[Write::Put(&entry("a", "0.5")), Write::Put(&entry("b", "0.5"))]).unwrap();
    let two = next(one);
    let gone = Name::resource("a").unwrap();
    open(&folder)
        .commit(two, &[Write::Remove(Kind::Adapter, &gone), Write::Put(&entry("b", "0.9"))])
        .unwrap();
    let loaded = open(&folder).load().unwrap();
    assert_eq!((loaded.generation, names(&loaded)), (two, vec!["b"]));
    assert_eq!(loaded.entries, [entry("b", "0.9")]);
}

#[test]
fn two_stores_have_two_epochs() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let epoch = |folder| open(folder).load().unwrap().generation.epoch;
    assert_ne!(epoch(&one), epoch(&other));
    assert_eq!(epoch(&one), epoch(&one));
}

#[test]
fn a_generation_that_does_not_follow_is_refused_and_nothing_of_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    let zero = store.load().unwrap().generation;
    let skipped = next(next(zero));
    let other = Generation { epoch: zero.epoch.wrapping_add(1), number: 1 };
    for wrong in [zero, skipped, other] {
        let refused = store.commit(wrong, &[Write::Put(&entry("a", "0.5"))]);
        assert!(matches!(refused, Err(StoreFault::Order { .. })), "{wrong}");
    }
    assert!(store.load().unwrap().entries.is_empty());
    store.commit(next(zero), &[]).expect("the store goes on after a refusal");
}

#[test]
fn a_store_that_is_open_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let _open = open(&folder);
    let told = Embedded::open(folder.path()).unwrap_err().to_string();
    assert!(told.contains("control.redb is open in another process"), "{told}");
}

#[test]
fn only_its_owner_may_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder);
    let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_is_no_store_is_left_alone_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "not a database").unwrap();
    let told = Embedded::open(folder.path()).unwrap_err().to_string();
    assert!(told.contains("control.redb"), "{told}");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}
