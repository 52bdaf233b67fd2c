//! So many requests a second and no more, of each caller.

use std::time::Instant;

use serde_json::json;

use crate::kit::{Answer, Atp, Caller, Folder, adapter, atp, finished, mock, tenant, told};

const OFTEN: &str = "limits: { requests_per_second: 1, requests_burst: 3 }\n";

/// Asks until it is refused: how many passed, and the refusal. Never more than the burst, and one for each
/// second that it took.
async fn until_refused(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    let begun = Instant::now();
    for passed in 0..1000 {
        let answer = ask().await;
        if answer.status == 429 {
            assert!(passed >= 3, "{passed} passed: {}", answer.text);
            return answer;
        }
        assert!(passed < 4 + begun.elapsed().as_secs(), "{passed} passed");
    }
    panic!("nothing was ever refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_than_the_burst_is_told_when_to_come_back_in_each_dialect() {
    for ask in [false, true] {
        let (folder, mock) = (Folder::new(), mock().await);
        let data = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), OFTEN).await;
        let caller = Caller::new(data.clients);
        let refused = match ask {
            false => until_refused(async || caller.chat("m").await).await,
            true => until_refused(async || caller.ask(&json!({})).await).await,
        };
        assert_eq!(refused.header("retry-after"), "1");
        match ask {
            false => assert_eq!(refused.code(), "rate_limited"),
            true => assert!(
                refused.text.starts_with(r#"{"error":"rate_limited","detail":"too_many_requests""#),
                "{}",
                refused.text
            ),
        }
        for _ in 0..10 {
            assert_eq!(caller.get("/readyz").await.status, 200, "whoever watches is not counted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_counted_with_its_callers_other_requests() {
    let (folder, mock) = (Folder::new(), mock().await);
    let settings = "limits: { requests_per_second: 1, requests_burst: 6 }\n";
    let data = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), settings).await;
    let mut refused = None;
    for _ in 0..100 {
        let mut command = atp(&folder);
        command.args(["ask", "hi", "--model", "m", "--via", "ws", "--url"]);
        command.arg(format!("http://{}", data.clients));
        let output = finished(command).await;
        if output.status.code() != Some(0) {
            refused = Some(told(&output));
            break;
        }
    }
    let refused = refused.expect("nothing was ever refused");
    assert!(refused.contains("429") || refused.contains("rate_limited"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_tenant_has_is_a_caller_and_made_up_ones_are_their_address() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (one, two) = (tenant("one", "key-of-one"), tenant("two", "key-of-two"));
    let resources = [adapter("a", &mock.url(), &["m"]), one, two].concat();
    let data = Atp::of_file_with(&folder, &resources, OFTEN).await;
    let caller = Caller::new(data.clients);
    let (one, two) = (caller.with_key("key-of-one"), caller.with_key("key-of-two"));
    let mut made_up = 0;
    until_refused(async || {
        made_up += 1;
        caller.with_key(&format!("key-{made_up}")).chat("m").await
    })
    .await;
    until_refused(async || one.chat("m").await).await;
    assert_eq!(two.chat("m").await.status, 200, "another's refusals are not this one's");
}
