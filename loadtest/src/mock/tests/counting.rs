//! What the mock says it has seen, and HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;

use super::super::{Left, Mock};
use super::client::{chat, connect, exchange, mock, post, read_until, until};

#[tokio::test]
async fn answers_and_tokens_are_counted_per_model_and_forgotten_on_reset() {
    let mock = mock().await;
    chat(&mock, "a--tokens-3", true).await;
    chat(&mock, "a--tokens-3", false).await;
    chat(&mock, "b--status-500", false).await;
    let a = mock.model("a--tokens-3");
    assert_eq!((a.requests, a.completed, a.faulted, a.cancelled, a.under_way), (2, 2, 0, 0, 0));
    assert_eq!(a.tokens_sent, 6);
    assert!(a.prompt_bytes > 100);
    assert_eq!(mock.model("b--status-500").faulted, 1);
    let asked = exchange(&mock, "GET /mock/stats HTTP/1.1\r\nconnection: close\r\n\r\n").await.json();
    assert_eq!(asked["models"]["a--tokens-3"]["completed"], 2);
    exchange(&mock, "POST /mock/reset HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(mock.stats().models.is_empty() && mock.requests().is_empty());
}

#[tokio::test]
async fn a_fault_that_an_answer_cannot_meet_leaves_it_complete() {
    let mock = mock().await;
    chat(&mock, "m--end-after-1", false).await;
    chat(&mock, "m--malformed-json", true).await;
    assert_eq!((mock.model("m--end-after-1").completed, mock.model("m--malformed-json").completed), (1, 1));
}

#[tokio::test]
async fn each_answer_has_a_row_that_names_it_as_its_client_saw_it() {
    let mock = mock().await;
    let whole = chat(&mock, "m--tokens-3", false).await;
    chat(&mock, "m--tokens-9--cut-after-2", true).await;
    chat(&mock, "m--status-500", true).await;
    let answers = mock.answers();
    let [first, second] = answers.as_slice() else { panic!("two were answered: {answers:?}") };
    assert_eq!(whole.json()["id"], first.id.as_str());
    assert_eq!(whole.json()["usage"]["prompt_tokens"], first.prompt_tokens);
    assert_eq!((first.tokens_sent, first.is_complete), (3, true));
    assert_eq!((second.tokens_sent, second.is_complete), (2, false));
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn one_above_the_capacity_is_refused_at_once_and_the_peak_is_remembered() {
    let mock = mock().await;
    let model = "m--capacity-1--hang";
    let mut held = connect(&mock).await;
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    held.write_all(post("/v1/chat/completions", &body).as_bytes()).await.unwrap();
    until("the request", || mock.model(model).under_way == 1).await;
    assert!(chat(&mock, model, false).await.text.starts_with("HTTP/1.1 429 "));
    let seen = mock.model(model);
    assert_eq!((seen.refused, seen.faulted, seen.under_way_max), (1, 0, 1));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_waiting_and_between_tokens() {
    let mock = mock().await;
    for model in ["m--first-token-ms-60000", "m--hang", "m--hang-after-1", "m--tokens-100000--token-rate-100"]
    {
        let mut stream = connect(&mock).await;
        let body = format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#);
        stream.write_all(post("/v1/chat/completions", &body).as_bytes()).await.unwrap();
        until("the request", || mock.model(model).under_way == 1).await;
        let left_at_ns = mock.now_ns();
        drop(stream);
        until("the cancellation", || mock.model(model).cancelled == 1).await;
        let seen = mock.model(model);
        assert_eq!((seen.under_way, seen.completed, seen.faulted), (0, 0, 0));
        assert!(seen.cancels[0].seen_at_ns >= left_at_ns && seen.cancels[0].asked_at_ns <= left_at_ns);
    }
}

#[tokio::test]
async fn a_client_that_leaves_an_unpaced_stream_is_noticed_before_its_end() {
    let mock = mock().await;
    let model = "m--tokens-1000000";
    let mut stream = connect(&mock).await;
    let body = format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#);
    stream.write_all(post("/v1/chat/completions", &body).as_bytes()).await.unwrap();
    read_until(&mut stream, "tok10\"").await;
    drop(stream);
    until("the cancellation", || mock.model(model).cancelled == 1).await;
    let cancel = mock.model(model).cancels[0].clone();
    assert!(cancel.tokens_sent >= 10 && cancel.tokens_sent < 1_000_000);
    assert!(matches!(cancel.how, Left::Closed | Left::Reset));
}

#[tokio::test]
async fn requests_are_kept_as_they_came_byte_for_byte() {
    let mock = mock().await;
    let body = "{ \"model\" : \"m\",\n\"messages\": [] }";
    let head = format!(
        "POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: h:1\r\nX-ODD-case: 1\r\nA: 1\r\nA: 2\r\n\
        Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    exchange(&mock, &format!("{head}{body}")).await;
    let seen = &mock.requests()[0];
    assert_eq!(seen.start, "POST /v1/chat/completions?a=b HTTP/1.1");
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "X-ODD-case", "A", "A", "Content-Length", "Connection"]);
    assert_eq!((seen.header("host"), seen.header("a")), (Some("h:1"), Some("1")));
    assert_eq!(seen.body.as_deref(), Some(body));
    let asked = exchange(&mock, "GET /mock/requests HTTP/1.1\r\nconnection: close\r\n\r\n").await.json();
    assert_eq!(asked.as_array().unwrap().len(), 1, "asking is not recorded");
    assert_eq!(asked[0]["headers"][1], serde_json::json!(["X-ODD-case", "1"]));
}

async fn h2(mock: &Mock) -> SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(connect(mock).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn h2_chat(mock: &Mock, model: &str) -> http::Request<Full<Bytes>> {
    let body = format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#);
    let uri = format!("{}/v1/chat/completions", mock.url());
    http::Request::post(uri).header("x-one", "1").body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn http2_streams_share_a_connection_and_say_the_same() {
    let mock = mock().await;
    let mut sender = h2(&mock).await;
    for _ in 0..2 {
        let response = sender.send_request(h2_chat(&mock, "m--tokens-2")).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("tok1") && text.ends_with("data: [DONE]\n\n"));
    }
    assert_eq!((mock.stats().connections, mock.model("m--tokens-2").completed), (1, 2));
    let seen = &mock.requests()[0];
    assert_eq!(seen.start, "POST /v1/chat/completions HTTP/2.0");
    assert_eq!(seen.header(":authority"), Some(mock.address().to_string().as_str()));
    assert_eq!(seen.header("x-one"), Some("1"));
}

#[tokio::test]
async fn http2_faults_break_the_stream_and_a_reset_breaks_the_connection() {
    let mock = mock().await;
    let mut sender = h2(&mock).await;
    let cut = sender.send_request(h2_chat(&mock, "m--cut-after-1")).await.unwrap();
    assert!(cut.into_body().collect().await.is_err());
    let whole = sender.send_request(h2_chat(&mock, "m")).await.unwrap();
    assert!(whole.into_body().collect().await.is_ok(), "the connection has outlived the stream");
    assert!(sender.send_request(h2_chat(&mock, "m--reset")).await.is_err());
    assert!(sender.send_request(h2_chat(&mock, "m")).await.is_err(), "the connection is gone");
}

#[tokio::test]
async fn a_reset_http2_stream_is_a_cancellation() {
    let mock = mock().await;
    let mut sender = h2(&mock).await;
    for model in ["m--hang", "m--tokens-100000--token-rate-100"] {
        let asking = tokio::spawn(sender.send_request(h2_chat(&mock, model)));
        until("the request", || mock.model(model).under_way == 1).await;
        asking.abort();
        drop(asking.await);
        until("the cancellation", || mock.model(model).cancelled == 1).await;
        assert_eq!(mock.model(model).cancels[0].how, Left::StreamReset);
    }
}
