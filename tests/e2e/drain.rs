//! Leaving: nobody who is being answered loses anything but time.

use tokio::net::TcpStream;

use crate::kit::{Atp, Caller, Folder, adapter, counted, h2, mock, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_streams_finish_takes_no_new_connection_and_exits_with_zero() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-40--token-rate-40";
    let resources = adapter("a", &mock.url(), &[model]);
    let mut data = Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 0, grace_ms: 15000 }\n").await;
    let mut flow = Caller::new(data.clients).stream(model).await;
    flow.read_to("tok").await;
    data.signal("-TERM");
    until("new connections to be refused", async || TcpStream::connect(data.clients).await.is_err()).await;
    let answer = flow.whole().await;
    assert!(!answer.is_cut && answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    assert_eq!(data.ended().await, Some(0));
    counted(&mock).await;
    assert_eq!(mock.model(model).completed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_leaves_it_is_not_ready_and_still_serves() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = adapter("a", &mock.url(), &["m"]);
    let mut data =
        Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 60000, grace_ms: 60000 }\n").await;
    let caller = Caller::new(data.clients);
    data.signal("-TERM");
    until("readiness to end", async || caller.get("/readyz").await.status == 503).await;
    let answer = caller.chat("m").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    data.signal("-TERM");
    assert_eq!(data.ended().await, Some(0), "a second signal cuts the wait short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_hurries_and_streams_end_with_an_error() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-1000--token-rate-10";
    let resources = adapter("a", &mock.url(), &[model]);
    let mut data = Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 0, grace_ms: 60000 }\n").await;
    let mut flow = Caller::new(data.clients).stream(model).await;
    flow.read_to("tok").await;
    data.signal("-TERM");
    until("draining", async || data.said().contains("draining")).await;
    data.signal("-TERM");
    let answer = flow.whole().await;
    assert!(answer.is_cut, "never a clean end");
    assert!(answer.text.contains(r#""code":"draining""#), "{}", answer.text);
    assert_eq!(data.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_longer_than_the_grace_ends_with_an_error_and_a_cut() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-1000--token-rate-10";
    let resources = adapter("a", &mock.url(), &[model]);
    let mut data = Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 0, grace_ms: 200 }\n").await;
    let caller = Caller::new(data.clients);
    let mut flow = caller.stream(model).await;
    let mut asked = caller.ask_flow(&serde_json::json!({"model": model})).await;
    flow.read_to("tok").await;
    asked.read_to("chunk").await;
    data.signal("-TERM");
    let (answer, asked) = (flow.whole().await, asked.whole().await);
    assert!(answer.is_cut && answer.text.contains(r#""code":"draining""#), "{}", answer.text);
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    assert!(asked.is_cut && asked.text.contains("draining"), "{}", asked.text);
    assert_eq!(data.ended().await, Some(0));
    until("the upstream to know", async || mock.model(model).cancelled == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_drain_does_what_sigterm_does() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = adapter("a", &mock.url(), &["m"]);
    let mut data = Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 0, grace_ms: 200 }\n").await;
    assert_eq!(Caller::new(data.admin).post("/drain", "").await.status, 202);
    assert_eq!(data.ended().await, Some(0));
}

/// Nothing moves on these connections, so nothing but the drain itself can wake them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_connections_do_not_hold_up_the_end_and_those_who_wait_are_told() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = adapter("a", &mock.url(), &["m", "m--hang"]);
    let mut data = Atp::of_file_with(&folder, &resources, "drain: { delay_ms: 100, grace_ms: 300 }\n").await;
    let idle = TcpStream::connect(data.clients).await.expect("it listens");
    let caller = Caller::new(data.clients);
    let mut second = h2(data.clients).await;
    let waiting = caller.chat("m--hang");
    let waiting_on_h2 = async { second.chat("m--hang", false).await.whole().await };
    let leave = async {
        until("both to arrive upstream", async || mock.model("m--hang").requests == 2).await;
        data.signal("-TERM");
    };
    let (over_http1, over_h2, ()) = tokio::join!(waiting, waiting_on_h2, leave);
    assert_eq!((over_http1.status, over_http1.code().as_str()), (503, "draining"));
    assert_eq!((over_h2.status, over_h2.code().as_str()), (503, "draining"));
    assert_eq!(data.ended().await, Some(0));
    assert!(!data.said().contains("did not end in time"), "{}", data.said());
    drop(idle);
}
