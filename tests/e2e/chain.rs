//! Data planes whose adapters are data planes: a chain of ten answers, counts, stops and spends as one, and a
//! circle is told so.

use loadtest::mock::Mock;
use sdk_rust::{Ask, Client, Options};
use serde_json::json;

use crate::kit::{Atp, Caller, Folder, Page, adapter, counted, mock, until};

const HOPS: usize = 10;

/// The first is who is asked, the last one's adapter is the mock.
struct Chain {
    planes: Vec<Atp>,
    _folders: Vec<Folder>,
}

impl Chain {
    async fn new(mock: &Mock, models: &[&str]) -> Chain {
        let (mut planes, mut folders) = (Vec::new(), Vec::new());
        let mut next = mock.url();
        for _ in 0..HOPS {
            let folder = Folder::new();
            let plane = Atp::of_file(&folder, &adapter("next", &next, models)).await;
            next = format!("http://{}", plane.clients);
            planes.push(plane);
            folders.push(folder);
        }
        planes.reverse();
        Chain { planes, _folders: folders }
    }

    fn first(&self) -> Caller {
        Caller::new(self.planes[0].clients)
    }

    /// Nothing is under way anywhere.
    async fn is_quiet(&self) {
        for plane in &self.planes {
            until("everything to be given back", async || {
                let page = Page::of(plane.admin).await;
                page.sum("atp_upstream_in_flight") + page.sum("atp_upstream_tokens_in_flight") == 0
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_in_a_row_answer_through_every_door_and_each_counts_the_same() {
    let (mock, model) = (mock().await, "m--tokens-12");
    let chain = Chain::new(&mock, &[model]).await;
    let whole = chain.first().chat(model).await;
    assert_eq!(whole.status, 200, "{}", whole.text);
    let streamed = chain.first().stream(model).await.whole().await;
    assert!(streamed.text.ends_with("data: [DONE]\n\n") && !streamed.is_cut, "{}", streamed.text);
    let asked = chain.first().ask(&json!({"model": model})).await;
    assert!(asked.text.contains("\"type\":\"final\"") && !asked.text.contains("\"error\""), "{}", asked.text);
    let url = format!("http://{}", chain.planes[0].clients);
    let client = Client::connect(&url, Options::default()).await.expect("a session");
    let answer = client.ask(Ask { model: Some(model.into()), ..Ask::new("hi") }).await.expect("room");
    let done = answer.whole().await.expect("an answer");
    assert_eq!((done.tokens_out, done.text.split(' ').count()), (12, 12));
    counted(&mock).await;
    assert_eq!((mock.model(model).requests, mock.model(model).completed), (4, 4));
    // Each has left its mark, another one.
    for seen in mock.requests().iter().filter(|seen| seen.start.starts_with("POST")) {
        let mut marks: Vec<_> = seen.header("via").expect("marks").split(", ").collect();
        assert!(marks.iter().all(|mark| mark.starts_with("1.1 atp-")), "{marks:?}");
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), HOPS, "{marks:?}");
    }
    chain.is_quiet().await;
    for plane in &chain.planes {
        let page = Page::of(plane.admin).await;
        let of = |name: &str| page.value(&format!("{name}{{adapter=\"next\",model=\"{model}\"}}"));
        assert_eq!((of("atp_model_requests_total"), of("atp_model_output_tokens_total")), (4, 48));
        assert_eq!(page.sum("atp_model_failures_total"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_at_the_first_ends_the_work_of_the_last() {
    let (mock, model) = (mock().await, "m--first-token-ms-600000");
    let chain = Chain::new(&mock, &[model]).await;
    let asking = chain.first().with("x-atp-deadline-ms", "3000");
    let asked = tokio::spawn(async move { asking.chat(model).await });
    until("the last to be asked", async || mock.model(model).under_way == 1).await;
    let late = asked.await.expect("no panic");
    assert_eq!((late.status, &*late.code()), (504, "deadline_exceeded"), "{}", late.text);
    until("the last to be told", async || mock.model(model).cancelled == 1).await;
    chain.is_quiet().await;
    assert_eq!(mock.model(model).requests, 1, "nobody between tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_at_the_first_that_is_spent_stops_the_last() {
    let (mock, model) = (mock().await, "m--tokens-100000--token-rate-200");
    let chain = Chain::new(&mock, &[model]).await;
    let asking = chain.first().with("x-atp-session", "run").with("x-atp-budget-tokens", "400");
    let spent = asking.stream(model).await.whole().await;
    assert!(spent.is_cut && spent.text.contains("\"code\":\"budget_exceeded\""), "{}", spent.text);
    until("the last to be told", async || mock.model(model).cancelled == 1).await;
    chain.is_quiet().await;
    // The first event says who speaks and no word.
    let heard = spent.text.matches("\"content\":\"tok").count() as u64
        + spent.text.matches("\"content\":\" tok").count() as u64;
    assert!((100..=400).contains(&heard), "{heard}");
    for plane in &chain.planes {
        let page = Page::of(plane.admin).await;
        let tokens = page.sum("atp_model_output_tokens_total");
        assert!(tokens >= heard, "{tokens} of {heard} that came by");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_is_refused_with_an_error_of_its_own_and_asked_once_around() {
    let folders = [Folder::new(), Folder::new(), Folder::new()];
    let nowhere = crate::faults::dead_url();
    let first = Atp::of_file(&folders[0], &adapter("next", &nowhere, &["m"])).await;
    let mut next = format!("http://{}", first.clients);
    let mut others = Vec::new();
    for folder in &folders[1..] {
        let plane = Atp::of_file(folder, &adapter("next", &next, &["m"])).await;
        next = format!("http://{}", plane.clients);
        others.push(plane);
    }
    folders[0].write("resources.yaml", &adapter("next", &next, &["m", "round"]));
    let caller = Caller::new(first.clients);
    until("the circle to be closed", async || caller.get("/v1/models").await.text.contains("\"round\""))
        .await;
    let refused = caller.chat("m").await;
    assert_eq!((refused.status, &*refused.code()), (508, "loop_detected"), "{}", refused.text);
    // Its plan was told before.
    let refused = caller.ask(&json!({"model": "m"})).await;
    assert!(refused.text.contains("\"error\":\"loop_detected\""), "{}", refused.text);
    let url = format!("http://{}", first.clients);
    let client = Client::connect(&url, Options::default()).await.expect("a session");
    let answer = client.ask(Ask { model: Some("m".into()), ..Ask::new("hi") }).await.expect("room");
    let refused = answer.whole().await.expect_err("it goes round");
    assert!(refused.to_string().contains("loop_detected"), "{refused}");
    for plane in &others {
        let page = Page::of(plane.admin).await;
        assert_eq!(page.sum("atp_attempts_total"), 3, "once around for each that was asked");
        assert_eq!(page.sum("atp_model_failures_total"), 0, "no breaker holds it against a model");
    }
    let page = Page::of(first.admin).await;
    assert!(page.value("atp_errors_total{code=\"loop_detected\"}") >= 3, "each that came round");
}
