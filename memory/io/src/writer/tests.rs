//! The writer on a real store: jobs that share a commit, and jobs that fail.

use std::sync::mpsc as blocking;

use memory_core::audit::{Event, EventKind};

use super::*;
use crate::store::changes::Changes;

struct Bench {
    store: Arc<Store>,
    writer: Writer,
    closed: Closed,
    failed: IntCounter,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path(), None).unwrap().0);
    let failed = IntCounter::new("failed", "jobs").unwrap();
    let (writer, closed) = Writer::start(Arc::clone(&store), Arc::new(|| Wall(7)), failed.clone()).unwrap();
    Bench { store, writer, closed, failed, folder }
}

fn event(at: Wall) -> Event<'static> {
    Event { at, kind: EventKind::List, tenant: "acme", namespace: "n", key: "", details: &[] }
}

fn events(store: &Store) -> u64 {
    store.read(|reading| reading.account("acme")).unwrap().map_or(0, |account| account.chain.next - 1)
}

/// What redb says of a disk that fails.
fn broken() -> Fail {
    redb::StorageError::Io(std::io::ErrorKind::StorageFull.into()).into()
}

/// A job that waits until it is let go, so that others gather behind it.
async fn held(writer: &Writer) -> (blocking::Sender<()>, oneshot::Receiver<Result<(), StoreFault>>) {
    let (go, wait) = blocking::channel::<()>();
    let (begun, running) = oneshot::channel();
    let answer = writer
        .begin(move |_, _| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        })
        .await
        .unwrap();
    running.await.unwrap();
    (go, answer)
}

#[tokio::test]
async fn a_job_is_answered_after_its_commit_with_the_time_it_ran_at() {
    let bench = bench();
    let at = bench.writer.run(|writing, now| writing.note(&event(now)).map(|()| now)).await.unwrap();
    assert_eq!((at, events(&bench.store)), (Wall(7), 1));
}

#[tokio::test]
async fn a_job_that_fails_takes_those_of_its_transaction_along_and_the_next_one_works() {
    let Bench { store, writer, failed, folder: _kept, .. } = bench();
    let (go, first) = held(&writer).await;
    let good = writer.begin(|writing, now| writing.note(&event(now))).await.unwrap();
    let bad = writer.begin(|_, _| Err::<(), Fail>(broken())).await.unwrap();
    go.send(()).unwrap();
    for answer in [first, good, bad] {
        let told = answer.await.unwrap().unwrap_err();
        assert!(matches!(told, StoreFault::Unusable { .. }), "{told}");
    }
    assert_eq!((events(&store), failed.get()), (0, 3));
    writer.run(|writing, now| writing.note(&event(now))).await.unwrap();
    assert_eq!(events(&store), 1, "on a file that was opened anew");
}

#[tokio::test]
async fn the_store_closes_after_the_last_job_once_nobody_can_write_any_more() {
    let Bench { store, writer, closed, folder, .. } = bench();
    let (go, first) = held(&writer).await;
    let last = writer.begin(|writing, now| writing.note(&event(now))).await.unwrap();
    drop((writer, store));
    go.send(()).unwrap();
    closed.await.unwrap();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(events(&Store::open(folder.path(), None).unwrap().0), 1);
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_in_the_queue_is_told_so_and_nothing_of_it_happens() {
    let Bench { store, writer, folder: _kept, .. } = bench();
    let (go, first) = held(&writer).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING_MAX {
        waiting.push(writer.begin(|writing, now| writing.note(&event(now))).await.unwrap());
    }
    let refused = writer.begin(|writing, now| writing.note(&event(now))).await;
    assert!(matches!(refused, Err(StoreFault::Busy)));
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(events(&store), WAITING_MAX as u64);
}
