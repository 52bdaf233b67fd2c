//! The writer over a store that fails when told to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use controlplane_core::stored::Entry;
use proto_core::model::{Kind, Name};
use proto_core::parse::{Source, documents};

use super::*;
use crate::store::Loaded;

const EPOCH: u64 = 7;

/// Rows in memory, shared with the test.
#[derive(Clone, Default)]
struct Fake {
    rows: Arc<Mutex<(u64, Vec<String>)>>,
    /// The next commit reports a failure.
    is_failing: Arc<AtomicBool>,
    /// What a failing commit wrote is there all the same.
    keeps_anyway: bool,
    /// Loading fails too.
    is_lost: Arc<AtomicBool>,
}

fn fault() -> StoreFault {
    StoreFault::Unusable { path: "fake".into(), why: "disk full".into() }
}

impl Store for Fake {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        if self.is_lost.load(Ordering::SeqCst) {
            return Err(fault());
        }
        let (number, rows) = self.rows.lock().unwrap().clone();
        let entries = rows.iter().map(|json| Entry::read(json.as_bytes()).unwrap()).collect();
        Ok(Loaded { generation: Generation { epoch: EPOCH, number }, entries })
    }

    fn commit(&mut self, next: Generation, writes: &[Write<'_>]) -> Result<(), StoreFault> {
        let is_failing = self.is_failing.swap(false, Ordering::SeqCst);
        if !is_failing || self.keeps_anyway {
            let mut rows = self.rows.lock().unwrap();
            rows.0 = next.number;
            for write in writes {
                let Write::Put(entry) = write else { unreachable!("these tests delete nothing") };
                rows.1.push(entry.document.json.clone());
            }
        }
        if is_failing { Err(fault()) } else { Ok(()) }
    }
}

fn echo(name: &str) -> Intent {
    let text =
        format!("kind: Adapter\nname: {name}\nspec: {{ kind: echo, models: [ {{ name: {name}-1 }} ] }}\n");
    let source = Source { file: "wanted.yaml", content: text.as_bytes() };
    Intent::Apply(documents(&[source]).unwrap().documents)
}

fn number(writer: &Writer) -> u64 {
    writer.state().generation().number
}

#[tokio::test]
async fn a_change_is_durable_shown_and_told_under_one_new_number() {
    let store = Fake::default();
    let writer = Writer::start(Box::new(store.clone())).await.unwrap();
    let mut told = writer.applied();
    let applied = writer.submit(echo("a")).await.unwrap();
    assert_eq!(applied.generation, Generation { epoch: EPOCH, number: 1 });
    assert_eq!((number(&writer), store.rows.lock().unwrap().0), (1, 1));
    assert_eq!(told.recv().await.unwrap().changes[0].verb(), Verb::Created);
}

#[tokio::test]
async fn an_apply_that_changes_nothing_makes_no_generation() {
    let writer = Writer::start(Box::new(Fake::default())).await.unwrap();
    writer.submit(echo("a")).await.unwrap();
    let again = writer.submit(echo("a")).await.unwrap();
    assert_eq!((again.generation.number, again.changes[0].verb()), (1, Verb::Unchanged));
}

#[tokio::test]
async fn considering_a_change_stores_nothing() {
    let store = Fake::default();
    let writer = Writer::start(Box::new(store.clone())).await.unwrap();
    let considered = writer.consider(echo("a")).await.unwrap();
    assert_eq!(considered.changes[0].verb(), Verb::Created);
    assert_eq!((number(&writer), store.rows.lock().unwrap().1.len()), (0, 0));
}

#[tokio::test]
async fn a_failed_commit_changes_nothing_that_is_shown_and_the_next_one_goes_on() {
    let store = Fake::default();
    let writer = Writer::start(Box::new(store.clone())).await.unwrap();
    store.is_failing.store(true, Ordering::SeqCst);
    let failed = writer.submit(echo("a")).await.unwrap_err();
    assert!(matches!(failed, WriteFault::Store(_)), "{failed}");
    assert_eq!(number(&writer), 0);
    assert_eq!(writer.submit(echo("b")).await.unwrap().generation.number, 1);
}

#[tokio::test]
async fn a_commit_that_failed_but_became_durable_is_a_commit() {
    let store = Fake { keeps_anyway: true, ..Fake::default() };
    let writer = Writer::start(Box::new(store.clone())).await.unwrap();
    store.is_failing.store(true, Ordering::SeqCst);
    assert_eq!(writer.submit(echo("a")).await.unwrap().generation.number, 1);
    assert!(writer.state().stored.get(Kind::Adapter, &Name::resource("a").unwrap()).is_some());
}

#[tokio::test]
async fn while_nobody_can_tell_what_is_on_disk_nothing_is_written() {
    let store = Fake { keeps_anyway: true, ..Fake::default() };
    let writer = Writer::start(Box::new(store.clone())).await.unwrap();
    store.is_failing.store(true, Ordering::SeqCst);
    store.is_lost.store(true, Ordering::SeqCst);
    assert!(writer.submit(echo("a")).await.is_err());
    assert!(writer.submit(echo("b")).await.is_err(), "the store still cannot be read");
    assert_eq!(number(&writer), 0);
    store.is_lost.store(false, Ordering::SeqCst);
    assert_eq!(writer.submit(echo("b")).await.unwrap().generation.number, 2, "`a` is found to be number 1");
}

#[tokio::test]
async fn changes_past_the_bound_of_waiting_ones_are_refused_at_once() {
    // A queue nobody works on: what a store that hangs looks like from here.
    let (commands, _queue) = mpsc::channel(WAITING_MAX);
    let state = load(&mut Fake::default()).unwrap();
    let (_, states) = watch::channel(Arc::new(state));
    let writer = Writer { commands, state: states, applied: broadcast::channel(1).0 };
    let waiting: Vec<_> =
        (0..WAITING_MAX).map(|_| Command::Change { intent: echo("a"), done: oneshot::channel().0 }).collect();
    for command in waiting {
        writer.commands.try_send(command).unwrap();
    }
    assert!(matches!(writer.submit(echo("b")).await, Err(WriteFault::Busy)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_store_that_hangs_is_told_that_the_change_may_still_come() {
    let (commands, _queue) = mpsc::channel(WAITING_MAX);
    let state = load(&mut Fake::default()).unwrap();
    let (_, states) = watch::channel(Arc::new(state));
    let writer = Writer { commands, state: states, applied: broadcast::channel(1).0 };
    let late = writer.submit(echo("a")).await.unwrap_err();
    assert!(matches!(late, WriteFault::Late), "{late}");
}

#[tokio::test]
async fn after_closing_changes_are_refused_and_what_is_shown_stays() {
    let writer = Writer::start(Box::new(Fake::default())).await.unwrap();
    writer.submit(echo("a")).await.unwrap();
    writer.close().await;
    assert!(matches!(writer.submit(echo("b")).await, Err(WriteFault::Stopping)));
    assert_eq!(number(&writer), 1);
    writer.close().await;
}
