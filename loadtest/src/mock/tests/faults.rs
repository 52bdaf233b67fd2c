//! Each fault as a raw client meets it.

use super::super::{MockConfig, serve_here, serve_workers};
use super::client::{End, chat, chat_until_silent, connect, exchange, mock, mock_with, post, read_to_end};

/// Content chunks before the fault; the opening chunk with the role is not counted.
fn tokens(read: &super::client::Read) -> usize {
    read.parsed_events()
        .iter()
        .filter(|event| event["choices"][0]["delta"]["content"].as_str().is_some_and(|c| !c.is_empty()))
        .count()
}

#[tokio::test]
async fn a_reset_comes_before_any_byte() {
    for fault in ["reset", "refuse"] {
        for streamed in [true, false] {
            let read = chat(&mock().await, &format!("m--{fault}"), streamed).await;
            assert_eq!((read.text.as_str(), read.end), ("", End::Reset));
        }
    }
}

#[tokio::test]
async fn a_refusing_mock_resets_a_connection_before_any_request() {
    let mock = mock_with("refuse--for-first-1").await;
    let mut stream = connect(&mock).await;
    assert_eq!(read_to_end(&mut stream).await.end, End::Reset);
    assert_eq!(chat(&mock, "m", false).await.end, End::Closed, "only the first connection was refused");
    assert_eq!((mock.stats().refused, mock.stats().connections), (1, 2));
}

#[tokio::test]
async fn a_stopped_mock_refuses_like_a_closed_port() {
    let mock = serve_here(MockConfig::default()).await.unwrap();
    let (address, mut kept) = (mock.address(), connect(&mock).await);
    mock.stop().await;
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_ne!(read_to_end(&mut kept).await.end, End::Silent, "its connections end with it");
}

