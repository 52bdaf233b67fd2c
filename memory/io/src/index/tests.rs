//! The index beside a store on a real disk: what is found, when, by whom, and that nothing that happens to
//! its files changes an answer.

use std::path::PathBuf;
use std::time::Duration;

use memory_core::entry::Precondition;
use memory_core::place::{Namespace, Place};
use memory_core::quota::Quota;
use tempfile::TempDir;

use super::*;
use crate::store::changes::{Changes, Put};
use crate::store::{Fail, Store};

mod model;

pub(super) const NOW: Wall = Wall(1_000_000);

/// A store with its index.
pub(super) struct Bench {
    pub folder: TempDir,
    pub metrics: Metrics,
    held: Option<Held>,
}

struct Held {
    store: Arc<Store>,
    index: Index,
    closed: Closed,
}

impl Bench {
    pub fn new() -> Bench {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new().unwrap());
        let mut bench = Bench { folder, metrics, held: None };
        bench.open();
        bench
    }

    pub fn open(&mut self) {
        let store = Arc::new(Store::open(self.folder.path(), None).unwrap().0);
        let followed: Arc<Store> = Arc::clone(&store);
        let (index, closed) = Index::start(followed, self.folder.path(), &self.metrics).unwrap();
        self.held = Some(Held { store, index, closed });
    }

    /// Ends both, and waits for the thread.
    pub async fn close(&mut self) {
        let Held { store, index, closed } = self.held.take().unwrap();
        drop((store, index));
        closed.await.unwrap();
    }

    pub fn store(&self) -> &Store {
        &self.held.as_ref().unwrap().store
    }

    pub fn index_folder(&self) -> PathBuf {
        self.folder.path().join(FOLDER)
    }

    pub fn put(&self, tenant: &str, path: &str, value: &str) {
        self.put_for(tenant, path, value, None);
    }

    pub fn put_for(&self, tenant: &str, path: &str, value: &str, lifetime: Option<Duration>) {
        self.put_at(tenant, path, value, lifetime, NOW);
    }

    pub fn put_at(&self, tenant: &str, path: &str, value: &str, lifetime: Option<Duration>, now: Wall) {
        put_in(self.store(), asked(tenant, path, value, lifetime), now);
    }

    pub fn delete(&self, tenant: &str, path: &str) {
        let place = Place::of_path(path).unwrap();
        let deleted =
            self.store().write(|writing| writing.delete(tenant, &place, Precondition::Any, NOW)).unwrap();
        assert!(deleted.unwrap(), "{path}");
    }

    pub async fn ask(&self, tenant: &str, question: Question, now: Wall) -> Matches {
        self.held.as_ref().unwrap().index.search(&tenant.into(), &question, now).await.unwrap()
    }

    pub async fn found(&self, tenant: &str, text: &str, now: Wall) -> Vec<String> {
        paths(&self.ask(tenant, Question::of(text, None, 0, 10).unwrap(), now).await)
    }

    async fn scores(&self, tenant: &str, text: &str) -> Vec<(String, f32)> {
        let found = self.ask(tenant, Question::of(text, None, 0, 10).unwrap(), NOW).await;
        found.items.into_iter().map(|(score, item)| (item.path, score)).collect()
    }
}

fn asked(tenant: &str, path: &str, value: &str, lifetime: Option<Duration>) -> Put {
    Put {
        tenant: tenant.into(),
        place: Place::of_path(path).unwrap(),
        value: value.as_bytes().to_vec(),
        precondition: Precondition::Any,
        lifetime,
        quota: Quota { items_max: 100_000, bytes_max: 100_000_000 },
    }
}

fn put_in(store: &Store, put: Put, now: Wall) {
    store.write(|writing| writing.put(&put, now)).unwrap().unwrap();
}

pub(super) fn paths(matches: &Matches) -> Vec<String> {
    matches.items.iter().map(|(_, item)| item.path.clone()).collect()
}

fn text(words: &str) -> String {
    format!("{{\"t\":\"{words}\"}}")
}

