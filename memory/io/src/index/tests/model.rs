//! The index against a model that keeps everything in a map: whatever is put, deleted, swept, expired and
//! opened anew, by two tenants in turn, both find the same.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::wall::Wall;
use proptest::prelude::*;

use super::*;

const TENANTS: [&str; 2] = ["acme", "other"];
const PATHS: [&str; 4] = ["n/a", "n/b", "n/b/c", "m/a"];
const WORDS: [&str; 3] = ["red", "green", "blue"];

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

/// Words of an item, and when it expires.
type Known = BTreeMap<&'static str, (Vec<usize>, Option<u64>)>;

async fn take(bench: &mut Bench, known: &mut [Known; 2], now: &mut u64, step: Step) {
    match step {
        Step::Put { tenant, path, words, lifetime_ms } => {
            let joined: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
            let (value, lifetime) = (text(&joined.join(" ")), lifetime_ms.map(Duration::from_millis));
            bench.put_at(TENANTS[tenant], PATHS[path], &value, lifetime, Wall(*now));
            known[tenant].insert(PATHS[path], (words, lifetime_ms.map(|ms| *now + ms)));
        }
        Step::Delete { tenant, path } => {
            let paths = [PATHS[path].to_owned()];
            bench.store().write(|writing| writing.delete_paths(TENANTS[tenant], &paths)).unwrap();
            known[tenant].remove(PATHS[path]);
        }
        Step::Sweep { tenant } => {
            bench.store().write(|writing| writing.sweep(TENANTS[tenant], Wall(*now))).unwrap();
        }
        Step::Pass { ms } => *now += ms,
        Step::Reopen => {
            bench.close().await;
            bench.open();
        }
    }
}

async fn compare(bench: &Bench, known: &[Known; 2], now: u64) -> Result<(), TestCaseError> {
    for (at, tenant) in TENANTS.iter().enumerate() {
        for (word, text) in WORDS.iter().enumerate() {
            let live =
                known[at].iter().filter(|(_, (_, expires))| expires.is_none_or(|expires| now < expires));
            let with = live.filter(|(_, (words, _))| words.contains(&word));
            let expected: Vec<&str> = with.map(|(path, _)| *path).collect();
            let mut found = bench.found(tenant, text, Wall(now)).await;
            found.sort_unstable();
            prop_assert_eq!(found, expected, "{} of {}", text, tenant);
        }
    }
    Ok(())
}

proptest! {
    // Each case writes to a disk, and waits for it at every step.
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_index_finds_what_the_model_has(steps in prop::collection::vec(step(), 0..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new();
            let (mut known, mut now) = ([Known::new(), Known::new()], NOW.0);
            for step in steps {
                take(&mut bench, &mut known, &mut now, step).await;
                compare(&bench, &known, now).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

const CASES: u32 = 12;
