//! The store against a model that keeps everything in a map: whatever is put, deleted, swept, expired and
//! reopened, by two tenants in turn, both say the same, and no table keeps a trace of what is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::entry::Precondition;
use memory_core::place::{Namespace, Place};
use memory_core::quota::{Quota, Usage};
use memory_core::wall::Wall;
use proptest::prelude::*;
use redb::ReadableTableMetadata;
use tempfile::TempDir;

use super::changes::{Changes, Put, Refused};
use super::*;

const TENANTS: [&str; 2] = ["acme", "other"];
const PATHS: [&str; 4] = ["n/a", "n/b", "n/b/c", "m/a"];
const WORDS: [&str; 3] = ["red", "green", "blue"];
const QUOTA: Quota = Quota { items_max: 3, bytes_max: 70 };

#[derive(Debug, Clone)]
enum Step {
    Put { tenant: usize, path: usize, words: Vec<usize>, lifetime_ms: Option<u64> },
    Delete { tenant: usize, path: usize },
    Sweep { tenant: usize },
    Pass { ms: u64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let words = prop::collection::vec(0..WORDS.len(), 0..5);
    let put = (0..2_usize, 0..PATHS.len(), words, prop::option::of(1..20_u64));
    prop_oneof![
        6 => put.prop_map(|(tenant, path, words, lifetime_ms)| {
            Step::Put { tenant, path, words, lifetime_ms }
        }),
        2 => (0..2_usize, 0..PATHS.len()).prop_map(|(tenant, path)| Step::Delete { tenant, path }),
        1 => (0..2_usize).prop_map(|tenant| Step::Sweep { tenant }),
        2 => (1..10_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Reopen),
    ]
}

/// One item of the model.
#[derive(Debug, Clone)]
struct Known {
    value: String,
    expires: Option<u64>,
}

impl Known {
    fn is_live(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

struct Bench {
    folder: TempDir,
    store: Option<Store>,
    known: [BTreeMap<&'static str, Known>; 2],
    now: u64,
    events: [u64; 2],
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(Store::open(folder.path(), None).unwrap().0);
        Bench { folder, store, known: [BTreeMap::new(), BTreeMap::new()], now: 1000, events: [0; 2] }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Pass { ms } => self.now += ms,
            Step::Reopen => {
                self.store = None;
                self.store = Some(Store::open(self.folder.path(), None).unwrap().0);
            }
            Step::Put { tenant, path, words, lifetime_ms } => self.put(tenant, path, words, lifetime_ms)?,
            Step::Delete { tenant, path } => {
                let (name, now) = (TENANTS[tenant], self.now);
                let place = Place::of_path(PATHS[path]).unwrap();
                let deleted = self
                    .store()
                    .write(|writing| writing.delete(name, &place, Precondition::Any, Wall(now)))
                    .unwrap();
                let was = self.known[tenant].remove(PATHS[path]);
                prop_assert_eq!(deleted, Ok(was.is_some_and(|known| known.is_live(now))));
                self.events[tenant] += 1;
            }
            Step::Sweep { tenant } => {
                let (name, now) = (TENANTS[tenant], self.now);
                let removed = self.store().write(|writing| writing.sweep(name, Wall(now))).unwrap();
                // Those that made way for a write are gone from the store already.
                let before = self.known[tenant].len();
                self.known[tenant].retain(|_, known| known.is_live(now));
                prop_assert!(removed <= before - self.known[tenant].len());
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        tenant: usize,
        path: usize,
        words: Vec<usize>,
        lifetime_ms: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let text: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        let value = format!("{{\"t\":\"{}\"}}", text.join(" "));
        let put = Put {
            tenant: TENANTS[tenant].into(),
            place: Place::of_path(PATHS[path]).unwrap(),
            value: value.clone().into_bytes(),
            precondition: Precondition::Any,
            lifetime: lifetime_ms.map(Duration::from_millis),
            quota: QUOTA,
        };
        let now = self.now;
        let live =
            self.known[tenant].iter().filter(|(other, known)| **other != PATHS[path] && known.is_live(now));
        let (items, bytes) = live
            .fold((1, (PATHS[path].len() + value.len()) as u64), |(items, bytes), (path, known)| {
                (items + 1, bytes + (path.len() + known.value.len()) as u64)
            });
        let fits = items <= QUOTA.items_max && bytes <= QUOTA.bytes_max;
        match self.store().write(|writing| writing.put(&put, Wall(now))).unwrap() {
            Ok(entry) => {
                prop_assert!(fits, "{items} items, {bytes} bytes");
                self.events[tenant] += 1;
                prop_assert_eq!(entry.version, self.events[tenant]);
                let expires = lifetime_ms.map(|ms| now + ms);
                self.known[tenant].insert(PATHS[path], Known { value, expires });
            }
            Err(Refused::Quota(_)) => prop_assert!(!fits, "{items} items, {bytes} bytes"),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }

    /// Everything that can be asked, of both.
    fn compare(&self) -> Result<(), TestCaseError> {
        let now = Wall(self.now);
        for (at, tenant) in TENANTS.iter().enumerate() {
            let live: BTreeMap<&str, &Known> = self.known[at]
                .iter()
                .filter(|(_, known)| known.is_live(now.0))
                .map(|(path, known)| (*path, known))
                .collect();
            for path in PATHS {
                let place = Place::of_path(path).unwrap();
                let item = self.store().read(|reading| reading.get(tenant, &place, now)).unwrap();
                let value = item.map(|item| String::from_utf8(item.value).unwrap());
                prop_assert_eq!(value.as_ref(), live.get(path).map(|known| &known.value));
            }
            for namespace in ["n", "m", "n/b"] {
                let folder = format!("{namespace}/");
                let expected: Vec<&str> = live.keys().filter_map(|path| path.strip_prefix(&folder)).collect();
                let namespace = Namespace::parse(namespace).unwrap();
                let page =
                    self.store().read(|reading| reading.list(tenant, &namespace, "", None, 9, now)).unwrap();
                prop_assert_eq!(page.rows.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), expected);
            }
            let integrity = self.store().read(|reading| reading.integrity(tenant)).unwrap();
            prop_assert_eq!(integrity.verdict, Ok(()));
            prop_assert_eq!(integrity.account.chain.next, self.events[at] + 1);
        }
        Ok(())
    }

    /// Deletes everything and looks at the tables themselves.
    fn empty(&mut self) -> Result<(), TestCaseError> {
        for (tenant, name) in TENANTS.into_iter().enumerate() {
            for path in 0..PATHS.len() {
                self.take(Step::Delete { tenant, path })?;
            }
            let account = self.store().read(|reading| reading.account(name)).unwrap().unwrap();
            prop_assert_eq!(account.usage, Usage::default());
        }
        self.store = None;
        let database = Database::create(self.folder.path().join(FILE)).unwrap();
        let transaction = database.begin_read().unwrap();
        let rows = [
            transaction.open_table(tables::ENTRIES).unwrap().len().unwrap(),
            transaction.open_table(tables::VALUES).unwrap().len().unwrap(),
            transaction.open_table(tables::EXPIRY).unwrap().len().unwrap(),
        ];
        prop_assert_eq!(rows, [0; 3]);
        Ok(())
    }
}

proptest! {
    // Each case writes to a disk, and waits for it at every step.
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_store_says_what_the_model_says_and_keeps_no_trace_of_what_is_gone(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut bench = Bench::new();
        for step in steps {
            bench.take(step)?;
            bench.compare()?;
        }
        bench.empty()?;
    }
}

const CASES: u32 = 32;
