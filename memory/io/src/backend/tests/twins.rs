//! The file and Redis side by side: whatever is done to both, both say the same, to the hash of the last
//! event.

use std::time::Duration;

use memory_core::consistency::Consistency;
use memory_core::entry::Precondition;
use memory_core::quota::Quota;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::kit::{Bench, asked, place, redis_server};
use crate::store::changes::Put;

const TENANTS: [&str; 2] = ["acme", "other"];
const PATHS: [&str; 4] = ["n/a", "n/b", "n/b/c", "m/a"];
const VALUES: [&str; 3] = ["{}", r#"{"t":"red"}"#, r#"{"t":"red green blue"}"#];
const QUOTA: Quota = Quota { items_max: 3, bytes_max: 50 };

#[derive(Debug, Clone)]
enum Step {
    Put { path: usize, value: usize, lifetime_ms: Option<u64>, precondition: Precondition },
    Delete { path: usize },
    DeleteAll { paths: Vec<usize> },
    Get { path: usize, level: Consistency },
    Sweep,
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let precondition = prop_oneof![
        6 => Just(Precondition::Any),
        1 => Just(Precondition::Absent),
        1 => Just(Precondition::Present),
        1 => (1..9_u64).prop_map(Precondition::Version),
    ];
    let put = (0..PATHS.len(), 0..VALUES.len(), prop::option::of(1..20_u64), precondition);
    let level = prop_oneof![Just(Consistency::Eventual), Just(Consistency::Strong)];
    let step = prop_oneof![
        6 => put.prop_map(|(path, value, lifetime_ms, precondition)| {
            Step::Put { path, value, lifetime_ms, precondition }
        }),
        2 => (0..PATHS.len()).prop_map(|path| Step::Delete { path }),
        1 => prop::collection::vec(0..PATHS.len(), 0..4).prop_map(|paths| Step::DeleteAll { paths }),
        2 => (0..PATHS.len(), level).prop_map(|(path, level)| Step::Get { path, level }),
        1 => Just(Step::Sweep),
        2 => (1..10_u64).prop_map(|ms| Step::Pass { ms }),
    ];
    (0..TENANTS.len(), step)
}

/// What a backend answered, as text.
async fn taken(bench: &Bench, tenant: &str, step: &Step) -> String {
    let (backend, whose) = (&bench.backend, tenant.into());
    match step {
        Step::Put { path, value, lifetime_ms, precondition } => {
            let lifetime = lifetime_ms.map(Duration::from_millis);
            let put = asked(tenant, PATHS[*path], VALUES[*value]);
            let put = Put { lifetime, precondition: *precondition, quota: QUOTA, ..put };
            format!("{:?}", backend.put(put).await.unwrap())
        }
        Step::Delete { path } => {
            let deleted = backend.delete(whose, place(PATHS[*path]), Precondition::Any).await;
            format!("{:?}", deleted.unwrap())
        }
        Step::DeleteAll { paths } => {
            let paths = paths.iter().map(|path| PATHS[*path].to_owned()).collect();
            format!("{:?}", backend.delete_paths(whose, paths).await.unwrap())
        }
        Step::Get { path, level } => {
            let item = backend.get(whose, place(PATHS[*path]), *level).await.unwrap();
            // Its event may come a moment later, and before whatever is changed next.
            backend.delete_paths(tenant.into(), Vec::new()).await.unwrap();
            format!("{item:?}")
        }
        Step::Sweep => format!("{:?}", backend.sweep(whose).await.unwrap()),
        Step::Pass { ms } => {
            bench.pass(*ms);
            String::new()
        }
    }
}

/// Everything that can be seen of a tenant.
async fn seen(bench: &Bench, tenant: &str) -> String {
    let integrity = bench.backend.integrity(tenant.into()).await.unwrap();
    let (verdict, chain) = (integrity.verdict, integrity.account.chain);
    let (usage, keys) = (bench.usage(tenant).await, bench.keys(tenant, "n").await);
    let subject = bench.backend.of_subject(tenant.into(), "b".into(), None, 9).await.unwrap();
    format!("{verdict:?} {chain:?} {usage:?} {keys:?} {subject:?}")
}

#[test]
fn whatever_is_done_to_the_file_and_to_redis_both_say_the_same() {
    let Some(server) = redis_server() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Each case writes to a disk twice, and waits for it at every step.
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    let steps = prop::collection::vec(step(), 0..60);
    let done = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let (file, redis) = (Bench::file().await, Bench::redis(&server).await);
            for (tenant, step) in steps {
                let tenant = TENANTS[tenant];
                let answers = (taken(&file, tenant, &step).await, taken(&redis, tenant, &step).await);
                prop_assert_eq!(&answers.0, &answers.1, "{:?}", step);
                prop_assert_eq!(seen(&file, tenant).await, seen(&redis, tenant).await, "after {:?}", step);
            }
            Ok(())
        })
    });
    done.unwrap();
}

const CASES: u32 = 24;
