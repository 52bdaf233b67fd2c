//! Money: ten thousand requests, and every token and picodollar of them in the right place. The callers keep
//! books of what they got, the mock of what it sent; the proxy must say the same as both.

mod asks;
mod books;
mod purse;

use std::collections::BTreeMap;

use loadtest::mock::Mock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::kit::{Answer, Atp, Caller, Flow, Folder, Page, adapter, key_hash, mock, until};
use asks::{Ask, Dice, Leaves, Model, Tenant};
use books::{Books, Kept, Sum};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_add_up_to_the_last_picodollar() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &resources(&mock.url(), PLENTY)).await;
    let caller = Caller::new(data.clients);
    let (drawn, contested, walked) =
        tokio::join!(many(&caller, drawn()), many(&caller, contested()), many(&caller, walked()));
    let mut books = Books::default();
    books.extend(drawn.into_iter().chain(contested));
    until("all to be home", async || {
        let page = Page::of(data.admin).await;
        IN_FLIGHT.iter().all(|name| page.sum(name) == 0)
            && mock.stats().models.values().all(|model| model.under_way == 0)
    })
    .await;
    let page = Page::of(data.admin).await;
    let all = books.sum(&all_models(), |_| true);
    let preempted = page.value("preemptions_total");
    println!(
        "{} answers, {} of {} tokens cut off, {preempted} preempted",
        all.answers, all.cut_output, all.output
    );
    // How many are preempted is a matter of moments, mostly a few: who gives way is held by `admission`.
    assert!(all.answers > 5000 && all.cut_output > 1000, "{all:?}, {preempted} preempted");
    let is_strange = |code: &&&str| page.value(&format!("atp_errors_total{{code=\"{code}\"}}")) > 0;
    assert_eq!(["internal_error", "no_models_available"].iter().find(is_strange), None);
    books.compare(&mock.answers());
    models_add_up(&page, &books, &mock);
    tenants_add_up(&page, &books);
    walkers_pay_for_what_came(&page, &walked, &mock);
    purse::windows_are_empty(&caller, &mut books).await;
    purse::runs_have_spent_what_they_were_answered(&caller, &mut books).await;
    purse::days_have_spent_what_was_answered(&data, &folder, &mock, &mut books).await;
    tenants_add_up(&Page::of(data.admin).await, &books);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_came_in_one_piece_with_an_error_are_waste_and_not_forgotten() {
    let sour = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", sour.local_addr().expect("it is bound"));
    let serving = tokio::spawn(async move {
        let (mut stream, _) = sour.accept().await.expect("the proxy calls");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.expect("a request") > 0);
        let token = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
        let piece = format!("{token}{token}data: {{\"error\":{{\"message\":\"no more\"}}}}\n\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}{:x}\r\n{piece}\r\n0\r\n\r\n", piece.len());
        stream.write_all(answer.as_bytes()).await.expect("the proxy reads");
    });
    let folder = Folder::new();
    let data = Atp::of_file(&folder, &adapter("a", &url, &["m"])).await;
    let flow = Caller::new(data.clients).stream("m").await;
    assert_eq!(flow.status, 502);
    serving.await.expect("it served");
    let page = Page::of(data.admin).await;
    let of = |metric: &str| page.value(&format!("atp_model_{metric}{{adapter=\"a\",model=\"m\"}}"));
    assert_eq!((of("output_tokens_total"), of("output_tokens_estimated_total")), (2, 2));
    // A prompt of nine tokens at a millionth of a dollar, two of an answer at twice that.
    assert_eq!((of("cost_picodollars_total"), of("wasted_picodollars_total")), (13_000_000, 13_000_000));
    assert_eq!(page.sum("atp_tenant_cost_picodollars_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_whose_answer_was_cut_is_billed_as_it_likely_was_and_not_as_it_was_reserved() {
    let (folder, mock) = (Folder::new(), mock().await);
    let gold = format!("keys: [ {{ sha256: \"{}\" }} ], qos: gold", key_hash("gold"));
    let tenant = format!("---\nkind: Tenant\nname: gold\nspec: {{ {gold} }}\n");
    let data = Atp::of_file(&folder, &(adapter("a", &mock.url(), &["m"]) + &tenant)).await;
    let caller = Caller::new(data.clients).with_key("gold");
    // Four hundred bytes are a hundred tokens to the mock, which says so of the first one only.
    let messages = asks::messages(&"x".repeat(400 - asks::messages("").len()));
    let body = |streamed| format!(r#"{{"model":"m","stream":{streamed},"messages":{messages}}}"#);
    assert_eq!(caller.chat_flow(body(false)).await.whole().await.json()["usage"]["prompt_tokens"], 100);
    let cut = caller.with("x-mock-script", "cut-after-2").chat_flow(body(true)).await.whole().await;
    assert!(cut.is_cut);
    assert_eq!(Page::of(data.admin).await.sum("atp_tenant_input_tokens_total"), 200);
}

/// Of each model: the prompts of every attempt that was not refused, and the tokens of answers as their
/// callers counted them.
fn models_add_up(page: &Page, books: &Books, mock: &Mock) {
    for (adapter, model) in MODELS {
        let name = model.name;
        let of = |metric: &str| {
            page.value(&format!("atp_model_{metric}{{adapter=\"{adapter}\",model=\"{name}\"}}"))
        };
        let (seen, kept) = (mock.model(name), books.sum(&all_models(), |kept| kept.model == name));
        let sour = books.unseen(&mock.answers(), |row| row.model == name && name == SOUR);
        let attempts = of("requests_total");
        assert!(attempts >= seen.requests && kept.answers > 0, "{name}: {attempts}, {seen:?}");
        let input = model.prompt_tokens() * (attempts - seen.refused);
        let output = kept.output + sour;
        let cost = model.cost(input, output);
        let said = (of("input_tokens_total"), of("output_tokens_total"), of("output_tokens_estimated_total"));
        assert_eq!(said, (input, output, kept.cut_output + sour), "{name}: input, output, estimated");
        let said = (of("cost_picodollars_total"), of("wasted_picodollars_total"));
        assert_eq!(said, (cost, cost - kept.picodollars), "{name}: cost, waste");
    }
}

/// Of each tenant: the answers it got, and nothing else.
fn tenants_add_up(page: &Page, books: &Books) {
    for (at, Tenant { name, .. }) in TENANTS.iter().enumerate().take(WALKER) {
        let of = |metric: &str| page.value(&format!("atp_tenant_{metric}{{tenant=\"{name}\"}}"));
        let said = Sum {
            answers: of("requests_total"),
            input: of("input_tokens_total"),
            output: of("output_tokens_total"),
            picodollars: of("cost_picodollars_total"),
            cut_output: 0,
        };
        let kept = books.sum(&all_models(), |kept| kept.tenant == at);
        assert_eq!(said, Sum { cut_output: 0, ..kept }, "{name}");
    }
}

/// Who leaves in the middle of a stream is billed for no less than came, and no more than was sent: what lay
/// in sockets nobody knows. The prompts are exact, and so is the sum over what was counted.
fn walkers_pay_for_what_came(page: &Page, walked: &[Kept], mock: &Mock) {
    let (_, model) = BRISK;
    let of = |metric: &str| page.value(&format!("atp_tenant_{metric}{{tenant=\"walker\"}}"));
    let rows: BTreeMap<_, _> = mock.answers().into_iter().map(|row| (row.id, row.tokens_sent)).collect();
    let came: u64 = walked.iter().map(|kept| kept.output).sum();
    let sent: u64 = walked.iter().map(|kept| rows[&kept.id]).sum();
    let output = of("output_tokens_total");
    assert!((came..=sent).contains(&output), "{came} came, {output} counted, {sent} sent");
    assert_eq!(of("requests_total"), walked.len() as u64);
    assert_eq!(of("input_tokens_total"), walked.len() as u64 * model.prompt_tokens());
    assert_eq!(of("cost_picodollars_total"), model.cost(of("input_tokens_total"), output));
}

/// What may happen to a request, anyhow and anywhere.
fn drawn() -> Vec<Vec<Ask>> {
    let mut dice = Dice(SEED);
    let models: Vec<Model> = MODELS[..DRAWN].iter().map(|(_, model)| *model).collect();
    let one = |dice: &mut Dice| match dice.below(10) {
        0 => Ask { model: "spare", script: "tokens-7".into(), ..Ask::new(dice.below(3) as usize, &FLAKY) },
        1 => Ask::new(dice.below(3) as usize, &SOURED),
        _ => Ask::drawn(dice, &models, SESSIONS),
    };
    (0..CALLERS).map(|_| (0..EACH).map(|_| one(&mut dice)).collect()).collect()
}

/// Bronze holds half of few permits and does not end by itself; gold comes often, so that much may be cut,
/// and then stays long, so that there is need.
fn contested() -> Vec<Vec<Ask>> {
    let (_, busy) = &MODELS[BUSY];
    let mut dice = Dice(SEED + 2);
    let mut held = |streamed| Ask {
        script: format!("tokens-40--hang-after-{}", 1 + dice.below(40)),
        deadline_ms: Some(1500),
        streamed,
        ..Ask::new(PATIENT, busy)
    };
    let bronze = (0..6).map(|at| (0..5).map(|_| held(at > 1)).collect()).collect::<Vec<_>>();
    let urgent = |script: &str| Ask { script: script.into(), ..Ask::new(URGENT, busy) };
    let (short, long) = (urgent("tokens-2"), urgent("tokens-100--token-rate-200"));
    let gold = [vec![short; 25], vec![long; 2]].concat();
    bronze.into_iter().chain(vec![gold; 10]).collect()
}

/// Callers that go in the middle.
fn walked() -> Vec<Vec<Ask>> {
    let mut dice = Dice(SEED + 1);
    let one = |dice: &mut Dice| Ask {
        script: "tokens-100--token-rate-3000".into(),
        leaves: Leaves::After(1 + dice.below(120)),
        ..Ask::new(WALKER, &BRISK.1)
    };
    (0..4).map(|_| (0..50).map(|_| one(&mut dice)).collect()).collect()
}

/// Each list by a caller of its own, one after another.
async fn many(caller: &Caller, lists: Vec<Vec<Ask>>) -> Vec<Kept> {
    let mut callers = JoinSet::new();
    for list in lists {
        let caller = caller.clone();
        callers.spawn(async move {
            let mut kept = Vec::new();
            for ask in list {
                kept.extend(make(&caller, &ask).await);
            }
            kept
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// One request; what its caller got of an answer.
async fn make(caller: &Caller, ask: &Ask) -> Option<Kept> {
    let mut caller = caller.with_key(TENANTS[ask.tenant].name).with("x-mock-script", &ask.script);
    if let Some(session) = ask.session {
        let (tokens, micros) = purse::limits(session);
        caller = caller.with("x-atp-session", &purse::name(session));
        caller = caller.with("x-atp-budget-tokens", &tokens.to_string());
        caller = caller.with("x-atp-budget-usd-micros", &micros.to_string());
    }
    if let Some(deadline_ms) = ask.deadline_ms {
        caller = caller.with("x-atp-deadline-ms", &deadline_ms.to_string());
    }
    if let Leaves::Unanswered(patience) = ask.leaves {
        let came = timeout(patience, caller.chat_flow(ask.body())).await;
        assert!(came.is_err() || came.is_ok_and(|flow| flow.status != 200), "{ask:?} was answered");
        return None;
    }
    let flow = caller.chat_flow(ask.body()).await;
    if flow.status != 200 {
        assert!([429, 502, 503, 504].contains(&flow.status), "{}", flow.whole().await.text);
        return None;
    }
    Some(if ask.streamed { read(flow, ask).await } else { whole(&flow.whole().await, ask) })
}

/// An answer that is not streamed.
fn whole(answer: &Answer, ask: &Ask) -> Kept {
    let body = answer.json();
    let usage = |kind: &str| body["usage"][kind].as_u64().expect("the mock says it");
    let kept = Kept {
        tenant: ask.tenant,
        session: ask.session,
        model: answer.header("x-atp-model").to_owned(),
        id: body["id"].as_str().expect("an answer has one").to_owned(),
        input: usage("prompt_tokens"),
        output: usage("completion_tokens"),
        is_complete: true,
    };
    let mut one = Books::default();
    one.add(kept.clone());
    let cost = one.sum(&all_models(), |_| true).picodollars;
    assert_eq!(answer.header("x-atp-cost-usd-micros"), cost.div_ceil(1_000_000).to_string(), "{kept:?}");
    kept
}

/// A stream, until its end or its caller's.
async fn read(mut flow: Flow, ask: &Ask) -> Kept {
    let model = flow.headers["x-atp-model"].to_str().expect("a name").to_owned();
    let (mut text, mut is_cut) = (String::new(), true);
    loop {
        match flow.piece().await {
            Some(Ok(piece)) => text.push_str(std::str::from_utf8(&piece).expect("the mock speaks ASCII")),
            Some(Err(_)) => break,
            None => {
                is_cut = false;
                break;
            }
        }
        if matches!(ask.leaves, Leaves::After(tokens) if tokens_in(&text) >= tokens) {
            break;
        }
    }
    let is_complete = !is_cut && text.ends_with("data: [DONE]\n\n");
    assert!(is_complete || is_cut, "no end without its sign: {text}");
    let (tenant, session, input) = (ask.tenant, ask.session, model_of(&model).prompt_tokens());
    let (id, output) = (id_in(&text), tokens_in(&text));
    Kept { tenant, session, model, id, input, output, is_complete }
}

/// As the first event says it.
fn id_in(text: &str) -> String {
    let id = text.split_once("\"id\":\"").and_then(|(_, rest)| rest.split_once('"'));
    id.expect("an answer has one").0.to_owned()
}

fn tokens_in(text: &str) -> u64 {
    let contents = |empty: &str| text.matches(&format!("\"content\":\"{empty}")).count() as u64;
    // The first event has one without a token.
    contents("") - contents("\"")
}

fn model_of(name: &str) -> Model {
    all_models().into_iter().find(|model| model.name == name).expect("it is declared")
}

fn all_models() -> Vec<Model> {
    MODELS.iter().chain([&BRISK]).map(|(_, model)| *model).chain(purse::MODELS).collect()
}

/// `budgets`: of each tenant that has one, micro-USD a day.
fn resources(url: &str, budgets: [u64; WINDOWED]) -> String {
    let mut adapters: BTreeMap<&str, String> = BTreeMap::new();
    let purses = purse::MODELS.map(|model| ("purse", model));
    for (adapter, model) in MODELS.into_iter().chain([BRISK]).chain(purses) {
        let (name, price) = (model.name, model.price());
        *adapters.entry(adapter).or_default() += &format!("    - {{ name: {name}, price: {price} }}\n");
    }
    let mut text = String::new();
    for (name, models) in adapters {
        let limits = match name {
            "narrow" => "max_parallel: 4",
            "purse" => "max_parallel: 100",
            _ => "max_parallel: 12",
        };
        text += &format!("---\nkind: Adapter\nname: {name}\nspec:\n  kind: openai\n  endpoint: {url}/v1\n");
        text += &format!("  limits: {{ {limits}, max_tokens_in_flight: 1000000 }}\n  models:\n{models}");
    }
    text += "---\nkind: Route\nname: spare\nspec:\n  candidates:\n";
    text += &format!("    - {{ adapter: wide, model: {}, weight: 1 }}\n", FLAKY.name);
    text += "    - { adapter: broad, model: steady, weight: 0 }\n";
    for (at, Tenant { name, spec }) in TENANTS.into_iter().enumerate() {
        let budget = budgets.get(at).map(|micros| format!("budget: {{ usd_micros_per_day: {micros} }}, "));
        let (budget, key) = (budget.unwrap_or_default(), key_hash(name));
        text += &format!("---\nkind: Tenant\nname: {name}\n");
        text += &format!("spec: {{ keys: [ {{ sha256: \"{key}\" }} ], {budget}{spec} }}\n");
    }
    text
}

const fn model(name: &'static str, input_price: u64, output_price: u64, text: &'static str) -> Model {
    Model { name, input_price, output_price, text }
}

const SEED: u64 = 20_261_122;
const CALLERS: usize = 19;
const EACH: usize = 500;
const SESSIONS: usize = 12;
/// Prices that no rounding survives. The first ones are asked for anything.
const MODELS: [(&str, Model); 8] = [
    ("wide", model("ant", 137_193, 2_718_281, "a")),
    ("wide", model("bee", 999_999, 1_000_001, "say hi")),
    ("broad", model("cat", 1, 3, "what is new")),
    ("broad", model("dog", 7_654_321, 7_777_777, "why is the sky")),
    ("narrow", model("busy", 333_333, 666_667, "hurry")),
    ("wide", FLAKY),
    ("broad", model("steady", 424_242, 2_424_243, FLAKY.text)),
    ("broad", SOURED),
];
const DRAWN: usize = 4;
const BUSY: usize = 4;
/// A quarter of its answers is a refusal.
const FLAKY: Model = model("flaky--status-429--permille-250", 123_457, 1_234_577, "either of you");
/// An error in the first piece, with two tokens before it: the caller sees none of them.
const SOURED: Model = model(SOUR, 31, 1_000_003, "sweet or sour");
const SOUR: &str = "sour--tokens-5--coalesce--sse-error-after-2--permille-40";
const BRISK: (&str, Model) = ("brisk", model("brisk", 11, 13, "walk away"));
/// Their keys are their names.
const TENANTS: [Tenant; 6] = [
    Tenant {
        name: "gold",
        spec: "qos: gold, window: { max_parallel: 11, max_tokens: 3000, max_usd_micros: 15000 }",
    },
    Tenant { name: "silver", spec: "window: { max_parallel: 10, max_tokens: 2500, max_usd_micros: 12000 }" },
    Tenant {
        name: "bronze",
        spec: "qos: bronze, preempt_streams: true, \
               window: { max_parallel: 12, max_tokens: 2400, max_usd_micros: 9000 }",
    },
    Tenant { name: "urgent", spec: "qos: gold" },
    Tenant { name: "patient", spec: "qos: bronze, preempt_streams: true" },
    Tenant { name: "walker", spec: "weight: 1" },
];
/// The first ones have windows and a budget.
const WINDOWED: usize = 3;
const URGENT: usize = 3;
const PATIENT: usize = 4;
const WALKER: usize = 5;
/// A thousand dollars a day.
const PLENTY: [u64; WINDOWED] = [1_000_000_000; WINDOWED];
const IN_FLIGHT: [&str; 3] =
    ["atp_upstream_in_flight", "atp_upstream_tokens_in_flight", "fair_sched_queue_depth"];