#[tokio::test]
async fn what_was_written_is_found_by_the_next_search_and_what_is_gone_by_none() {
    let bench = Bench::new();
    for round in 0..20 {
        let path = format!("n/{round}");
        bench.put("acme", &path, &text(&format!("red word{round}")));
        assert_eq!(bench.found("acme", &format!("word{round}"), NOW).await, std::slice::from_ref(&path));
        bench.delete("acme", &path);
        assert_eq!(bench.found("acme", &format!("red word{round}"), NOW).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_replaced_value_is_found_by_its_new_words_only() {
    let bench = Bench::new();
    bench.put("acme", "n/a", &text("red red apple"));
    bench.put("acme", "n/b", &text("red pear and a lot of other words"));
    assert_eq!(bench.found("acme", "RED", NOW).await, ["n/a", "n/b"]);
    assert_eq!(bench.found("acme", "red pear", NOW).await, ["n/b", "n/a"]);
    bench.put("acme", "n/a", &text("green apple"));
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/b"]);
    assert_eq!(bench.found("acme", "apple", NOW).await, ["n/a"]);
    assert_eq!(bench.found("acme", "nothing", NOW).await, [""; 0]);
}

#[tokio::test]
async fn a_rare_word_says_more_than_a_common_one_and_a_short_item_more_than_a_long_one() {
    let bench = Bench::new();
    for at in 0..8 {
        bench.put("acme", &format!("n/common{at}"), &text("common filler"));
    }
    bench.put("acme", "n/rare", &text("rare filler"));
    bench.put("acme", "n/long", &text(&format!("common {}", "other ".repeat(40))));
    let found = bench.found("acme", "common rare", NOW).await;
    assert_eq!((found[0].as_str(), found[9].as_str()), ("n/rare", "n/long"));
}

#[tokio::test]
async fn tenants_find_nothing_of_each_other_and_weigh_nothing_with_each_other() {
    let bench = Bench::new();
    bench.put("acme", "n/a", &text("secret plan"));
    bench.put("acme", "n/b", &text("plan b with some more words"));
    let alone = bench.scores("acme", "secret plan").await;
    assert_eq!(alone.len(), 2);
    for at in 0..30 {
        bench.put("other", &format!("n/{at}"), &text("secret secret of another, with a long tail of words"));
    }
    assert_eq!(bench.scores("acme", "secret plan").await, alone);
    assert_eq!(bench.found("other", "plan", NOW).await, [""; 0]);
    assert_eq!(bench.found("nobody", "secret", NOW).await, [""; 0]);
    // Names that begin alike, and words that look like a name and a word.
    bench.put("acme2", "n/a", &text("acme secret"));
    assert_eq!(bench.found("acme2", "plan", NOW).await, [""; 0]);
    assert_eq!(bench.scores("acme", "secret plan").await, alone);
}

#[tokio::test]
async fn a_question_is_words_and_nothing_in_it_is_an_operator() {
    let bench = Bench::new();
    bench.put("acme", "n/a", &text("red apple"));
    bench.put("acme", "n/b", &text("green pear"));
    bench.put("other", "n/c", &text("red and green"));
    for question in
        ["+red -green", "red AND NOT green", "\"green red\"", "words:red id:green", "red^9 green~2"]
    {
        let mut found = bench.found("acme", question, NOW).await;
        found.sort();
        assert_eq!(found, ["n/a", "n/b"], "{question}");
    }
    for question in ["re*", "r?d", "/re./", "[a TO z]", "tenant:other", "gre"] {
        assert_eq!(bench.found("acme", question, NOW).await, [""; 0], "{question}");
    }
    assert!(Question::of("*:* ??", None, 0, 10).is_none(), "no word at all");
}

#[tokio::test]
async fn what_expired_is_found_by_nobody_from_its_moment_on() {
    let bench = Bench::new();
    bench.put_for("acme", "n/short", &text("word"), Some(Duration::from_millis(10)));
    bench.put("acme", "n/long", &text("word"));
    assert_eq!(bench.found("acme", "word", Wall(NOW.0 + 9)).await.len(), 2);
    assert_eq!(bench.found("acme", "word", Wall(NOW.0 + 10)).await, ["n/long"]);
}

#[tokio::test]
async fn a_namespace_holds_all_below_it_and_pages_go_on_where_the_one_before_ended() {
    let bench = Bench::new();
    for path in ["t/a/1", "t/a/2", "t/a/x/3", "t/ab/4", "t/5", "u/a/6"] {
        bench.put("acme", path, &text("word"));
    }
    let ask = async |namespace: Option<&str>, skip, limit| {
        let namespace = namespace.map(|namespace| Namespace::parse(namespace).unwrap());
        let found = bench.ask("acme", Question::of("word", namespace, skip, limit).unwrap(), NOW).await;
        (paths(&found), found.next)
    };
    // Of equal weight the newer is first.
    assert_eq!(ask(Some("t/a"), 0, 10).await, (vec!["t/a/x/3".into(), "t/a/2".into(), "t/a/1".into()], None));
    assert_eq!(ask(Some("t"), 0, 10).await.0.len(), 5);
    assert_eq!(ask(Some("t/a/1"), 0, 10).await.0, [""; 0]);
    assert_eq!(
        ask(None, 0, 4).await,
        (["u/a/6", "t/5", "t/ab/4", "t/a/x/3"].map(String::from).into(), Some(4))
    );
    assert_eq!(ask(None, 4, 4).await, (["t/a/2", "t/a/1"].map(String::from).into(), None));
    assert_eq!(ask(None, 6, 4).await, (Vec::new(), None));
    assert_eq!(ask(None, 0, 6).await.1, None, "those were all");
}

#[tokio::test]
async fn an_answer_of_many_large_items_ends_early_and_says_where_to_go_on() {
    let bench = Bench::new();
    let large = text(&format!("word {}", "x".repeat(900_000)));
    for path in ["n/a", "n/b", "n/c"] {
        bench.put("acme", path, &large);
    }
    let first = bench.ask("acme", Question::of("word", None, 0, 10).unwrap(), NOW).await;
    assert_eq!((paths(&first), first.next), (vec!["n/c".into(), "n/b".into()], Some(2)));
    let rest = bench.ask("acme", Question::of("word", None, 2, 10).unwrap(), NOW).await;
    assert_eq!((paths(&rest), rest.next), (vec!["n/a".into()], None));
}

#[tokio::test]
async fn an_index_that_is_whole_is_used_again() {
    let mut bench = Bench::new();
    bench.put("acme", "n/a", &text("red apple"));
    let before = bench.scores("acme", "red apple").await;
    bench.close().await;
    bench.open();
    assert_eq!(bench.scores("acme", "red apple").await, before);
    assert_eq!((bench.metrics.index_rebuilds.get(), bench.metrics.index_failures.get()), (1, 0));
}

#[tokio::test]
async fn an_index_that_is_missing_or_damaged_in_any_file_is_made_again_from_the_store() {
    let mut bench = Bench::new();
    bench.put("acme", "n/a", &text("red apple"));
    bench.put("acme", "n/b", &text("red pear"));
    let before = bench.scores("acme", "red apple").await;
    bench.close().await;
    std::fs::remove_dir_all(bench.index_folder()).unwrap();
    bench.open();
    assert_eq!(bench.scores("acme", "red apple").await, before);
    let mut rebuilds = 2;
    assert_eq!(bench.metrics.index_rebuilds.get(), rebuilds);
    for kind in ["meta.json", "store", "fast", "idx", "term", "fieldnorm"] {
        for harm in [flip, cut] {
            bench.close().await;
            let harmed = harm_files(&bench.index_folder(), kind, harm);
            assert!(harmed > 0, "{kind}");
            bench.open();
            assert_eq!(bench.scores("acme", "red apple").await, before, "{kind}");
            rebuilds += 1;
            assert_eq!(bench.metrics.index_rebuilds.get(), rebuilds, "{kind}");
        }
    }
    assert_eq!(bench.metrics.index_failures.get(), 0);
}

/// In the middle, where data is.
fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    bytes
}

/// As a power cut leaves a file that was never synced.
fn cut(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

fn harm_files(folder: &Path, kind: &str, harm: fn(&[u8]) -> Vec<u8>) -> usize {
    let mut harmed = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().ends_with(kind) && !path.ends_with(".managed.json") {
            let bytes = harm(&std::fs::read(&path).unwrap());
            std::fs::write(&path, bytes).unwrap();
            harmed += 1;
        }
    }
    harmed
}

#[tokio::test]
async fn an_index_that_lost_its_list_of_files_is_as_good_as_before() {
    let mut bench = Bench::new();
    bench.put("acme", "n/a", &text("red apple"));
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/a"]);
    bench.close().await;
    std::fs::remove_file(bench.index_folder().join(".managed.json")).unwrap();
    bench.open();
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/a"]);
    bench.close().await;
    assert_eq!(harm_files(&bench.index_folder(), "store", flip), 1);
    bench.open();
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/a"]);
    assert_eq!(bench.metrics.index_rebuilds.get(), 2, "damage is seen without the list too");
}

#[tokio::test]
async fn what_changed_without_the_index_is_seen_when_it_is_opened() {
    let mut bench = Bench::new();
    for (path, words) in [("n/stays", "red one"), ("n/goes", "red two"), ("n/turns", "red three")] {
        bench.put("acme", path, &text(words));
    }
    bench.put("gone", "n/a", &text("red"));
    assert_eq!(bench.found("acme", "red", NOW).await.len(), 3);
    bench.close().await;
    let store = Store::open(bench.folder.path(), None).unwrap().0;
    store.write(|writing| writing.delete_paths("acme", &["n/goes".into()])).unwrap();
    store.write(|writing| writing.delete_paths("gone", &["n/a".into()])).unwrap();
    put_in(&store, asked("acme", "n/turns", &text("green three"), None), NOW);
    put_in(&store, asked("new", "n/b", &text("red"), None), NOW);
    drop(store);
    bench.open();
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/stays"]);
    assert_eq!(bench.found("acme", "green", NOW).await, ["n/turns"]);
    assert_eq!(bench.found("gone", "red", NOW).await, [""; 0]);
    assert_eq!(bench.found("new", "red", NOW).await, ["n/b"]);
    assert_eq!(bench.metrics.index_rebuilds.get(), 1, "only what differs was read");
}

#[tokio::test]
async fn the_index_of_another_store_finds_nothing_that_is_not_here() {
    let mut bench = Bench::new();
    bench.put("acme", "n/a", &text("red"));
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/a"]);
    bench.close().await;
    std::fs::remove_file(bench.folder.path().join(crate::store::FILE)).unwrap();
    // The same version of the same tenant at the same place, written at another time.
    let store = Store::open(bench.folder.path(), None).unwrap().0;
    let later = Wall(NOW.0 + 1);
    put_in(&store, asked("acme", "n/a", &text("green"), None), later);
    drop(store);
    bench.open();
    assert_eq!(bench.found("acme", "red", later).await, [""; 0]);
    assert_eq!(bench.found("acme", "green", later).await, ["n/a"]);
}

#[tokio::test]
async fn more_changes_than_are_remembered_are_all_found() {
    let bench = Bench::new();
    bench.put("acme", "n/first", &text("red"));
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/first"]);
    let many = crate::store::feed::CHANGES_MAX / 2 + 1;
    let work = |writing: &mut crate::store::writing::Writing<'_>| {
        // Each write takes out what the one before wrote.
        for at in 0..many {
            let put = asked("acme", "n/k", &text(&format!("green{at}")), None);
            writing.put(&put, NOW)?.unwrap();
        }
        Ok::<(), Fail>(())
    };
    bench.store().write(work).unwrap();
    assert_eq!(bench.found("acme", &format!("green{}", many - 1), NOW).await, ["n/k"]);
    assert_eq!(bench.found("acme", "green1", NOW).await, [""; 0]);
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/first"]);
}

/// A store that says it is further than it shows.
struct Ahead(Arc<Store>);

impl Source for Ahead {
    fn reached(&self) -> u64 {
        self.0.reached() + 1
    }

    fn follow(&self) -> Result<source::Followed, StoreFault> {
        self.0.follow()
    }

    fn items(&self, _: &str, _: &[(String, u64)], _: Wall) -> Result<Vec<Option<Item>>, StoreFault> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_that_the_index_cannot_keep_up_with_is_told_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Ahead(Arc::new(Store::open(folder.path(), None).unwrap().0)));
    let metrics = Metrics::new().unwrap();
    let (index, _closed) = Index::start(store, folder.path(), &metrics).unwrap();
    let question = Question::of("word", None, 0, 10).unwrap();
    let told = index.search(&"acme".into(), &question, NOW).await.unwrap_err();
    assert!(matches!(told, StoreFault::Behind), "{told}");
}

