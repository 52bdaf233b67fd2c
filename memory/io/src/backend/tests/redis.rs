//! What only Redis can do: be gone, hang, be the wrong one, or be shared.

use std::sync::Arc;
use std::time::Duration;

use memory_core::audit::{Break, Event, EventKind};
use memory_core::entry::Precondition;
use memory_core::quota::Quota;
use memory_core::wall::Wall;

use super::kit::{Bench, NOW, RedisServer, asked, found, place, redis_at, redis_server, redis_with, until};
use crate::backend::redis::keys::{FEED, FORMAT_KEY, Keys};
use crate::backend::redis::link::Link;
use crate::backend::redis::server::{Password, Server};
use crate::backend::{Backend, Redis};
use crate::clock;
use crate::store::StoreFault;
use crate::store::changes::{Changes, EVENTS_MAX, Put, Refused};
use crate::store::reading::EventFilter;
use crate::telemetry::Metrics;

/// A command of a test's own.
async fn told(url: &str, words: &[&str]) -> String {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let answer: redis::Value = command.query_async(&mut connection).await.unwrap();
    format!("{answer:?}")
}

#[tokio::test]
async fn two_gateways_that_write_at_once_keep_one_quota_and_one_chain() {
    let Some(server) = redis_server() else { return };
    let url = server.database();
    let metrics = Metrics::new().unwrap();
    let mut writing = tokio::task::JoinSet::new();
    let quota = Quota { items_max: 50, bytes_max: 1_000_000 };
    let gateways = [redis_at(&url, &metrics).await, redis_at(&url, &metrics).await];
    let gateways = gateways.map(Result::unwrap);
    for at in 0..200 {
        let gateway = Redis::clone(&gateways[at % 2]);
        let put = Put { quota, ..asked("acme", &format!("n/k{at}"), "{}") };
        writing.spawn(async move { gateway.put(put).await.unwrap() });
    }
    let done = writing.join_all().await;
    let kept = done.iter().filter(|done| done.is_ok()).count();
    assert!(done.iter().all(|done| matches!(done, Ok(_) | Err(Refused::Quota(_)))));
    assert_eq!(kept, 50, "not one more than the quota, and not one less");
    let mut versions: Vec<u64> = done.iter().flatten().map(|entry| entry.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=50).collect::<Vec<u64>>());
    for gateway in &gateways {
        let whole = gateway.integrity("acme".into()).await.unwrap();
        assert_eq!((whole.verdict, whole.account.usage.items), (Ok(()), 50));
    }
    assert!(metrics.store_conflicts.get() > 0, "they never met, so that nothing was shown");
}

#[tokio::test]
async fn a_redis_that_is_gone_is_told_at_once_and_one_that_came_back_has_what_was_acknowledged() {
    let Some(server) = redis_server() else { return };
    let bench = Bench::redis(&server).await;
    bench.backend.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    server.kill();
    for _ in 0..20 {
        let put = bench.backend.put(asked("acme", "n/b", "{}")).await;
        assert!(put.is_err());
    }
    assert!(matches!(bench.backend.health().await, Err(StoreFault::Unreachable { .. })));
    server.restart();
    until("Redis", async || bench.backend.health().await.ok()).await;
    assert_eq!(bench.text("acme", "n/a").await.as_deref(), Some("{}"));
    until("a write", async || bench.backend.put(asked("acme", "n/c", "{}")).await.ok()).await.unwrap();
    assert_eq!(bench.backend.integrity("acme".into()).await.unwrap().verdict, Ok(()));
}

#[tokio::test]
async fn a_redis_that_hangs_is_waited_for_until_a_deadline_and_counted() {
    let Some(server) = redis_server() else { return };
    let metrics = Metrics::new().unwrap();
    let gateway = redis_at(&server.database(), &metrics).await.unwrap();
    server.signal("-STOP");
    let began = clock::now();
    let fault = gateway.health().await.unwrap_err();
    assert!(matches!(fault, StoreFault::Late), "{fault}");
    assert!(clock::now().since(began) < Duration::from_secs(10), "it has a deadline");
    assert!(metrics.store_errors.with_label_values(&["late"]).get() > 0);
    server.signal("-CONT");
    until("Redis", async || gateway.health().await.ok()).await;
}

#[tokio::test]
async fn a_gateway_starts_before_its_redis_and_serves_when_that_is_there() {
    let Some(server) = redis_server() else { return };
    let url = server.database();
    server.kill();
    let metrics = Metrics::new().unwrap();
    let gateway = redis_at(&url, &metrics).await.unwrap();
    assert!(matches!(gateway.health().await, Err(StoreFault::Unreachable { .. })));
    assert!(metrics.store_errors.with_label_values(&["connect"]).get() > 0);
    server.restart();
    until("Redis", async || gateway.health().await.ok()).await;
}

