//! Counts that add up: what the page says is what the upstream counted for itself.

use crate::kit::{Atp, Caller, Folder, Page, adapter, counted, mock, tenant, until};

const WHOLE: &str = "whole--tokens-7";
const STREAMED: &str = "streamed--tokens-11";
const CUT: &str = "cut--cut-after-5";
const LEFT: &str = "left--tokens-10000--token-rate-200";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_tokens_add_up_also_with_cuts_and_cancels() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models = [WHOLE, STREAMED, CUT, LEFT];
    let resources = [adapter("a", &mock.url(), &models), tenant("t", "key")].concat();
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients).with_key("key");
    let before = Page::of(data.admin).await;
    for _ in 0..ROUNDS {
        assert_eq!(caller.chat("nobody").await.status, 404);
        assert!(caller.stream(CUT).await.whole().await.is_cut);
        for _ in 0..2 {
            assert_eq!(caller.chat(WHOLE).await.status, 200);
            assert!(!caller.stream(STREAMED).await.whole().await.is_cut);
        }
        let mut flow = caller.stream(LEFT).await;
        flow.read_to("tok3").await;
        drop(flow);
    }
    until("the last cancel", async || mock.model(LEFT).cancelled == ROUNDS).await;
    until("the last account", async || Page::of(data.admin).await.sum("atp_model_cancelled_total") == ROUNDS)
        .await;
    counted(&mock).await;
    let page = Page::of(data.admin).await;
    let of = |name: &str, model: &str| page.value(&format!("{name}{{adapter=\"a\",model=\"{model}\"}}"));
    for model in models {
        assert_eq!(of("atp_model_requests_total", model), mock.model(model).requests, "{model}");
    }
    for (model, tokens, requests) in [(WHOLE, 7, 2), (STREAMED, 11, 2), (CUT, 5, 1)] {
        let said = of("atp_model_output_tokens_total", model);
        assert_eq!(said, tokens * requests * ROUNDS, "{model}");
        assert_eq!(said, mock.model(model).tokens_sent, "{model}");
    }
    let (left, sent) = (of("atp_model_output_tokens_total", LEFT), mock.model(LEFT).tokens_sent);
    // Of the token it was writing when it learnt of the end, the mock does not know that it arrived.
    assert!((3 * ROUNDS..=sent + ROUNDS).contains(&left), "{left} counted, {sent} sent");
    assert_eq!(of("atp_model_output_tokens_estimated_total", LEFT), left);
    assert_eq!(of("atp_model_output_tokens_estimated_total", CUT), 5 * ROUNDS);
    assert_eq!(of("atp_model_output_tokens_estimated_total", STREAMED), 0, "the upstream said so itself");
    adds_up(&before, &page);
}

/// Within one page.
fn adds_up(before: &Page, page: &Page) {
    let since = |name: &str| page.sum(name) - before.sum(name);
    let requests = 7 * ROUNDS;
    assert_eq!(since("requests_total"), requests);
    assert_eq!(since("requests_success_total"), 6 * ROUNDS);
    assert_eq!(since("requests_error_total"), ROUNDS);
    assert_eq!(since("requests_cancelled_total"), ROUNDS);
    assert_eq!(since("atp_requests_answered_total"), requests);
    assert_eq!(since("atp_attempts_total"), 6 * ROUNDS);
    assert_eq!(since("atp_router_total_calls"), 6 * ROUNDS);
    assert_eq!(since("atp_streams_broken_total"), ROUNDS);
    assert_eq!(page.sum("atp_model_failures_total"), ROUNDS);
    assert_eq!(page.value("atp_errors_total{code=\"model_not_found\"}"), ROUNDS);
    assert_eq!(page.value("atp_errors_total{code=\"upstream_stream_truncated\"}"), ROUNDS);
    assert_eq!(page.sum("tokens_output_total"), page.sum("atp_model_output_tokens_total"));
    assert_eq!(page.sum("tokens_input_total"), page.sum("atp_model_input_tokens_total"));
    assert_eq!(page.sum("atp_tenant_output_tokens_total"), page.sum("atp_model_output_tokens_total"));
    assert_eq!(page.sum("atp_tenant_input_tokens_total"), page.sum("atp_model_input_tokens_total"));
    assert_eq!(page.value("atp_tenant_requests_total{tenant=\"t\"}"), 6 * ROUNDS);
    assert_eq!(page.sum("atp_upstream_in_flight"), 0, "every permit came home");
    let answered = page.value("request_latency_ms_count");
    assert!(answered >= 5 * ROUNDS, "{answered}");
}

const ROUNDS: u64 = 50;