#[tokio::test]
async fn workers_share_one_address_and_end_together() {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let workers = serve_workers(any, MockConfig::default(), 3).unwrap();
    let address = workers.address;
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = post("/v1/completions", r#"{"model":"m"}"#);
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        assert!(read_to_end(&mut stream).await.text.starts_with("HTTP/1.1 200"));
    }
    workers.stop();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_reset_behind_the_head_shows_the_head_only() {
    for streamed in [true, false] {
        let read = chat(&mock().await, "m--reset-after-head", streamed).await;
        assert!(read.text.starts_with("HTTP/1.1 200 OK"));
        assert_eq!((read.body(), read.end), ("", End::Reset));
    }
    let read = chat(&mock().await, "m--reset-after-3", true).await;
    assert_eq!((tokens(&read), read.end), (3, End::Reset));
}

#[tokio::test]
async fn a_hang_is_silent_before_the_head_or_behind_some_chunks() {
    let read = chat_until_silent(&mock().await, "m--hang", true, "").await;
    assert_eq!((read.text.as_str(), read.end), ("", End::Silent));
    let read = chat_until_silent(&mock().await, "m--hang-after-2", true, "tok2\"").await;
    assert_eq!((tokens(&read), read.end), (2, End::Silent));
    let read = chat_until_silent(&mock().await, "m--hang-after-2", false, "tok1").await;
    assert_eq!((promised(&read.text) / 2, read.end), (read.body().len(), End::Silent));
}

#[tokio::test]
async fn a_cut_ends_without_the_last_chunk() {
    for (fault, sent) in [("cut-after-0", 0), ("cut-after-2", 2), ("cut-after-99", 20)] {
        let read = chat(&mock().await, &format!("m--{fault}"), true).await;
        assert_eq!((tokens(&read), read.end, read.ends_like_a_whole_stream()), (sent, End::Closed, false));
        assert!(!read.text.contains("[DONE]") && !read.text.contains("\"stop\""));
    }
    let read = chat(&mock().await, "m--cut-after-2", false).await;
    assert_eq!(promised(&read.text) / 2, read.body().len());
}

fn promised(text: &str) -> usize {
    let rest = text.split_once("content-length: ").unwrap().1;
    rest.split_once("\r\n").unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_clean_end_hides_that_the_reason_and_done_are_missing() {
    let read = chat(&mock().await, "m--end-after-2", true).await;
    assert_eq!((tokens(&read), read.end, read.ends_like_a_whole_stream()), (2, End::Closed, true));
    assert!(!read.text.contains("[DONE]") && !read.text.contains("\"stop\""));
}

#[tokio::test]
async fn malformed_events_come_in_the_middle_of_a_stream_that_goes_on() {
    let read = chat(&mock().await, "m--malformed-sse-after-2", true).await;
    let broken = read
        .events()
        .iter()
        .filter(|e| **e != "[DONE]" && serde_json::from_str::<serde_json::Value>(e).is_err())
        .count();
    assert_eq!((broken, tokens(&read)), (1, 20));
    assert!(read.text.contains("\nthis line is no field of an event"));
    assert_eq!(read.events().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn an_error_event_is_the_last_thing_before_a_cut() {
    let read = chat(&mock().await, "m--sse-error-after-2", true).await;
    let events = read.parsed_events();
    assert_eq!(events.last().unwrap()["error"]["type"], "server_error");
    assert_eq!((tokens(&read), read.ends_like_a_whole_stream()), (2, false));
}

#[tokio::test]
async fn malformed_json_has_a_right_length_and_a_wrong_body() {
    let read = chat(&mock().await, "m--malformed-json", false).await;
    assert_eq!(promised(&read.text), read.body().len());
    assert!(serde_json::from_str::<serde_json::Value>(read.body()).is_err());
}

#[tokio::test]
async fn garbage_follows_a_good_head() {
    let read = chat(&mock().await, "m--garbage", true).await;
    assert!(read.text.starts_with("HTTP/1.1 200 OK") && read.body().contains("not a chunk"));
    let read = chat(&mock().await, "m--garbage", false).await;
    assert!(read.body()[promised(&read.text)..].contains("HTTP/9.9"));
}

#[tokio::test]
async fn a_status_comes_with_an_error_body_and_429_with_retry_after() {
    let mock = mock().await;
    for status in [400, 401, 404, 429, 500, 502, 503, 504, 529] {
        let read = chat(&mock, &format!("m--status-{status}"), true).await;
        assert!(read.text.starts_with(&format!("HTTP/1.1 {status} ")), "{}", read.text);
        assert!(read.json()["error"]["message"].is_string());
        assert_eq!(read.text.contains("retry-after: 1\r\n"), status == 429);
    }
    assert!(chat(&mock, "m--status-503--retry-after-7", true).await.text.contains("retry-after: 7\r\n"));
}

#[tokio::test]
async fn a_slow_answer_has_sent_a_byte_and_not_two() {
    let read = chat_until_silent(&mock().await, "m--slow", true, "H").await;
    assert_eq!((read.text.as_str(), read.end), ("H", End::Silent));
    let read = chat(&mock().await, "m--tokens-1--slow-1000000", false).await;
    assert_eq!((read.end, promised(&read.text)), (End::Closed, read.body().len()));
}

#[tokio::test]
async fn a_wrong_length_promises_more_than_it_sends() {
    let read = chat(&mock().await, "m--wrong-length", false).await;
    assert_eq!((promised(&read.text), read.end), (read.body().len() + 16, End::Closed));
    let read = chat(&mock().await, "m--wrong-length", true).await;
    assert!(promised(&read.text) > read.body().len() && read.end == End::Closed);
    assert!(!read.text.contains("transfer-encoding"));
}

#[tokio::test]
async fn an_endless_head_never_reaches_its_blank_line() {
    let mock = mock().await;
    let mut stream = connect(&mock).await;
    let request = post("/v1/completions", r#"{"model":"m--endless-head"}"#);
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let read = super::client::read_until(&mut stream, "x-endless-9999:").await;
    assert!(!read.contains("\r\n\r\n"));
}

#[tokio::test]
async fn the_first_two_requests_fail_and_the_third_succeeds() {
    let mock = mock().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(chat(&mock, "m--status-503--for-first-2", false).await.text[9..12].to_owned());
    }
    assert_eq!(statuses, ["503", "503", "200"]);
    assert_eq!(
        chat(&mock, "m2--status-503--for-first-2", false).await.text[9..12],
        *"503",
        "counted per model"
    );
}

#[tokio::test]
async fn the_header_overrides_the_model_which_overrides_the_mock() {
    let mock = mock_with("status-500").await;
    assert!(chat(&mock, "m", false).await.text.contains(" 500 "));
    assert!(chat(&mock, "m--status-502", false).await.text.contains(" 502 "));
    let body = r#"{"model":"m--status-502","messages":[]}"#;
    let request = post("/v1/chat/completions", body).replace("Host: m", "X-Mock-Script: no-fault--tokens-1");
    assert_eq!(exchange(&mock, &request).await.json()["choices"][0]["message"]["content"], "tok1");
}
