//! What a newcomer sees: one command, then answers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kit::{Atp, Caller, Folder, adapter, atp, finished, lines, mock, told, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_answers_ask_with_a_plan_chunks_and_a_final() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    let answer = Caller::new(up.clients).ask(&json!({})).await;
    assert_eq!((answer.status, answer.is_cut), (200, false), "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines = lines(&answer.text);
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap_or_default()).collect();
    let (first, last) = (kinds[0], kinds[kinds.len() - 1]);
    assert_eq!((first, last), ("plan", "final"), "{kinds:?}");
    let chunks: Vec<_> = lines.iter().filter(|line| line["type"] == "chunk").collect();
    assert_eq!(chunks.len(), kinds.len() - 2, "{kinds:?}");
    let text: String = chunks.iter().map(|chunk| chunk["text"].as_str().unwrap_or_default()).collect();
    let end = &lines[lines.len() - 1];
    assert_eq!(end["text"], text);
    assert_eq!(end["model_used"], "echo");
}

/// Three tries: what else this machine does may slow one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_serves_within_two_seconds() {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let folder = Folder::new();
        let begun = Instant::now();
        let up = Atp::up(&folder).await;
        assert_eq!(Caller::new(up.clients).chat("echo").await.status, 200);
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < Duration::from_secs(2), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_keeps_what_was_applied() {
    let (folder, mock) = (Folder::new(), mock().await);
    let mut up = Atp::up_with(&folder, QUICK).await;
    up.apply(&folder, &adapter("a", &mock.url(), &["m"])).await;
    up.signal("-TERM");
    assert_eq!(up.ended().await, Some(0));
    let up = Atp::up_with(&folder, QUICK).await;
    let caller = Caller::new(up.clients);
    until("the model that was applied", async || caller.chat("m").await.status == 200).await;
    assert_eq!(caller.chat("echo").await.status, 200, "what the first start brought stays too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn atp_ask_prints_the_answer_and_what_it_took() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    let mut command = atp(&folder);
    command.args(["ask", "hello there", "--url", &format!("http://{}", up.clients)]);
    let output = finished(command).await;
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("hello there"), "{}", told(&output));
    assert!(told(&output).contains("[echo: "), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn atp_ask_fails_with_the_reason_where_nothing_listens() {
    let folder = Folder::new();
    let mut command = atp(&folder);
    command.args(["ask", "hi", "--url", &crate::faults::dead_url()]);
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).starts_with("error: "), "{}", told(&output));
}

/// Leaves at once.
const QUICK: &str = "drain: { delay_ms: 0, grace_ms: 1000 }\n";