/// A store that panics the first time it is followed.
struct Panics(Arc<Store>, std::sync::atomic::AtomicBool);

impl Source for Panics {
    fn reached(&self) -> u64 {
        self.0.reached()
    }

    fn follow(&self) -> Result<source::Followed, StoreFault> {
        // Order: none; one thread alone looks at it.
        assert!(self.1.swap(true, std::sync::atomic::Ordering::Relaxed), "the first time");
        self.0.follow()
    }

    fn items(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, StoreFault> {
        self.0.items(tenant, places, now)
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path(), None).unwrap().0);
    put_in(&store, asked("acme", "n/a", &text("red"), None), NOW);
    let metrics = Metrics::new().unwrap();
    let source = Arc::new(Panics(store, false.into()));
    let (index, _closed) = Index::start(source, folder.path(), &metrics).unwrap();
    let question = Question::of("red", None, 0, 10).unwrap();
    assert_eq!(paths(&index.search(&"acme".into(), &question, NOW).await.unwrap()), ["n/a"]);
    assert_eq!(metrics.index_failures.get(), 1);
}

#[tokio::test]
async fn an_index_that_cannot_be_made_is_counted_and_made_once_it_can() {
    let mut bench = Bench::new();
    bench.put("acme", "n/a", &text("red"));
    bench.close().await;
    std::fs::remove_dir_all(bench.index_folder()).unwrap();
    std::fs::write(bench.index_folder(), "in the way").unwrap();
    bench.open();
    while bench.metrics.index_failures.get() == 0 {
        tokio::task::yield_now().await;
    }
    std::fs::remove_file(bench.index_folder()).unwrap();
    assert_eq!(bench.found("acme", "red", NOW).await, ["n/a"]);
}
