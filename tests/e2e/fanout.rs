//! Fan-out from the side of the one who asks: who is asked, heard and cancelled, and what all of it costs.

mod adaptive;
pub mod hand;
mod heard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sdk_rust::{Client, Code, Dispatch, Failure, Options, Piece, Policy, Refusal, Via, Window};
use serde_json::{Value, json};

use self::hand::Hand;
use self::heard::{hear, words};
use crate::attached::stage::{Call, Stage, declared, up};
use crate::kit::{Atp, Folder, Page, adapter, counted, mock, until, within};
use crate::sdk::cutter::Cutter;

/// Both planes, and models whose every word the test decides.
struct Scene {
    atp: Atp,
    stage: Stage,
    client: Client,
    _folder: Folder,
}

/// Lanes of any test, and who chooses between them.
const CAST: [&str; 7] = ["a", "b", "c", "d", "e", "f", "judge"];

impl Scene {
    async fn new() -> Scene {
        let folder = Folder::new();
        let atp = up(&folder, &declared("cast", &CAST), "judge").await;
        let url = format!("http://{}", atp.clients);
        let window = Window { max_parallel: 16, ..Window::default() };
        let stage = Stage::join(&atp, "cast", &url, Options { via: Via::H2, window, ..Options::default() });
        let stage = stage.await;
        let client = client(&url).await;
        Scene { atp, stage, client, _folder: folder }
    }

    /// Asks these models, and waits until each of them was.
    async fn ask(&mut self, dispatch: Dispatch) -> (sdk_rust::Answer, BTreeMap<String, Call>) {
        let answer = self.client.dispatch(&dispatch).await.expect("room");
        let cast = self.stage.cast(dispatch.targets.len()).await;
        (answer, cast)
    }
}

async fn client(url: &str) -> Client {
    within("a session", Client::connect(url, Options::default())).await.expect("it is granted")
}

/// Of these models, each a persona of its name, decided by `policy`.
fn to(models: &[&str], policy: Policy) -> Dispatch {
    Dispatch::new("why is the sky blue?", models.iter().copied()).with_policy(policy)
}

fn take(cast: &mut BTreeMap<String, Call>, model: &str) -> Call {
    cast.remove(model).unwrap_or_else(|| panic!("{model} is under way"))
}

/// State of each lane of a final content, by persona.
fn states(content: &Value) -> BTreeMap<&str, &str> {
    let lanes = content["lanes"].as_array().expect("a list").iter();
    let text = |value| Value::as_str(value).expect("text");
    lanes.map(|lane| (text(&lane["persona_id"]), text(&lane["state"]))).collect()
}

/// What its lanes took, and nothing else.
fn adds_up(content: &Value) {
    let lanes = content["lanes"].as_array().expect("a list");
    for axis in ["tokens_in", "tokens_out"] {
        let sum: u64 = lanes.iter().map(|lane| lane["stats"][axis].as_u64().expect("a number")).sum();
        assert_eq!(content[axis].as_u64(), Some(sum), "{axis}: {content}");
    }
    let sum: f64 = lanes.iter().map(|lane| lane["stats"]["cost_usd"].as_f64().expect("a number")).sum();
    assert_eq!(picodollars(content), (sum * 1e12).round() as u64, "{content}");
}

fn picodollars(content: &Value) -> u64 {
    (content["cost_usd"].as_f64().expect("a number") * 1e12).round() as u64
}

