//! What a caller allows to be spent, and who gets which share.

use serde_json::json;

use crate::kit::{Atp, Caller, Folder, adapter, adapter_at, counted, lines, mock, route};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_dearer_than_its_caller_allows_is_refused_before_anybody_is_asked() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter_at("a", &mock.url(), &["m"], DEAR)).await;
    let caller = Caller::new(data.clients);
    let refused = caller.ask(&json!({"model": "m", "max_cost_usd": 0.1})).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.text.contains("budget"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(mock.model("m").requests, 0);
    let allowed = caller.ask(&json!({"model": "m", "max_cost_usd": 1.0})).await;
    assert_eq!(allowed.status, 200);
    let lines = lines(&allowed.text);
    let cost = lines[lines.len() - 1]["cost_usd"].as_f64().expect("a number");
    assert!(cost > 0.0 && cost <= 1.0, "{cost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_writes_past_the_money_is_stopped() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter_at("a", &mock.url(), &["m--tokens-1000"], DEAR)).await;
    // The 120 tokens that are expected cost 0.12; the thousand it would write, 1.
    let answer =
        Caller::new(data.clients).ask(&json!({"model": "m--tokens-1000", "max_cost_usd": 0.3})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let lines = lines(&answer.text);
    let cost = lines[lines.len() - 1]["cost_usd"].as_f64().unwrap_or_default();
    assert!(cost <= 0.3, "{cost}");
    counted(&mock).await;
    assert!(mock.model("m--tokens-1000").tokens_sent <= 300, "the upstream was told the most it may write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weighted_route_splits_by_its_weights() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = [
        adapter("a", &mock.url(), &["three"]),
        adapter("b", &mock.url(), &["one"]),
        route("r", &[("a", "three", 3), ("b", "one", 1)], &[]),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    for _ in 0..400 {
        assert_eq!(caller.chat("r").await.status, 200);
    }
    let (three, one) = (mock.model("three").requests, mock.model("one").requests);
    assert_eq!(three + one, 400);
    // Six standard deviations of 400 draws at one in four: 52. Once in a thousand million runs it lies
    // beyond.
    assert!((248..=352).contains(&three), "{three} and {one}");
}

/// USD a million tokens: a thousandth for each that is written.
const DEAR: &str = "{ in: 100.0, out: 1000.0 }";
