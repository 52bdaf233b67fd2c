//! Upstreams that fail, each in its own way: what the caller sees, and what is asked of whom after it.

use loadtest::mock::{MockConfig, serve};

use crate::kit::{Atp, Caller, Folder, Page, adapter, adapter_at, counted, mock, route, until};

/// An address that refuses connections.
pub fn dead_url() -> String {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    // Kept until the process ends: a port that is free may be the next test's server's.
    std::mem::forget(socket);
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_failures_requests_fail_at_once_and_the_upstream_has_peace() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--status-500";
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &[model])).await;
    let caller = Caller::new(data.clients);
    for _ in 0..5 {
        assert_eq!(caller.chat(model).await.status, 502);
    }
    for _ in 0..3 {
        let refused = caller.chat(model).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "no_models_available"));
        assert!(!refused.header("retry-after").is_empty());
    }
    assert_eq!(mock.model(model).requests, 5);
    assert_eq!(Page::of(data.admin).await.value("circuits_open"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_before_the_first_byte_goes_to_the_second_candidate() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = [
        adapter("dead", &dead_url(), &["first"]),
        adapter("busy", &mock.url(), &["m--status-503", "m--status-429"]),
        adapter("good", &mock.url(), &["second"]),
        route("of-dead", &[("dead", "first", 1), ("good", "second", 0)], &[]),
        route("of-503", &[("busy", "m--status-503", 1), ("good", "second", 0)], &[]),
        route("of-429", &[("busy", "m--status-429", 1), ("good", "second", 0)], &[]),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    for name in ["of-dead", "of-503", "of-429"] {
        let answer = caller.chat(name).await;
        assert_eq!((answer.status, answer.header("x-atp-model")), (200, "second"), "{name}: {}", answer.text);
        let streamed = caller.stream(name).await.whole().await;
        assert!(streamed.text.ends_with("data: [DONE]\n\n"), "{name}: {}", streamed.text);
        assert_eq!(streamed.header("x-atp-adapter"), "good", "{name}");
    }
    counted(&mock).await;
    let good = mock.model("second");
    assert_eq!((good.requests, good.completed), (6, 6));
    assert_eq!((mock.model("m--status-503").requests, mock.model("m--status-429").requests), (2, 2));
    assert_eq!(Page::of(data.admin).await.value("atp_retries_total"), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_first_byte_nothing_is_tried_again_and_the_cut_is_said_and_shown() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models = ["m--cut-after-5", "m--reset-after-5", "m--end-after-5", "m--sse-error-after-5"];
    let mut resources = adapter("good", &mock.url(), &["second"]);
    for (at, model) in models.iter().enumerate() {
        let name = format!("a{at}");
        resources += &adapter(&name, &mock.url(), &[model]);
        let candidates = [(name.as_str(), *model, 1), ("good", "second", 0)];
        resources += &route(&format!("r{at}"), &candidates, &["fallback: on-error"]);
    }
    let data = Atp::of_file(&folder, &resources).await;
    for (at, model) in models.iter().enumerate() {
        let answer = Caller::new(data.clients).stream(&format!("r{at}")).await.whole().await;
        assert_eq!(answer.status, 200);
        assert!(answer.is_cut, "{model}: {}", answer.text);
        assert_eq!(answer.text.matches("\"error\":").count(), 1, "{model}: {}", answer.text);
        assert!(!answer.text.contains("[DONE]"), "{model}: {}", answer.text);
        assert_eq!(mock.model(model).requests, 1, "{model}");
    }
    assert_eq!(mock.model("second").requests, 0);
    assert_eq!(Page::of(data.admin).await.value("atp_streams_broken_total"), models.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_worked_on_is_repeated_only_where_the_route_says_so() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = [
        adapter("bad", &mock.url(), &["m--status-500"]),
        adapter("good", &mock.url(), &["second"]),
        route("careful", &[("bad", "m--status-500", 1), ("good", "second", 0)], &[]),
        route("eager", &[("bad", "m--status-500", 1), ("good", "second", 0)], &["fallback: on-error"]),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.chat("careful").await.status, 502);
    assert_eq!(mock.model("second").requests, 0);
    assert_eq!(caller.chat("eager").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_retry_budget_ends_retries() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = [
        adapter("busy", &mock.url(), &["m--status-429"]),
        adapter("good", &mock.url(), &["second"]),
        route(
            "r",
            &[("busy", "m--status-429", 1), ("good", "second", 0)],
            &["retry: { attempts: 2, budget_permille: 0 }"],
        ),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    let mut statuses = Vec::new();
    for _ in 0..RETRIES_AT_START + 20 {
        statuses.push(caller.chat("r").await.status);
    }
    let (with, without) = statuses.split_at(RETRIES_AT_START);
    assert!(with.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(without.iter().all(|status| *status == 429), "{statuses:?}");
    let page = Page::of(data.admin).await;
    assert_eq!(page.value("atp_retries_total"), RETRIES_AT_START as u64);
    assert_eq!(page.value("atp_retries_denied_total"), 20);
    assert_eq!(mock.model("second").requests, RETRIES_AT_START as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_first_token_is_a_504_and_the_upstream_is_told() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models = ["m--hang", "m--hang-after-0", "m--hang-after-3"];
    let mut resources = String::new();
    for (at, model) in models.iter().enumerate() {
        resources += &adapter(&format!("a{at}"), &mock.url(), &[model]);
        let candidates = [(&*format!("a{at}"), *model, 1)];
        resources +=
            &route(&format!("r{at}"), &candidates, &["timeout: { first_token_ms: 200, idle_ms: 300 }"]);
    }
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    for name in ["r0", "r1"] {
        let answer = caller.stream(name).await.whole().await;
        assert_eq!((answer.status, &*answer.code()), (504, "upstream_first_token_timeout"), "{name}");
    }
    let idle = caller.stream("r2").await.whole().await;
    assert!(idle.is_cut && idle.text.contains("upstream_idle_timeout"), "{}", idle.text);
    for model in models {
        until("the upstream to be told", async || mock.model(model).cancelled == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_own_deadline_is_kept() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m--hang"])).await;
    let answer = Caller::new(data.clients).with("x-atp-deadline-ms", "150").chat("m--hang").await;
    assert_eq!((answer.status, &*answer.code()), (504, "deadline_exceeded"));
    until("the upstream to be told", async || mock.model("m--hang").cancelled == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_callers_do_not_take_an_adapter_from_the_patient() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m", "m--hang"])).await;
    let caller = Caller::new(data.clients);
    for _ in 0..8 {
        assert_eq!(caller.with("x-atp-deadline-ms", "20").chat("m--hang").await.status, 504);
    }
    assert_eq!(caller.chat("m").await.status, 200, "eight deadlines of a caller's own trip no breaker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upstream_refuses_is_not_billed() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models = ["m--status-400"];
    let resources = adapter_at("a", &mock.url(), &models, "{ in: 100, out: 100 }");
    let data = Atp::of_file(&folder, &resources).await;
    let answer = Caller::new(data.clients).chat("m--status-400").await;
    assert_eq!((answer.status, answer.header("x-atp-cost-usd-micros")), (400, "0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_restarts_between_requests_costs_nobody_an_answer() {
    let (folder, mut mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m"])).await;
    let caller = Caller::new(data.clients);
    for _ in 0..3 {
        // Each worker keeps a connection, which the restart makes stale.
        for _ in 0..10 {
            assert_eq!(caller.chat("m").await.status, 200);
        }
        let address = mock.address();
        mock.stop().await;
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free again");
        mock = serve(listener, MockConfig::default()).expect("it is bound");
    }
    for _ in 0..10 {
        assert_eq!(caller.chat("m").await.status, 200);
    }
    let page = Page::of(data.admin).await;
    assert_eq!((page.sum("atp_model_failures_total"), page.value("atp_retries_total")), (0, 0));
}

/// What a route's budget holds before it earned any.
const RETRIES_AT_START: usize = proto_core::model::Retry::FLOOR as usize;
