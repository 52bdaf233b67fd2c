//! Who may have how much, who waits, who is next, who gives way.

use crate::kit::{Answer, Atp, Caller, Folder, Page, key_hash, lines, mock, until};
use sdk_rust::{Ask, Client, Code, Failure, Options};
use serde_json::json;

const SLOW: &str = "m--tokens-10--token-rate-50";
const HANGS: &str = "m--hang";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_permit_waits_for_one_and_says_how_long() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &[SLOW], "max_parallel: 1")).await;
    let caller = Caller::new(data.clients);
    let answers = futures(8, || {
        let caller = caller.clone();
        async move { caller.chat(SLOW).await }
    })
    .await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{:?}", answers.iter().map(|a| a.status));
    let waits: Vec<u64> =
        answers.iter().map(|answer| answer.header("x-atp-queue-ms").parse().unwrap()).collect();
    assert!(waits.iter().max().unwrap() > &200, "seven stood before the last: {waits:?}");
    let page = Page::of(data.admin).await;
    assert_eq!(page.value("fair_sched_grants_total"), 7);
    assert_eq!((page.value("fair_sched_queue_depth"), page.sum("atp_upstream_in_flight")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_queue_does_not_hold_is_refused_at_once_and_told_when_to_come_back() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &[HANGS], "max_parallel: 1, max_queued: 0")).await;
    let caller = Caller::new(data.clients);
    let held = tokio::spawn({
        let caller = caller.clone();
        async move { caller.chat(HANGS).await.status }
    });
    until("the first to be on its way", async || mock.model(HANGS).requests == 1).await;
    let refused = caller.chat(HANGS).await;
    assert_eq!((refused.status, &*refused.code()), (429, "upstream_at_capacity"));
    assert_eq!(refused.header("retry-after"), "1");
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_in_the_queue_ends_the_wait_and_leaves_the_upstream_alone() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &[HANGS], "max_parallel: 1")).await;
    let caller = Caller::new(data.clients);
    let held = tokio::spawn({
        let caller = caller.clone();
        async move { caller.chat(HANGS).await.status }
    });
    until("the first to be on its way", async || mock.model(HANGS).requests == 1).await;
    let late = caller.with("x-atp-deadline-ms", "150").chat(HANGS).await;
    assert_eq!((late.status, &*late.code()), (504, "deadline_exceeded"), "{}", late.text);
    assert_eq!(mock.model(HANGS).requests, 1);
    // One who goes away gives its place up too.
    let gone = tokio::spawn({
        let caller = caller.clone();
        async move { caller.chat(HANGS).await.status }
    });
    until("it to wait", async || Page::of(data.admin).await.value("fair_sched_queue_depth") == 1).await;
    gone.abort();
    until("its place to be free", async || Page::of(data.admin).await.value("fair_sched_queue_depth") == 0)
        .await;
    held.abort();
    until("all to be home", async || Page::of(data.admin).await.sum("atp_upstream_in_flight") == 0).await;
    assert_eq!(mock.model(HANGS).requests, 1, "nobody who left was sent on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_spends_its_budget_over_all_its_requests_and_no_more() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-100";
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &[model], "max_parallel: 8")).await;
    let caller = Caller::new(data.clients).with("x-atp-session", "run-1").with("x-atp-budget-tokens", "1000");
    let mut spent = 0;
    let (mut answers, mut windows) = (0, Vec::new());
    let refused = loop {
        let answer = caller.chat(model).await;
        if answer.status != 200 {
            break answer;
        }
        answers += 1;
        windows.push(answer.header("x-atp-window").parse::<u32>().expect("a number"));
        spent += answer.json()["usage"]["total_tokens"].as_u64().unwrap();
        assert!(answers < 50, "it never ends");
    };
    assert_eq!((refused.status, &*refused.code()), (429, "budget_exceeded"));
    assert!(windows[0] == 4 && windows.is_sorted() && windows.last() > Some(&4), "{windows:?}");
    assert!(answers >= 5 && spent <= 1000, "{answers} answers, {spent} tokens");
    let other = Caller::new(data.clients).with("x-atp-session", "run-2").with("x-atp-budget-tokens", "1000");
    assert_eq!(other.chat(model).await.status, 200, "another run has its own");
    let wider =
        Caller::new(data.clients).with("x-atp-session", "run-1").with("x-atp-budget-tokens", "100000");
    assert_eq!(wider.chat(model).await.status, 429, "a run is only narrowed");
    assert!(Page::of(data.admin).await.value("window_denied_tokens_total") >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outgrows_its_budget_ends_with_an_error_and_is_billed_for_what_came() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-5000--token-rate-2000";
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &[model], "max_parallel: 8")).await;
    let caller = Caller::new(data.clients).with("x-atp-budget-tokens", "600");
    let answer = caller.stream(model).await.whole().await;
    assert!(answer.is_cut && answer.text.contains("budget_exceeded"), "{}", tail(&answer.text));
    assert!(!answer.text.contains("[DONE]"));
    until("the upstream to be told", async || mock.model(model).cancelled == 1).await;
    let counted = Page::of(data.admin).await.sum("atp_tenant_output_tokens_total");
    assert!((300..=900).contains(&counted), "{counted} tokens of a budget of 600");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_is_no_number_is_named_and_nothing_is_sent() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &["m"], "max_parallel: 8")).await;
    for (name, value) in [
        ("x-atp-budget-tokens", "many"),
        ("x-atp-max-parallel", "0"),
        ("x-atp-deadline-ms", "-5"),
        ("x-atp-qos", "platinum"),
        ("x-atp-budget-usd-micros", "1e3"),
    ] {
        let refused = Caller::new(data.clients).with(name, value).chat("m").await;
        assert_eq!((refused.status, &*refused.code()), (400, "invalid_value"), "{name}");
        assert!(refused.text.contains(name), "{}", refused.text);
    }
    assert_eq!(mock.model("m").requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_window_and_its_budgets_hold() {
    let (folder, mock) = (Folder::new(), mock().await);
    let window = "window: { max_parallel: 1 }";
    let minute = "budget: { tokens_per_minute: 500 }";
    let day = "budget: { usd_micros_per_day: 1000 }";
    let resources = [
        narrow(&mock.url(), &[HANGS, "m--tokens-100"], "max_parallel: 8"),
        tenant("window", "w", window),
        tenant("minute", "t", minute),
        tenant("day", "d", day),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    let held = tokio::spawn({
        let caller = caller.with_key("w");
        async move { caller.chat(HANGS).await.status }
    });
    until("it to be on its way", async || mock.model(HANGS).requests == 1).await;
    let refused = caller.with_key("w").chat("m--tokens-100").await;
    assert_eq!((refused.status, &*refused.code()), (429, "window_exceeded"), "{}", refused.text);
    held.abort();
    until("its window to be free", async || caller.with_key("w").chat("m--tokens-100").await.status == 200)
        .await;
    let first = caller.with_key("t").chat("m--tokens-100").await;
    assert_eq!(first.header("x-ratelimit-limit-tokens"), "500");
    let left: u64 = first.header("x-ratelimit-remaining-tokens").parse().expect("a number");
    assert!((350..500).contains(&left), "what a whole answer took is settled: {left}");
    let alone = caller.with_key("w").chat("m--tokens-100").await;
    assert_eq!(alone.header("x-ratelimit-limit-requests"), "1");
    for (key, again_at_most) in [("t", 60), ("d", 86_400)] {
        let refused = until_refused(&caller.with_key(key)).await;
        assert_eq!(refused.code(), "budget_exceeded", "{}", refused.text);
        let again: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=again_at_most).contains(&again), "{key}: {again}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_tenant_is_served_its_share_beside_a_loud_one() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-4--token-rate-200";
    let resources = [
        narrow(&mock.url(), &[model], "max_parallel: 2"),
        tenant("loud", "l", "weight: 1"),
        tenant("quiet", "q", "weight: 1"),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let run = |key: &'static str, clients: usize, rounds: usize| {
        let caller = Caller::new(data.clients).with_key(key);
        futures(clients, move || {
            let caller = caller.clone();
            async move {
                for _ in 0..rounds {
                    assert_eq!(caller.chat(model).await.status, 200);
                }
            }
        })
    };
    let loud = tokio::spawn(run("l", 24, 100));
    until("the loud one to queue", async || Page::of(data.admin).await.value("fair_sched_queue_depth") > 8)
        .await;
    let before = Page::of(data.admin).await;
    run("q", 4, 25).await;
    let after = Page::of(data.admin).await;
    loud.abort();
    let served = |tenant: &str| {
        let key = format!("atp_tenant_requests_total{{tenant=\"{tenant}\"}}");
        after.value(&key) - before.value(&key)
    };
    // Backlogged with four of twenty-eight that ask, the quiet one gets about half.
    let (quiet, loud) = (served("quiet"), served("loud"));
    assert_eq!(quiet, 100);
    assert!(loud <= 150, "the loud one was served {loud} meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gold_in_need_takes_the_place_of_bronze_and_its_caller_is_told() {
    let (folder, mock) = (Folder::new(), mock().await);
    let slow = "m--first-token-ms-5000";
    let resources = [
        narrow(&mock.url(), &[slow, "m"], "max_parallel: 1"),
        tenant("bronze", "b", "qos: bronze"),
        tenant("gold", "g", "qos: gold"),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    let victim = tokio::spawn({
        let caller = caller.with_key("b");
        async move { caller.chat(slow).await }
    });
    until("bronze to be on its way", async || mock.model(slow).requests == 1).await;
    let urgent = caller.with_key("g");
    let gold = urgent.chat(slow);
    let victim = async { victim.await.unwrap() };
    let (gold, victim) = tokio::join!(gold, victim);
    assert_eq!(gold.status, 200);
    assert_eq!((victim.status, &*victim.code()), (503, "preempted"), "{}", victim.text);
    assert!(!victim.header("retry-after").is_empty());
    assert_eq!(Page::of(data.admin).await.value("preemptions_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gave_its_place_to_gold_is_asked_for_again_by_its_token_and_once() {
    let (folder, mock) = (Folder::new(), mock().await);
    let slow = "m--first-token-ms-2000--tokens-3";
    let resources = [
        narrow(&mock.url(), &[slow], "max_parallel: 1"),
        tenant("bronze", "b", "qos: bronze"),
        tenant("gold", "g", "qos: gold"),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients).with_key("g");
    let url = format!("http://{}", data.clients);
    let options = || Options { key: Some("b".into()), ..Options::default() };
    let client = Client::connect(&url, options()).await.expect("a session");
    let other = Client::connect(&url, options()).await.expect("a session");
    let asked = Ask { model: Some(slow.into()), ..Ask::new("say it") };
    let victim = client.ask(asked).await.expect("room");
    until("bronze to be on its way", async || mock.model(slow).requests == 1).await;
    let (gold, victim) = tokio::join!(caller.chat(slow), victim.whole());
    assert_eq!(gold.status, 200);
    let Err(Failure::Refused { code: Code::Preempt, resume: Some(token), .. }) = victim else {
        panic!("it gave its place to gold: {victim:?}");
    };
    let foreign = other.resume(&token).await.expect("room").whole().await;
    assert!(matches!(&foreign, Err(Failure::Refused { code: Code::BadInput, .. })), "{foreign:?}");
    let resumed = client.resume(&token).await.expect("room");
    until("it to be on its way again", async || mock.model(slow).requests == 3).await;
    // Gold waits this time.
    let (gold, resumed) = tokio::join!(caller.chat(slow), resumed.whole());
    let done = resumed.expect("it is answered");
    assert_eq!((gold.status, &*done.text, done.tokens_out), (200, "tok1 tok2 tok3", 3));
    let spent = client.resume(&token).await.expect("room").whole().await;
    assert!(matches!(&spent, Err(Failure::Refused { code: Code::BadInput, .. })), "{spent:?}");
    assert_eq!(Page::of(data.admin).await.value("preemptions_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_streams_is_not_cut_for_gold_unless_its_tenant_allows_it() {
    let (folder, mock) = (Folder::new(), mock().await);
    let streams = "m--tokens-40--token-rate-40";
    let resources = [
        narrow(&mock.url(), &[streams], "max_parallel: 1"),
        tenant("firm", "f", "qos: bronze"),
        tenant("soft", "s", "qos: bronze, preempt_streams: true"),
        tenant("gold", "g", "qos: gold"),
    ];
    let data = Atp::of_file(&folder, &resources.concat()).await;
    let caller = Caller::new(data.clients);
    for (key, is_cut) in [("f", false), ("s", true)] {
        let mut flow = caller.with_key(key).stream(streams).await;
        flow.read_to("tok2").await;
        let urgent = caller.with_key("g");
        let gold = urgent.chat(streams);
        let (gold, rest) = tokio::join!(gold, flow.whole());
        assert_eq!(gold.status, 200);
        assert_eq!(rest.is_cut, is_cut, "{}", tail(&rest.text));
        assert_eq!(rest.text.contains("preempted"), is_cut, "{}", tail(&rest.text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_that_finds_no_place_has_a_status_of_its_own() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &narrow(&mock.url(), &["m"], "max_parallel: 8")).await;
    let caller = Caller::new(data.clients).with("x-atp-budget-tokens", "10");
    let refused = caller.ask(&json!({"model": "m"})).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let allowed = Caller::new(data.clients).ask(&json!({"model": "m"})).await;
    assert_eq!((allowed.status, lines(&allowed.text).is_empty()), (200, false));
}

/// An adapter with these limits.
fn narrow(url: &str, models: &[&str], limits: &str) -> String {
    let models: String = models
        .iter()
        .map(|model| format!("    - {{ name: {model}, price: {{ in: 1, out: 2 }} }}\n"))
        .collect();
    format!(
        "---\nkind: Adapter\nname: a\nspec:\n  kind: openai\n  endpoint: {url}/v1\n  \
         limits: {{ {limits} }}\n  models:\n{models}"
    )
}

fn tenant(name: &str, key: &str, more: &str) -> String {
    let hash = key_hash(key);
    format!("---\nkind: Tenant\nname: {name}\nspec: {{ keys: [ {{ sha256: \"{hash}\" }} ], {more} }}\n")
}

async fn until_refused(caller: &Caller) -> Answer {
    for _ in 0..50 {
        let answer = caller.chat("m--tokens-100").await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("never refused");
}

/// All at once.
async fn futures<F: Future + Send + 'static>(count: usize, make: impl Fn() -> F) -> Vec<F::Output>
where
    F::Output: Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(make())).collect();
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(task.await.expect("no task of a test panics unnoticed"));
    }
    outputs
}

fn tail(text: &str) -> &str {
    &text[text.len().saturating_sub(300)..]
}
