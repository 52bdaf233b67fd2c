//! `latency_slo_ms`: where the first is slow, the next is started beside it, and the race is paid for
//! honestly.

use serde_json::json;

use crate::kit::{Atp, Caller, Folder, Page, adapter, lines, mock, route, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_first_model_is_overtaken_cancelled_and_still_paid_for() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (slow, quick) = ("slow--first-token-ms-20000", "quick--tokens-5");
    let resources = [
        adapter("a", &mock.url(), &[slow]),
        adapter("b", &mock.url(), &[quick]),
        route("r", &[("a", slow, 1), ("b", quick, 0)], &[]),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let answer = Caller::new(data.clients).ask(&json!({"model": "r", "latency_slo_ms": 500})).await;
    assert!(answer.status == 200 && !answer.is_cut, "{}", answer.text);
    let lines = lines(&answer.text);
    assert_eq!(lines[0]["type"], "plan");
    assert_eq!(lines[1], json!({"type": "event", "event": "escalate", "model": quick}));
    let chunks: Vec<_> = lines.iter().filter(|line| line["type"] == "chunk").collect();
    assert!(!chunks.is_empty() && chunks.iter().all(|chunk| chunk["model"] == quick), "{}", answer.text);
    let end = &lines[lines.len() - 1];
    assert_eq!((&end["escalation_count"], &end["model_used"]), (&json!(1), &json!(quick)));
    until("the loser to be cancelled upstream", async || mock.model(slow).cancelled == 1).await;
    let page = Page::of(data.admin).await;
    let of = |name: &str, adapter: &str, model: &str| {
        page.value(&format!("{name}{{adapter=\"{adapter}\",model=\"{model}\"}}"))
    };
    assert_eq!(page.value("atp_escalations_total"), 1);
    for (adapter, model) in [("a", slow), ("b", quick)] {
        assert_eq!(of("atp_model_requests_total", adapter, model), 1, "{model}");
        assert!(of("atp_model_input_tokens_total", adapter, model) > 0, "{model} has read the prompt");
        assert!(of("atp_model_cost_usd_micros_total", adapter, model) > 0, "{model}");
    }
    assert_eq!(of("atp_model_output_tokens_total", "b", quick), 5);
    assert!(of("atp_model_wasted_usd_micros_total", "a", slow) > 0);
    assert_eq!(of("atp_model_wasted_usd_micros_total", "b", quick), 0);
    assert_eq!(page.sum("atp_tenant_requests_total"), 1, "the tenant pays once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_objective_nothing_is_started_beside() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (slow, quick) = ("slow--first-token-ms-400", "quick");
    let resources = [
        adapter("a", &mock.url(), &[slow]),
        adapter("b", &mock.url(), &[quick]),
        route("r", &[("a", slow, 1), ("b", quick, 0)], &[]),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let answer = Caller::new(data.clients).ask(&json!({"model": "r"})).await;
    let lines = lines(&answer.text);
    assert_eq!(lines[lines.len() - 1]["model_used"], slow);
    assert_eq!(mock.model(quick).requests, 0);
}