/// The metrics say what the answer says: every token, every picodollar, once.
async fn is_billed(atp: &Atp, content: &Value) {
    let page = Page::of(atp.admin).await;
    let of = |what: &str| page.sum(&format!("atp_tenant_{what}_total"));
    let said = |key: &str| content[key].as_u64().expect("a number");
    let billed = (of("input_tokens"), of("output_tokens"), of("cost_picodollars"));
    assert_eq!(billed, (said("tokens_in"), said("tokens_out"), picodollars(content)), "{content}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_to_end_answers_the_others_are_cancelled_upstream_and_there_is_one_bill() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (quick, slow) = ("q--tokens-40--token-rate-100", "s--tokens-5000--token-rate-50");
    let atp = Atp::of_file(&folder, &adapter("m", &mock.url(), &[quick, slow])).await;
    let client = client(&format!("http://{}", atp.clients)).await;
    let mut answer = client.dispatch(&to(&[slow, quick], Policy::FirstWin)).await.expect("room");
    let heard = hear(&mut answer).await;
    let done = heard.done();
    assert_eq!((&*done.text, &done.content["winning_persona"]), (&*words(40), &json!(quick)));
    assert_eq!(heard.said[quick], words(40), "what it says is heard as it says it");
    assert!(words(5000).starts_with(&heard.said[slow]));
    assert_eq!(states(&done.content), BTreeMap::from([(quick, "complete"), (slow, "cancelled")]));
    adds_up(&done.content);
    is_billed(&atp, &done.content).await;
    until("the loser to be cancelled upstream", async || mock.model(slow).cancelled == 1).await;
    counted(&mock).await;
    let (won, lost) = (mock.model(quick), mock.model(slow));
    assert_eq!((won.requests, won.completed, lost.requests, lost.under_way), (1, 1, 1, 0));
    let received = done.tokens_out - won.tokens_sent;
    assert!((1..=lost.tokens_sent).contains(&received), "paid for as far as it came: {received} {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_that_nobody_can_undo_is_the_answer_and_the_rest_is_cancelled() {
    let mut scene = Scene::new().await;
    let dispatch = to(&["a", "b", "c", "d", "e"], Policy::Consensus);
    let (mut answer, mut cast) = scene.ask(dispatch).await;
    take(&mut cast, "a").answer("The sky is blue.").await;
    take(&mut cast, "b").answer("the sky, is BLUE").await;
    let early = heard::until_provisional(&mut answer).await;
    assert_eq!((early.revision, early.agreement, early.expiry_ms), (1, 1.0, 1500));
    take(&mut cast, "c").answer("The sky is blue!").await;
    let heard = hear(&mut answer).await;
    let content = &heard.done().content;
    assert_eq!((&content["agreed"], &content["groups"]), (&json!(true), &json!([[0, 1, 2]])), "{content}");
    let states = states(content);
    assert_eq!((states["a"], states["d"], states["e"]), ("complete", "cancelled", "cancelled"));
    for (_, call) in cast {
        call.gone().await;
    }
    assert_eq!((heard.done().tokens_in, heard.done().tokens_out), (30, 12));
    adds_up(content);
    is_billed(&scene.atp, content).await;
}

/// Two say one thing, one another, and a third nothing of either.
async fn differ(mut cast: BTreeMap<String, Call>) {
    for (model, text) in [("a", "It is blue."), ("b", "it is blue"), ("c", "Green it was!"), ("d", "No idea")]
    {
        take(&mut cast, model).answer(text).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_agreement_there_is_none_or_the_best_or_what_a_model_chooses() {
    let mut scene = Scene::new().await;
    let models = ["a", "b", "c", "d"];
    let consensus = to(&models, Policy::Consensus).with("agree_min", 0.75).with("provisional", false);

    let (mut answer, cast) = scene.ask(consensus.clone()).await;
    differ(cast).await;
    let failed = hear(&mut answer).await;
    let content = failed.error();
    assert_eq!(content["code"], "ECONSENSUS");
    assert_eq!(
        content["reason"],
        "4 answers in 3 groups; the largest: 0.500 of the weight from 2; asked for: 0.75 from 2"
    );
    is_billed(&scene.atp, content).await;

    let (mut answer, cast) = scene.ask(consensus.clone().with("otherwise", "best")).await;
    differ(cast).await;
    let best = hear(&mut answer).await;
    let content = &best.done().content;
    assert_eq!((&content["agreed"], &content["arbiter_used"]), (&json!(false), &json!(false)));
    assert_eq!(content["groups"][0], json!([0, 1]));
    assert!(["It is blue.", "it is blue"].contains(&&*best.done().text), "{content}");

    let arbiter = consensus.with("otherwise", "arbiter").with("arbiter_model", "judge");
    for (reply, verdict, chosen) in [("Answer 2.", "chose", 1), ("1 or 3", "unclear", 0)] {
        let (mut answer, cast) = scene.ask(arbiter.clone()).await;
        differ(cast).await;
        let judge = scene.stage.call().await;
        assert_eq!(judge.model, "judge");
        let question = judge.body["messages"].to_string();
        assert!(question.contains("why is the sky blue?") && question.contains("<answer 3>"), "{question}");
        judge.answer(reply).await;
        let heard = hear(&mut answer).await;
        let content = &heard.done().content;
        assert_eq!((&content["arbiter"], &content["arbiter_used"]), (&json!(verdict), &json!(true)));
        assert_eq!(content["text"], content["representatives"][chosen][1], "{content}");
        let lanes = content["lanes"].as_array().expect("a list");
        let of_lanes: u64 = lanes.iter().filter_map(|lane| lane["stats"]["tokens_in"].as_u64()).sum();
        assert_eq!(heard.done().tokens_in, of_lanes + 10, "the arbiter is on the bill");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arbiter_is_asked_only_where_answers_differ_and_within_its_money() {
    let mut scene = Scene::new().await;
    let arbiter = to(&["a", "b"], Policy::Arbiter).with("arbiter_model", "judge").with("provisional", false);
    let (mut answer, mut cast) = scene.ask(arbiter.clone()).await;
    for model in ["a", "b"] {
        take(&mut cast, model).answer("It is blue.").await;
    }
    let agreed = hear(&mut answer).await;
    let content = &agreed.done().content;
    assert_eq!((&content["results_converged"], &content["arbiter"]), (&json!(true), &Value::Null));

    // A token of its answer costs two millionths: what it would take is more than a tenth of one.
    let (mut answer, mut cast) = scene.ask(arbiter.clone().with("arbiter_max_usd", 0.000_000_1)).await;
    take(&mut cast, "a").answer("It is blue.").await;
    take(&mut cast, "b").answer("Green, for sure, and nothing else").await;
    let poor = hear(&mut answer).await;
    let content = &poor.done().content;
    let verdict = (&content["arbiter"], &content["arbiter_used"], &content["budget_exceeded"]);
    assert_eq!(verdict, (&json!("budget_exceeded"), &json!(false), &json!(true)), "{content}");
    assert!(scene.stage.is_idle(), "nobody was asked to choose");
    assert!(!poor.done().text.is_empty() && content["agreed"] == false);

    // One that chooses late: the heaviest group's, and it is told to stop.
    let (mut answer, mut cast) = scene.ask(arbiter.with("deadline_ms", 1500)).await;
    take(&mut cast, "a").answer("It is blue.").await;
    take(&mut cast, "b").answer("Green, for sure, and nothing else").await;
    let judge = scene.stage.call().await;
    let late = hear(&mut answer).await;
    assert_eq!(late.done().content["arbiter"], "late");
    judge.gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_has_what_all_said_by_weight() {
    let mut scene = Scene::new().await;
    let mut merge = to(&["a", "b"], Policy::WeightedMerge).with("provisional", false);
    merge.targets[1].weight = Some(3.0);
    let (mut answer, mut cast) = scene.ask(merge.clone()).await;
    take(&mut cast, "a").answer("The sky is blue. Dust makes it red.").await;
    take(&mut cast, "b").answer("The sky is blue. Light is scattered.").await;
    let heard = hear(&mut answer).await;
    let done = heard.done();
    assert_eq!(done.text, "The sky is blue. Dust makes it red. Light is scattered.");
    assert_eq!(done.content["support"], json!([1.0, 0.25, 0.75]));
    assert_eq!(done.content.get("winning_persona"), None);

    let (mut answer, mut cast) = scene.ask(merge.with("keep_min", 0.5)).await;
    take(&mut cast, "a").answer("The sky is blue. Dust makes it red.").await;
    take(&mut cast, "b").fail(Refusal::new(Code::Adapter, "out of memory"));
    let alone = hear(&mut answer).await;
    assert_eq!(alone.done().text, "The sky is blue. Dust makes it red.", "who failed does not count");
    assert_eq!(states(&alone.done().content), BTreeMap::from([("a", "complete"), ("b", "EADAPTER")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_champion_answers_its_challengers_are_compared_and_one_takes_its_place() {
    let mut scene = Scene::new().await;
    let champion = to(&["a", "b", "c"], Policy::Champion);
    let (mut answer, mut cast) = scene.ask(champion.clone()).await;
    take(&mut cast, "b").answer("The sky is blue.").await;
    heard::until_end_of(&mut answer, "b").await;
    take(&mut cast, "a").answer("the sky is blue").await;
    let heard = hear(&mut answer).await;
    let content = &heard.done().content;
    assert_eq!((&*heard.done().text, &content["winning_persona"]), ("the sky is blue", &json!("a")));
    let compared = content["comparisons"].as_array().expect("a list");
    let verdicts: Vec<_> =
        compared.iter().map(|own| (&own["persona_id"], &own["same"], &own["faster"])).collect();
    assert_eq!(verdicts, [(&json!("b"), &json!(true), &json!(true))], "{content}");
    take(&mut cast, "c").gone().await;

    let (mut answer, mut cast) = scene.ask(champion).await;
    take(&mut cast, "a").fail(Refusal::new(Code::Adapter, "out of memory"));
    heard::until_end_of(&mut answer, "a").await;
    take(&mut cast, "c").answer("From the bench.").await;
    let heard = hear(&mut answer).await;
    assert_eq!(
        (&*heard.done().text, &heard.done().content["winning_persona"]),
        ("From the bench.", &json!("c"))
    );
    take(&mut cast, "b").gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_provisional_is_downgraded_revised_and_renewed() {
    let mut scene = Scene::new().await;
    let dispatch = to(&["a", "b", "c", "d"], Policy::Consensus).with("agree_min", 0.7);
    let expiry = json!({"quorum_min": 2, "agree_min": 0.7, "expiry_ms": 600});
    let (mut answer, mut cast) = scene.ask(dispatch.with("provisional", expiry)).await;
    take(&mut cast, "a").answer("The sky is blue.").await;
    take(&mut cast, "b").answer("the sky is blue").await;
    let first = heard::until_provisional(&mut answer).await;
    assert_eq!((first.revision, first.agreement, first.expiry_ms), (1, 1.0, 600));
    take(&mut cast, "c").answer("Green, for sure, and nothing else").await;
    // It may have been renewed before the third was heard.
    let fallen = heard::until_kind(&mut answer, "control.status").await;
    assert_eq!(fallen["provisional"], "DOWNGRADED");
    assert_eq!((fallen["from"].as_f64(), fallen["to"].as_f64()), (Some(1.0), Some(2.0 / 3.0)));
    let second = heard::until_provisional(&mut answer).await;
    assert!(second.revision > first.revision && second.agreement == 2.0 / 3.0, "{second:?}");
    let renewed = heard::until_provisional(&mut answer).await;
    assert_eq!((renewed.revision, &renewed.text), (second.revision + 1, &second.text), "it is told again");
    take(&mut cast, "d").answer("The sky is blue!").await;
    let heard = hear(&mut answer).await;
    assert_eq!(
        (&heard.done().content["agreed"], &heard.done().content["agreement"]),
        (&json!(true), &json!(0.75))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_fails_fails_alone_and_where_all_do_each_is_named() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (good, bad, cut) = ("g--tokens-4--first-token-ms-200", "b--status-500", "c--cut-after-2");
    let atp = Atp::of_file(&folder, &adapter("m", &mock.url(), &[good, bad, cut])).await;
    let client = client(&format!("http://{}", atp.clients)).await;
    let mut answer = client.dispatch(&to(&[bad, cut, good], Policy::FirstWin)).await.expect("room");
    let heard = hear(&mut answer).await;
    let content = &heard.done().content;
    assert_eq!((&*heard.done().text, &content["partial"]), (&*words(4), &json!(false)));
    let expected = BTreeMap::from([(good, "complete"), (bad, "EADAPTER"), (cut, "EADAPTER")]);
    assert_eq!(states(content), expected);
    is_billed(&atp, content).await;

    let mut answer = client.dispatch(&to(&[bad, cut], Policy::FirstWin)).await.expect("room");
    let heard = hear(&mut answer).await;
    let content = heard.error();
    assert_eq!(content["code"], "EADAPTER");
    let named = format!("no lane answered: {bad}#1 EADAPTER, {cut}#2 EADAPTER");
    assert_eq!(content["reason"], named, "{content}");
    assert_eq!(heard.ends.len(), 2);
    let partial = to(&[bad, cut], Policy::FirstWin).with("partial", true);
    let mut answer = client.dispatch(&partial).await.expect("room");
    let heard = hear(&mut answer).await;
    assert_eq!((&*heard.done().text, &heard.done().content["partial"]), ("tok1 tok2", &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_spent_stops_every_lane() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (quick, long) = ("q--tokens-10", "l--tokens-2000--token-rate-1000");
    let atp = Atp::of_file(&folder, &adapter("m", &mock.url(), &[quick, long])).await;
    let client = client(&format!("http://{}", atp.clients)).await;
    // A token of an answer costs two millionths.
    for budget in [json!({"tokens": 900}), json!({"dollars": 0.0018})] {
        let before = mock.model(long).requests;
        let both = to(&[long, long], Policy::WeightedMerge).with("budget", budget.clone());
        let mut answer = client.dispatch(&named(both)).await.expect("room");
        let heard = hear(&mut answer).await;
        let content = heard.error();
        assert_eq!(content["code"], "EBUDGET", "{budget} {content}");
        until("both to be cancelled upstream", async || mock.model(long).under_way == 0).await;
        let seen = mock.model(long);
        assert_eq!((seen.completed, seen.cancelled), (0, seen.requests), "{budget}");
        assert!(seen.requests > before, "{budget}");
        assert!(picodollars(content) <= 1_800_000_000 && content["tokens_out"].as_u64() <= Some(900));

        let with = to(&[quick, long, long], Policy::WeightedMerge).with("budget", budget.clone());
        let mut answer = client.dispatch(&named(with)).await.expect("room");
        let heard = hear(&mut answer).await;
        let done = heard.done();
        assert_eq!((&*done.text, &done.content["budget_exceeded"]), (&*words(10), &json!(true)), "{budget}");
        assert!(picodollars(&done.content) <= 1_800_000_000 && done.tokens_out <= 900, "{}", done.content);
        adds_up(&done.content);
    }
}

/// The same model may be asked several times: personas by their place.
fn named(mut dispatch: Dispatch) -> Dispatch {
    for (at, target) in dispatch.targets.iter_mut().enumerate() {
        target.persona_id = format!("p{at}");
    }
    dispatch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_dispatch_is_told_all_at_once_and_nobody_is_asked() {
    let (folder, mock) = (Folder::new(), mock().await);
    let atp = Atp::of_file(&folder, &adapter("m", &mock.url(), &["m"])).await;
    let client = client(&format!("http://{}", atp.clients)).await;
    let refused = async |dispatch: Dispatch| {
        let mut answer = client.dispatch(&dispatch).await.expect("room");
        match within("a refusal", answer.next()).await {
            Err(Failure::Refused { code: Code::BadInput, reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let many = named(to(&["m"; 17], Policy::Consensus));
    let reason = refused(many.with("agree_min", 1.5).with("deadline_ms", 1)).await;
    for part in ["targets: has 17, not 1 to 16", "agree_min: ", "deadline_ms: "] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    let mut wrong = named(to(&["m", "m"], Policy::Consensus));
    wrong.targets[1].weight = Some(-1.0);
    let reason = refused(wrong.with("budget", json!({"euros": 1}))).await;
    let expected =
        "targets[1].weight: -1 is not a number from 0.001 to 1000; budget.euros: is not known here";
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(mock.stats().models.len(), 0, "nobody was asked");
    let mut most = client.dispatch(&named(to(&["m"; 16], Policy::WeightedMerge))).await.expect("room");
    let heard = hear(&mut most).await;
    counted(&mock).await;
    assert_eq!((&*heard.done().text, heard.ends.len(), mock.model("m").completed), (&*words(20), 16, 16));
    is_billed(&atp, &heard.done().content).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_a_dispatch_up_cancels_every_lane() {
    let mut scene = Scene::new().await;
    let (mut answer, mut cast) = scene.ask(to(&["a", "b", "c"], Policy::FirstWin)).await;
    take(&mut cast, "a").say("half of").await;
    let piece = within("a piece", answer.next()).await;
    assert!(matches!(piece, Ok(Some(Piece::Lane(_)))), "{piece:?}");
    drop(answer);
    for (_, call) in cast {
        call.gone().await;
    }
    // While the arbiter is asked.
    let arbiter = to(&["a", "b"], Policy::Arbiter).with("arbiter_model", "judge");
    let (answer, mut cast) = scene.ask(arbiter).await;
    take(&mut cast, "a").answer("It is blue.").await;
    take(&mut cast, "b").answer("Green, for sure, and nothing else").await;
    let judge = scene.stage.call().await;
    drop(answer);
    judge.gone().await;
    // With the whole session.
    let (_answer, cast) = scene.ask(to(&["a", "b", "c"], Policy::FirstWin)).await;
    drop(_answer);
    scene.client.finish().await.expect("in order");
    for (_, call) in cast {
        call.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_the_lanes_back_and_loses_nothing() {
    let mut scene = Scene::new().await;
    let (mut answer, mut cast) = scene.ask(to(&["a", "b", "c"], Policy::WeightedMerge)).await;
    let short = take(&mut cast, "c");
    // Of each model: pieces that were taken off its hands.
    let said: Vec<Arc<AtomicU64>> = cast.keys().map(|_| Arc::default()).collect();
    let mut saying = Vec::new();
    for ((_, call), count) in cast.into_iter().zip(&said) {
        saying.push(tokio::spawn(say_all(call, PIECES, Arc::clone(count))));
    }
    let counts = || said.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    // Others in the same session are answered; and after a while nothing more is taken.
    let mut before = Vec::new();
    until("the lanes to be held back", async || {
        beside(&mut scene).await;
        let now = counts();
        std::mem::replace(&mut before, now.clone()) == now && now.iter().all(|count| *count > 0)
    })
    .await;
    // What the adapter's stream and the client's may have unread, the lane's own buffer, what is on its way.
    assert!(before.iter().sum::<u64>() < 2 * PIECES, "{before:?}");
    // One that is held back and has nothing more to say: all of it is on its way, its end with it.
    say_all(short, SHORT, Arc::default()).await;
    beside(&mut scene).await;
    let heard = hear(&mut answer).await;
    for (model, pieces) in [("a", PIECES), ("b", PIECES), ("c", SHORT)] {
        let whole: String = (0..pieces).map(|at| piece(model, at)).collect();
        assert!(heard.said[model] == whole, "every piece of {model}, once and in order");
    }
    assert_eq!((counts(), heard.done().tokens_out), (vec![PIECES; 2], 2 * PIECES + SHORT));
    for task in saying {
        within("a lane", task).await.expect("it said everything");
    }
}

async fn say_all(call: Call, pieces: u64, count: Arc<AtomicU64>) {
    for at in 0..pieces {
        call.say(&piece(&call.model, at)).await;
        count.fetch_add(1, Ordering::Relaxed);
    }
    call.end(10, pieces);
}

/// Long enough that bytes bound what is under way, however many share a message.
fn piece(model: &str, at: u64) -> String {
    format!("{model}{at:0>18} ")
}

/// Another answer of the same session.
async fn beside(scene: &mut Scene) {
    let (mut other, mut cast) = scene.ask(to(&["f"], Policy::FirstWin)).await;
    take(&mut cast, "f").answer("beside").await;
    assert_eq!(hear(&mut other).await.done().text, "beside");
}

/// More than a lane's own buffer, less than fits on the way to it.
const SHORT: u64 = 400;
/// Of two lanes, more than all buffers between a model and a client that does not read; of one, less than an
/// answer may have.
const PIECES: u64 = 12_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_in_the_middle_of_a_fan_out_costs_nothing() {
    for via in [Via::Ws, Via::H2] {
        let mut scene = Scene::new().await;
        let cutter = Cutter::tcp(scene.atp.clients).await;
        let options = Options { via, ..Options::default() };
        let url = format!("http://{}", cutter.address);
        scene.client = within("a session", Client::connect(&url, options)).await.expect("it is granted");
        let (mut answer, cast) = scene.ask(to(&["a", "b", "c"], Policy::WeightedMerge)).await;
        let mut whole: BTreeMap<String, String> = BTreeMap::new();
        for round in 0..6 {
            if round == 2 || round == 4 {
                cutter.cut();
            }
            for (model, call) in &cast {
                let piece = format!("{model}{round} ");
                call.say(&piece).await;
                whole.entry(model.clone()).or_default().push_str(&piece);
            }
            if round == 3 {
                until("the session to be taken up again", async || scene.client.resumes() == 1).await;
            }
        }
        for (_, call) in cast {
            call.end(10, 6);
        }
        let heard = hear(&mut answer).await;
        assert_eq!(heard.said, whole, "{via:?}: nothing twice, nothing lost");
        assert_eq!((heard.ends.len(), scene.client.resumes()), (3, 2), "{via:?}");
        assert_eq!((heard.done().tokens_in, heard.done().tokens_out), (30, 18));
        is_billed(&scene.atp, &heard.done().content).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_frame_of_a_fan_out_tells_what_all_of_it_cost() {
    let mut scene = Scene::new().await;
    let mut hand = Hand::new(scene.atp.clients, "run-1", "bronze").await;
    let targets = json!([{"persona_id": "p", "model": "a"}, {"persona_id": "p", "model": "b"}]);
    let dispatch = json!({"targets": targets, "policy": "weighted-merge", "prompt": "why?"});
    hand.ask("1", "agent.dispatch", &dispatch).await;
    let mut cast = scene.stage.cast(2).await;
    take(&mut cast, "a").answer("The sky is blue.").await;
    take(&mut cast, "b").answer("So is the sea.").await;
    let last = hand.hear_of("agent.result.final").await;
    assert!(last["flags"].as_array().expect("a list").contains(&json!("FIN")), "{last}");
    let (content, telemetry) = (&last["payload"]["content"], &last["telemetry"]);
    // Two of ten tokens each at a millionth of a dollar, two of four at twice that.
    assert_eq!((&telemetry["tokens"], &telemetry["usd"]), (&json!(28), &json!(0.000_036)), "{last}");
    assert_eq!(telemetry["usd"], content["cost_usd"]);
    is_billed(&scene.atp, content).await;
    let page = Page::of(scene.atp.admin).await;
    assert_eq!(page.sum("atp_tenant_requests_total"), 2, "each lane is a request, and the whole is none");

    hand.ask("2", "agent.dispatch", &json!({"targets": targets, "prompt": "why?"})).await;
    for (_, call) in scene.stage.cast(2).await {
        call.fail(Refusal::new(Code::Adapter, "out of memory"));
    }
    let failed = hand.hear_of("agent.result.error").await;
    assert_eq!(failed["payload"]["content"]["code"], "EADAPTER", "{failed}");
    assert!(failed["flags"].as_array().expect("a list").contains(&json!("FIN")), "{failed}");
    assert_eq!(failed["telemetry"]["usd"], 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_asks_for_less_gives_its_place_to_one_that_asks_for_more() {
    let folder = Folder::new();
    let one_at_once = "  limits: { max_parallel: 1 }\n  models:";
    let resources = declared("cast", &CAST).replace("  models:", one_at_once)
        + "---\nkind: Tenant\nname: public\nspec: { qos: gold }\n";
    let atp = up(&folder, &resources, "judge").await;
    let url = format!("http://{}", atp.clients);
    let mut stage = Stage::join(&atp, "cast", &url, Options::default()).await;
    let mut hand = Hand::new(atp.clients, "run-1", "gold").await;
    let to = |qos: &str| {
        let target = json!({"persona_id": "p", "model": "a", "qos": qos});
        json!({"targets": [target], "prompt": "why?"})
    };
    hand.ask("worse", "agent.dispatch", &to("bronze")).await;
    let worse = stage.call().await;
    hand.ask("better", "agent.dispatch", &to("gold")).await;
    worse.gone().await;
    stage.call().await.answer("done").await;
    let given_up = hand.hear_of("agent.result.error").await;
    let told = (&given_up["stream_id"], &given_up["payload"]["content"]["code"]);
    assert_eq!(told, (&json!("worse"), &json!("EPREEMPT")));
    assert_eq!(hand.hear_of("agent.result.final").await["stream_id"], "better");
}
