//! Clients that leave, and clients that do not read: who pays, and who does not notice.

use std::time::Duration;

use crate::kit::{Atp, Caller, Folder, Page, adapter, h2, mock, until, until_some};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_work_upstream_at_once() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models = ["m--tokens-10000--token-rate-50", "m--hang", "m--hang-after-0"];
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &models)).await;
    let caller = Caller::new(data.clients);
    let streamed = models[0];
    let mut fastest = u64::MAX;
    for round in 0..5 {
        let mut flow = caller.stream(streamed).await;
        flow.read_to("tok").await;
        let left_at = mock.now_ns();
        drop(flow);
        let seen_at = until_some("the upstream to notice", async || {
            Some(mock.model(streamed).cancels.get(round)?.seen_at_ns)
        })
        .await;
        fastest = fastest.min(seen_at.saturating_sub(left_at));
    }
    // The fastest of five: what else this machine does may delay one.
    assert!(fastest < NOTICED_WITHIN.as_nanos() as u64, "{fastest} ns");
    for model in &models[1..] {
        let caller = caller.clone();
        let name = (*model).to_owned();
        let asking = tokio::spawn(async move { caller.chat(&name).await });
        until("the request upstream", async || mock.model(model).under_way == 1).await;
        asking.abort();
        until("the upstream to notice", async || mock.model(model).cancelled == 1).await;
    }
    let page = Page::of(data.admin).await;
    assert_eq!(page.sum("atp_model_cancelled_total"), 7);
    assert_eq!(page.sum("atp_model_failures_total"), 0, "an upstream is not to blame for its clients");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_nobody_reads_is_cut_and_hurts_no_other_on_its_connection() {
    let (folder, mock) = (Folder::new(), mock().await);
    let long = "m--tokens-1000000";
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &[long, "m"])).await;
    let mut connection = h2(data.clients).await;
    assert_eq!(connection.chat("m", true).await.whole().await.status, 200);
    let before = data.resident_bytes();
    let unread = connection.chat(long, true).await;
    let mut others = 0;
    until("the slow client to be cut", async || {
        let answer = connection.chat("m", true).await.whole().await;
        assert!(answer.status == 200 && !answer.is_cut, "{}", answer.text);
        others += 1;
        let grown = data.resident_bytes().saturating_sub(before);
        assert!(grown < GROWN_BYTES_MAX, "{grown} bytes for one client that does not read");
        Page::of(data.admin).await.value("atp_clients_too_slow_total") == 1
    })
    .await;
    assert!(others > 10, "the others went on all the time: {others}");
    until("the upstream to be told", async || mock.model(long).cancelled == 1).await;
    until("what was held for it to be free", async || {
        Page::of(data.admin).await.value("atp_buffered_bytes") < 65_536
    })
    .await;
    let rest = unread.whole().await;
    assert!(rest.is_cut && !rest.text.contains("[DONE]"), "never a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http1_client_that_does_not_read_holds_back_its_upstream_and_nobody_else() {
    let (folder, mock) = (Folder::new(), mock().await);
    let long = "m--tokens-1000000";
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &[long, "m"])).await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.chat("m").await.status, 200);
    let before = data.resident_bytes();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(caller.stream(long).await);
    }
    // The upstream stands still once every buffer between is full.
    let mut sent = 0;
    until("the upstream to stand still", async || {
        assert_eq!(caller.chat("m").await.status, 200);
        let now = mock.stats().models[long].tokens_sent;
        let is_still = now == sent && mock.model(long).under_way == 8;
        sent = now;
        is_still
    })
    .await;
    let grown = data.resident_bytes().saturating_sub(before);
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes for eight clients that do not read");
    drop(unread);
    until("the upstream to be told", async || mock.model(long).cancelled == 8).await;
}

const NOTICED_WITHIN: Duration = Duration::from_millis(100);
/// Buffers of a stream are a fraction of it; an answer held whole would be 180 MB.
const GROWN_BYTES_MAX: u64 = 32 * 1024 * 1024;
