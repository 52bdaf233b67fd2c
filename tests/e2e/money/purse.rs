//! What is left, found out by spending it: a limit put where the books say must let exactly that much in,
//! and not one token or picodollar more.

use loadtest::mock::Mock;

use tokio::task::JoinSet;

use super::asks::{Ask, Leaves, Model, messages};
use super::books::{Books, Kept};
use super::{PLENTY, SESSIONS, TENANTS, WINDOWED, all_models, id_in, resources, tokens_in, whole};
use crate::kit::{Answer, Atp, Caller, Folder, Page, until};

/// Windows of tenants: the whole of each axis can be had at once, and one more cannot.
pub async fn windows_are_empty(caller: &Caller, books: &mut Books) {
    for (at, tenant) in TENANTS.iter().enumerate().take(WINDOWED) {
        let caller = caller.with_key(tenant.name);
        let of = |axis: &str| -> u64 {
            let (_, rest) = tenant.spec.split_once(axis).expect("it has a window");
            rest[2..].split([',', ' ']).next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let (tokens, micros) = (of("max_tokens"), of("max_usd_micros"));
        // Nothing is known of this model, so a prompt is a token for every four bytes.
        let prompt = |tokens: u64| "x".repeat(tokens as usize * 4 - messages("").len());
        let refused = chat(&caller, FREE[at].name, &prompt(tokens - 10 + 1), 10).await;
        assert_eq!((refused.status, &*refused.code()), (429, "window_exceeded"), "{}", tenant.name);
        let whole = chat(&caller, FREE[at].name, &prompt(tokens - 10), 10).await;
        books.add(kept(&whole, at, None));
        // A token of this one is 100 micro-USD.
        let refused = chat(&caller, DEAR.name, "", micros / 100 + 1).await;
        assert_eq!((refused.status, &*refused.code()), (429, "window_exceeded"), "{}", tenant.name);
        let whole = chat(&caller, DEAR.name, "", micros / 100).await;
        books.add(kept(&whole, at, None));
        books.extend(all_at_once(&caller, at, of("max_parallel")).await);
    }
}

/// So many hang at the upstream; one more is refused.
async fn all_at_once(caller: &Caller, tenant: usize, parallel: u64) -> Vec<Kept> {
    let ask = Ask { script: "hang-after-1".into(), leaves: Leaves::After(1), ..Ask::new(tenant, &HELD) };
    let caller = caller.with("x-mock-script", &ask.script);
    let mut hanging = JoinSet::new();
    for _ in 0..parallel {
        let (caller, ask) = (caller.clone(), ask.clone());
        hanging.spawn(async move {
            let mut flow = caller.chat_flow(ask.body()).await;
            assert_eq!(flow.status, 200);
            let text = flow.read_to("tok1").await;
            (flow, text)
        });
    }
    let flows = hanging.join_all().await;
    let refused = chat(&caller, HELD.name, "", 9).await;
    assert_eq!((refused.status, &*refused.code()), (429, "window_exceeded"));
    let input = HELD.prompt_tokens();
    let kept = |text: &str| Kept {
        tenant,
        session: None,
        model: HELD.name.to_owned(),
        id: id_in(text),
        input,
        output: tokens_in(text),
        is_complete: false,
    };
    flows.iter().map(|(_, text)| kept(text)).collect()
}

/// Runs: tokens and money of their answers were spent, and nothing else. A run's limits may be narrowed, so
/// they are put where what is left is just what is asked for.
pub async fn runs_have_spent_what_they_were_answered(caller: &Caller, books: &mut Books) {
    let mut left_some = 0;
    for run in 0..SESSIONS {
        let tenant = run % WINDOWED;
        let caller = caller.with_key(TENANTS[tenant].name).with("x-atp-session", &name(run));
        let spent = |books: &Books| books.sum(&all_models(), |kept| kept.session == Some(run));
        let (tokens, micros) = limits(run);
        assert!(spent(books).answers > 0);
        let micros = micros.min(spent(books).picodollars.div_ceil(PICO));
        let narrowed = caller.with("x-atp-budget-usd-micros", &micros.to_string());
        if tokens - spent(books).tokens().min(tokens) > 1000 {
            left_some += 1;
            let spent = spent(books).picodollars;
            books.extend(spend_the_rest(&narrowed, (tenant, Some(run)), micros * PICO - spent).await);
        }
        // The same with tokens, of a model that costs nothing.
        let least = spent(books).tokens() + HELD.prompt_tokens() + 5;
        let narrowed = caller.with("x-atp-budget-tokens", &least.to_string());
        let last = chat(&narrowed, HELD.name, HELD.text, 5).await;
        assert_eq!(last.status == 200, least <= tokens, "{run}: {least} of {tokens}: {}", last.text);
        if last.status == 200 {
            books.add(kept(&last, tenant, Some(run)));
            let refused = narrowed.chat_flow(NOTHING.replace("MODEL", HELD.name)).await.whole().await;
            assert_eq!((refused.status, &*refused.code()), (429, "budget_exceeded"), "{}", refused.text);
        }
    }
    assert!(left_some > SESSIONS / 2);
}

/// Days of tenants: the same, with a budget that its operator lowers.
pub async fn days_have_spent_what_was_answered(data: &Atp, folder: &Folder, mock: &Mock, books: &mut Books) {
    let mut budgets = PLENTY;
    let spent = |books: &Books, at| books.sum(&all_models(), |kept| kept.tenant == at).picodollars;
    for (at, budget) in budgets.iter_mut().enumerate() {
        *budget = spent(books, at).div_ceil(PICO);
    }
    folder.write("resources.yaml", &resources(&mock.url(), budgets));
    until("the lower budgets", async || Page::of(data.admin).await.value("atp_config_generation") == 2).await;
    for (at, budget) in budgets.into_iter().enumerate() {
        let caller = Caller::new(data.clients).with_key(TENANTS[at].name);
        let rest = budget * PICO - spent(books, at);
        books.extend(spend_the_rest(&caller, (at, None), rest).await);
    }
}

/// Less than a micro-USD, to the last picodollar; one more is refused.
async fn spend_the_rest(caller: &Caller, (tenant, run): (usize, Option<usize>), mut rest: u64) -> Vec<Kept> {
    let mut all = Vec::new();
    assert!(rest < PICO);
    for coin in COINS {
        let count = rest / coin.output_price;
        rest %= coin.output_price;
        if count > 0 {
            let answer = chat(caller, coin.name, "", count).await;
            assert_eq!(answer.status, 200, "{count} of {}: {}", coin.name, answer.text);
            all.push(kept(&answer, tenant, run));
        }
    }
    let refused = chat(caller, COINS[COINS.len() - 1].name, "", 1).await;
    assert_eq!((refused.status, &*refused.code()), (429, "budget_exceeded"), "{}", refused.text);
    all
}

/// Tokens and micro-USD of a run; every third is soon at its end.
pub fn limits(run: usize) -> (u64, u64) {
    if run % 4 == 3 { (2000, 1_000_000) } else { (1_000_000, 10_000_000) }
}

pub fn name(run: usize) -> String {
    format!("run-{run}")
}

async fn chat(caller: &Caller, model: &str, text: &str, tokens: u64) -> Answer {
    let messages = messages(text);
    let body = format!(r#"{{"model":"{model}","max_tokens":{tokens},"messages":{messages}}}"#);
    caller.with("x-mock-script", "tokens-200").chat_flow(body).await.whole().await
}

fn kept(answer: &Answer, tenant: usize, session: Option<usize>) -> Kept {
    assert_eq!(answer.status, 200, "{}", answer.text);
    whole(answer, &Ask { session, ..Ask::new(tenant, &HELD) })
}

/// A token.
const NOTHING: &str = r#"{"model":"MODEL","max_tokens":0,"messages":[]}"#;
const PICO: u64 = 1_000_000;
pub const MODELS: [Model; 8] = [FREE[0], FREE[1], FREE[2], DEAR, HELD, COINS[0], COINS[1], COINS[2]];
/// One for each tenant, so that nobody has learnt anything of it.
const FREE: [Model; 3] = [coin("free-1", 0), coin("free-2", 0), coin("free-3", 0)];
const DEAR: Model = coin("dear", 100_000_000);
const HELD: Model = coin("held", 0);
const COINS: [Model; 3] = [coin("coin-10000", 10_000), coin("coin-100", 100), coin("coin-1", 1)];

const fn coin(name: &'static str, output_price: u64) -> Model {
    Model { name, input_price: 0, output_price, text: "hold on" }
}