#[tokio::test]
async fn a_redis_that_would_lose_or_mix_what_is_put_is_not_used() {
    let refused = async |url: &str, part: &str| {
        let metrics = Metrics::new().unwrap();
        let fault = redis_at(url, &metrics).await.err().expect("it is refused").to_string();
        assert!(fault.contains(part) && fault.contains("redis://127.0.0.1:"), "{part} in {fault}");
    };
    let Some(server) = redis_server() else { return };
    let url = server.database();
    told(&url, &["SET", FORMAT_KEY, "2"]).await;
    refused(&url, "has format 2, this program reads 1").await;
    let url = server.database();
    told(&url, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    refused(&url, "set noeviction").await;
    told(&url, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    told(&url, &["CONFIG", "SET", "requirepass", "hunter2"]).await;
    refused(&url, "REDIS_PASSWORD_FILE").await;
    refused(&format!("redis://127.0.0.1:{}", server.port), "REDIS_PASSWORD_FILE").await;
    refused(&format!("redis://:wrong@127.0.0.1:{}", server.port), "REDIS_PASSWORD_FILE").await;
    let Some(copy) = RedisServer::start(&["--replicaof", "127.0.0.1", "1"]) else { return };
    refused(&copy.database(), "a replica").await;
}

#[tokio::test]
async fn a_password_is_read_from_its_file_for_each_connection() {
    let Some(server) = RedisServer::start(&["--requirepass", "first"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first\n").unwrap();
    let metrics = Metrics::new().unwrap();
    let password = Password::File(path.clone());
    let gateway = redis_with(&server.database(), password, &metrics).await.unwrap();
    let admin = server.database().replace("redis://", "redis://:first@");
    told(&admin, &["CONFIG", "SET", "requirepass", "second"]).await;
    std::fs::write(&path, "second").unwrap();
    told(&admin.replace("first", "second"), &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    until("the new password", async || gateway.health().await.ok()).await;
}

#[tokio::test]
async fn a_redis_that_is_full_refuses_a_write_as_a_whole() {
    let Some(server) = redis_server() else { return };
    let bench = Bench::redis(&server).await;
    bench.backend.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    let (url, metrics) = (server.database(), Metrics::new().unwrap());
    let first = redis_at(&url, &metrics).await.unwrap();
    first.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    told(&url, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let fault = bench.backend.put(asked("acme", "n/b", "{}")).await.unwrap_err().to_string();
    assert!(fault.contains("OOM") && fault.contains("maxmemory"), "{fault}");
    assert_eq!(bench.keys("acme", "n").await, ["a"]);
    let whole = bench.backend.integrity("acme".into()).await.unwrap();
    assert_eq!((whole.verdict, whole.account.chain.next, whole.account.usage.items), (Ok(()), 2, 1));
    // Who comes anew is served, and what takes items out makes room.
    let again = redis_at(&url, &Metrics::new().unwrap()).await.unwrap();
    assert_eq!(first.integrity("acme".into()).await.unwrap().account.usage.items, 1);
    let deleted = again.delete("acme".into(), place("n/a"), Precondition::Any).await.unwrap();
    assert!(deleted.is_ok_and(|was_there| was_there));
    let whole = again.integrity("acme".into()).await.unwrap();
    assert_eq!((whole.verdict, whole.account.chain.next, whole.account.usage.items), (Ok(()), 3, 0));
    told(&url, &["CONFIG", "SET", "maxmemory", "0"]).await;
}

#[tokio::test]
async fn an_event_that_was_taken_out_or_put_in_is_found_by_its_number() {
    let Some(server) = redis_server() else { return };
    let url = server.database();
    let metrics = Metrics::new().unwrap();
    let gateway = redis_at(&url, &metrics).await.unwrap();
    for raw in ["n/a", "n/b", "n/c"] {
        gateway.put(asked("acme", raw, "{}")).await.unwrap().unwrap();
    }
    let (events, hash) = (Keys::of("acme").events, "x".repeat(32));
    told(&url, &["XADD", &events, "4-0", "h", &hash, "s", "", "e", "{}"]).await;
    let verdict = gateway.integrity("acme".into()).await.unwrap().verdict;
    assert!(verdict.is_err_and(|found| found.number() == 4), "{verdict:?}");
    told(&url, &["XDEL", &events, "4-0", "2-0"]).await;
    let verdict = gateway.integrity("acme".into()).await.unwrap().verdict;
    assert_eq!(verdict, Err(Break::Missing { number: 2 }));
}

#[tokio::test]
async fn the_oldest_events_go_and_the_rest_still_verifies() {
    let Some(server) = redis_server() else { return };
    let bench = Bench::redis(&server).await;
    let Backend::Redis(gateway) = &bench.backend else { unreachable!("it is one") };
    let many = EVENTS_MAX / 50;
    for _ in 0..50 {
        gateway.many("acme", many).await;
    }
    gateway.many("acme", 2).await;
    let whole = bench.backend.integrity("acme".into()).await.unwrap();
    assert_eq!(whole.verdict, Ok(()));
    assert_eq!((whole.account.anchor.next, whole.account.chain.next), (3, EVENTS_MAX + 3));
    let oldest = EventFilter { before: Some(4), limit: 10, ..EventFilter::default() };
    let kept = bench.backend.events("acme".into(), oldest).await.unwrap();
    assert_eq!((kept.len(), kept[0].previous), (1, whole.account.anchor.head));
}

impl Redis {
    /// So many events in one step.
    async fn many(&self, tenant: &str, count: u64) {
        let work = move |draft: &mut crate::backend::redis::draft::Draft<'_>| {
            for _ in 0..count {
                let (kind, at) = (EventKind::List, Wall(NOW));
                let event = Event { at, kind, tenant: "acme", namespace: "n", key: "", details: &[] };
                let Ok(()) = draft.note(&event);
            }
        };
        self.write(tenant.into(), work).await.unwrap();
    }
}

#[tokio::test]
async fn time_is_that_of_redis_where_nobody_says_otherwise() {
    let Some(server) = redis_server() else { return };
    let metrics = Metrics::new().unwrap();
    let gateway = redis_at(&server.database(), &metrics).await.unwrap();
    let before = clock::wall();
    let entry = gateway.put(asked("acme", "n/a", "{}")).await.unwrap().unwrap();
    // The same machine, so the same clock.
    assert!(before.0 <= entry.updated.0 + 1 && entry.updated.0 <= clock::wall().0 + 1);
}

#[tokio::test]
async fn who_asks_again_at_once_is_told_without_another_try() {
    let server = Arc::new(Server::parse("redis://127.0.0.1:1", Password::None, None).unwrap());
    let metrics = Metrics::new().unwrap();
    let link = Link::new(server, metrics.store_errors.clone());
    let ping = redis::cmd("PING");
    for _ in 0..2 {
        let fault = link.ask::<String>(&ping).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Unreachable { .. }), "{fault}");
    }
    assert_eq!(metrics.store_errors.with_label_values(&["connect"]).get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_acknowledged_another_finds_and_what_is_gone_it_does_not() {
    let Some(server) = redis_server() else { return };
    let (url, metrics) = (server.database(), Metrics::new().unwrap());
    let one = redis_at(&url, &metrics).await.unwrap();
    let other = redis_at(&url, &metrics).await.unwrap();
    let two = Backend::Redis(Redis::clone(&other));
    for at in 0..20 {
        one.put(asked("acme", "n/a", &format!(r#"{{"t":"word{at}"}}"#))).await.unwrap().unwrap();
        assert_eq!(found(&two, "acme", &format!("word{at}")).await, ["n/a"]);
        assert_eq!(found(&two, "other", &format!("word{at}")).await, [""; 0]);
    }
    assert_eq!(found(&two, "acme", "word18").await, [""; 0], "it was replaced");
    one.delete_paths("acme".into(), vec!["n/a".into()]).await.unwrap();
    assert_eq!(found(&two, "acme", "word19").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_missed_changes_or_its_connection_looks_at_everything_anew() {
    let Some(server) = redis_server() else { return };
    let bench = Bench::redis(&server).await;
    let url = bench.url.clone().unwrap();
    bench.backend.put(asked("acme", "n/a", r#"{"t":"red"}"#)).await.unwrap().unwrap();
    assert_eq!(bench.found("acme", "red").await, ["n/a"]);
    bench.backend.put(asked("acme", "n/b", r#"{"t":"red red"}"#)).await.unwrap().unwrap();
    told(&url, &["XTRIM", FEED, "MAXLEN", "0"]).await;
    assert_eq!(bench.found("acme", "red").await, ["n/b", "n/a"]);
    server.kill();
    server.restart();
    until("Redis", async || bench.backend.health().await.ok()).await;
    let put = async || bench.backend.put(asked("acme", "n/a", r#"{"t":"green"}"#)).await.ok();
    until("a write", put).await.unwrap();
    assert_eq!(
        (bench.found("acme", "red").await, bench.found("acme", "green").await),
        (vec!["n/b".to_owned()], vec!["n/a".to_owned()],)
    );
}
