//! Adapters that dial in, from the side of those who ask and from their own: what they are sent, how much at
//! once, what becomes of it when a connection breaks, and who may be one.

pub mod stage;

use sdk_rust::{AgentState, AgentStatus, Ask, Client, Code, Failure, Options, Piece, Tls, Via, Window};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::stage::{Call, Stage, attached, declared, up};
use crate::fanout::hand::Hand;
use crate::kit::{
    Answer, Atp, Authority, Caller, Flow, Folder, Page, Pair, adapter, key_hash, lines, mock, route, until,
    within,
};
use crate::sdk::cutter::Cutter;

fn url(atp: &Atp) -> String {
    format!("http://{}", atp.clients)
}

/// Takes so many calls at once.
fn wide(via: Via, max_parallel: u32) -> Options {
    Options { via, window: Window { max_parallel, ..Window::default() }, ..Options::default() }
}

/// A chat that is under way beside the test.
fn asked(atp: &Atp, model: &str) -> JoinHandle<Answer> {
    let (caller, model) = (Caller::new(atp.clients), model.to_owned());
    tokio::spawn(async move { caller.chat(&model).await })
}

/// The same, once it has come to the adapter.
async fn taken(atp: &Atp, stage: &mut Stage, model: &str) -> (JoinHandle<Answer>, Call) {
    let mut answer = asked(atp, model);
    tokio::select! {
        call = stage.call() => (answer, call),
        early = &mut answer => panic!("nobody was asked: {early:?}"),
    }
}

/// An answer that is under way on both sides.
async fn begun(atp: &Atp, stage: &mut Stage) -> (Flow, Call) {
    let caller = Caller::new(atp.clients);
    let flow = async {
        let flow = caller.stream("a").await;
        assert_eq!(flow.status, 200);
        flow
    };
    let call = async {
        let call = stage.call().await;
        call.say("half").await;
        call
    };
    let (mut flow, call) = tokio::join!(flow, call);
    flow.read_to("half").await;
    (flow, call)
}

fn text(answer: &Answer) -> Value {
    answer.json()["choices"][0]["message"]["content"].clone()
}

fn asking(model: &str) -> Ask {
    Ask { model: Some(model.into()), ..Ask::new("say hi") }
}

/// Says it in pieces, and that it took ten tokens to read and three to write.
async fn tell(call: Call) {
    for piece in ["The ", "sky is ", "blue."] {
        call.say(piece).await;
    }
    call.end(10, 3);
}

const SKY: &str = "The sky is blue.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_dialed_in_answers_whoever_asks_in_whichever_words() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("cast", &["a"]), "a").await;
    for via in [Via::Ws, Via::H2] {
        let mut stage = Stage::join(&atp, "cast", &url(&atp), wide(via, 8)).await;
        let caller = Caller::new(atp.clients);
        let (whole, sent) = tokio::join!(caller.chat("a"), async {
            let call = stage.call().await;
            let body = call.body.clone();
            tell(call).await;
            body
        });
        assert_eq!((whole.status, text(&whole)), (200, json!(SKY)), "{via:?}: {}", whole.text);
        assert_eq!(whole.header("x-atp-adapter"), "cast");
        assert_eq!(whole.json()["usage"]["prompt_tokens"], 10);
        assert_eq!(sent["messages"], json!([{"role": "user", "content": "say hi"}]));
        let (streamed, ()) = tokio::join!(async { caller.stream("a").await.whole().await }, async {
            tell(stage.call().await).await;
        });
        let events: Vec<&str> = streamed.text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.last(), Some(&"data: [DONE]"), "{}", streamed.text);
        let said = events.iter().filter_map(|event| {
            let event: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
            Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
        });
        assert_eq!(said.collect::<String>(), SKY, "{}", streamed.text);
        let (plain, ()) = tokio::join!(async { caller.ask(&json!({"model": "a"})).await }, async {
            tell(stage.call().await).await;
        });
        let last = lines(&plain.text).pop().expect("a last line");
        assert_eq!((&last["tokens_in"], &last["tokens_out"]), (&json!(10), &json!(3)), "{}", plain.text);
        let client = Client::connect(&url(&atp), wide(Via::Ws, 0)).await.expect("it is granted");
        let (done, ()) = tokio::join!(
            async { client.ask(asking("a")).await.expect("room").whole().await.expect("an answer") },
            async { tell(stage.call().await).await }
        );
        let got = (&*done.text, &*done.adapter, done.tokens_in, done.tokens_out);
        assert_eq!(got, (SKY, "cast", 10, 3));
        // Ten at a millionth of a dollar, three at two.
        assert_eq!(done.cost_usd, 0.000_016);
        let told = &done.telemetry;
        assert_eq!((told.tokens, told.usd, &*told.model), (13, 0.000_016, "a"));
        assert!(told.first_token_ms.is_some() && told.first_token_ms <= told.latency_ms, "{told:?}");
        within("it to leave", stage.leave()).await.expect("no panic").expect("in order");
        until("its absence to be known", async || attached(&atp).await == 0).await;
        let nobody = caller.chat("a").await;
        assert_eq!((nobody.status, &*nobody.code()), (503, "no_models_available"));
        let told = client.ask(asking("a")).await.expect("room").whole().await.expect_err("nobody is there");
        assert!(matches!(told, Failure::Refused { code: Code::AgentDown, .. }), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_is_sent_no_more_than_it_takes() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("cast", &["a"]), "a").await;
    let mut stage = Stage::join(&atp, "cast", &url(&atp), wide(Via::H2, 2)).await;
    let caller = Caller::new(atp.clients);
    let refused = async |why: &str| {
        // More often than a breaker would bear, were it counted as a failure.
        for _ in 0..10 {
            let answer = caller.chat("a").await;
            assert_eq!((answer.status, &*answer.code()), (429, "upstream_at_capacity"), "{why}");
        }
    };
    let (one, first) = taken(&atp, &mut stage, "a").await;
    let (two, second) = taken(&atp, &mut stage, "a").await;
    refused("two are all it takes").await;
    assert!(stage.is_idle());
    first.answer("one").await;
    assert_eq!(text(&within("an answer", one).await.expect("no panic")), "one");

    let told = async |status: AgentStatus| {
        let changes = async || Page::of(atp.admin).await.value("agent_status_changes_total");
        let before = changes().await;
        stage.status.tell(status);
        until("the status to be known", async || changes().await > before).await;
    };
    told(AgentStatus::new(AgentState::Busy)).await;
    refused("it is busy").await;
    told(AgentStatus::new(AgentState::Pause)).await;
    refused("it pauses").await;
    let suggested = Some(Window { max_parallel: 1, ..Window::WIDEST });
    told(AgentStatus { suggested, ..AgentStatus::new(AgentState::Ready) }).await;
    refused("one is all it takes for now, and that is under way").await;
    told(AgentStatus::new(AgentState::Ready)).await;
    assert!(stage.is_idle(), "nothing was sent meanwhile");
    let (three, third) = taken(&atp, &mut stage, "a").await;
    let changes = Page::of(atp.admin).await.value("agent_status_changes_total");
    let leaving = stage.leave();
    until("its farewell", async || Page::of(atp.admin).await.value("agent_status_changes_total") > changes)
        .await;
    let late = caller.chat("a").await;
    assert!([429, 503].contains(&late.status), "it drains: {}", late.text);
    for (call, answer, word) in [(second, two, "two"), (third, three, "three")] {
        call.answer(word).await;
        let answer = within("what was under way", answer).await.expect("no panic");
        assert_eq!(text(&answer), word, "what had begun comes to its end");
    }
    within("it to leave", leaving).await.expect("no panic").expect("in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_not_begun_goes_to_another_line_or_to_the_next_candidate() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = [
        adapter("spare", &mock.url(), &["m--tokens-3"]),
        declared("cast", &["a"]),
        route("both", &[("cast", "a", 1), ("spare", "m--tokens-3", 0)], &[]),
    ];
    let atp = up(&folder, &resources.concat(), "both").await;
    for via in [Via::Ws, Via::H2] {
        // The wider one is asked first.
        let cutter = Cutter::tcp(atp.clients).await;
        let behind = format!("http://{}", cutter.address);
        let mut first = Stage::join(&atp, "cast", &behind, wide(via, 9)).await;
        let mut second = Stage::join(&atp, "cast", &url(&atp), wide(via, 2)).await;
        let (answer, lost) = taken(&atp, &mut first, "a").await;
        drop(cutter);
        second.call().await.answer("from the other").await;
        assert_eq!(text(&within("an answer", answer).await.expect("no panic")), "from the other", "{via:?}");
        lost.gone().await;

        let requests = mock.model("m--tokens-3").requests;
        let cutter = Cutter::tcp(atp.clients).await;
        within("it to leave", second.leave()).await.expect("no panic").expect("in order");
        until("both to be gone", async || attached(&atp).await == 0).await;
        let behind = format!("http://{}", cutter.address);
        let mut only = Stage::join(&atp, "cast", &behind, wide(via, 9)).await;
        let (answer, lost) = taken(&atp, &mut only, "both").await;
        drop(cutter);
        let answer = within("an answer", answer).await.expect("no panic");
        assert_eq!(text(&answer), "tok1 tok2 tok3", "{via:?}: {}", answer.text);
        assert_eq!(mock.model("m--tokens-3").requests, requests + 1);
        lost.gone().await;
        until("it to be gone", async || attached(&atp).await == 0).await;
        let absent = Caller::new(atp.clients).chat("both").await;
        assert_eq!(text(&absent), "tok1 tok2 tok3", "nobody attached is no failure of the route");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_adapter_is_lost_ends_with_an_error() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("cast", &["a"]), "a").await;
    for via in [Via::Ws, Via::H2] {
        let cutter = Cutter::tcp(atp.clients).await;
        let behind = format!("http://{}", cutter.address);
        let mut stage = Stage::join(&atp, "cast", &behind, wide(via, 9)).await;
        let (streamed, of_stream) = begun(&atp, &mut stage).await;
        let (whole, of_whole) = taken(&atp, &mut stage, "a").await;
        of_whole.say("half").await;
        let client = Client::connect(&url(&atp), Options::default()).await.expect("it is granted");
        let mut session = client.ask(asking("a")).await.expect("room");
        let of_session = stage.call().await;
        of_session.say("half").await;
        assert_eq!(within("a piece", session.next()).await, Ok(Some(Piece::Text("half".into()))));
        drop(cutter);
        let rest = streamed.whole().await.text;
        assert!(rest.contains("\"error\"") && !rest.contains("[DONE]"), "{via:?}: {rest}");
        let whole = within("an answer", whole).await.expect("no panic");
        assert_eq!((whole.status, &*whole.code()), (502, "upstream_stream_truncated"), "{}", whole.text);
        let ended = within("the end", session.next()).await;
        assert!(matches!(ended, Err(Failure::Refused { .. })), "{ended:?}");
        for call in [of_stream, of_whole, of_session] {
            call.gone().await;
        }
        drop(stage);
        until("it to be gone", async || attached(&atp).await == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_takes_its_call_back() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("cast", &["a"]), "a").await;
    for via in [Via::Ws, Via::H2] {
        let mut stage = Stage::join(&atp, "cast", &url(&atp), wide(via, 1)).await;
        // Before the first piece, and after it; each frees the one place there is.
        let (waiting, call) = taken(&atp, &mut stage, "a").await;
        waiting.abort();
        call.gone().await;
        let (flow, call) = begun(&atp, &mut stage).await;
        drop(flow);
        call.gone().await;
        let client = Client::connect(&url(&atp), Options::default()).await.expect("it is granted");
        let answer = client.ask(asking("a")).await.expect("room");
        let call = stage.call().await;
        drop(answer);
        call.gone().await;
        let (answer, call) = taken(&atp, &mut stage, "a").await;
        call.answer("last").await;
        assert_eq!(text(&within("an answer", answer).await.expect("no panic")), "last", "{via:?}");
        within("it to leave", stage.leave()).await.expect("no panic").expect("in order");
        until("it to be gone", async || attached(&atp).await == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_message_without_fin_ends_the_answer_and_its_stream() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("far", &["a"]), "a").await;
    let mut hand = Hand::adapter(atp.clients, "far").await;
    let answer = asked(&atp, "a");
    let call = hand.hear_of("completion").await;
    let stream = call["stream_id"].as_str().expect("a stream").to_owned();
    hand.say((&stream, 1), &[], "agent.result.partial", &json!({"text": "all of it"})).await;
    hand.say((&stream, 2), &[], "agent.result.final", &json!({})).await;
    let answer = within("an answer", answer).await.expect("no panic");
    assert_eq!((answer.status, text(&answer)), (200, json!("all of it")));
    let over = loop {
        let frame = hand.hear().await;
        if frame["stream_id"] == stream.as_str() && frame["flags"] == json!(["RST"]) {
            break frame;
        }
    };
    assert_eq!(over["payload"]["content"]["code"], "EPROTO", "{over}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lines_of_one_adapter_share_its_calls() {
    let folder = Folder::new();
    let atp = up(&folder, &declared("cast", &["a"]), "a").await;
    let mut one = Stage::join(&atp, "cast", &url(&atp), wide(Via::Ws, 4)).await;
    let mut two = Stage::join(&atp, "cast", &url(&atp), wide(Via::H2, 4)).await;
    let answers: Vec<_> = (0..6).map(|_| asked(&atp, "a")).collect();
    for stage in [&mut one, &mut two] {
        let calls = [stage.call().await, stage.call().await, stage.call().await];
        for call in calls {
            call.answer("shared").await;
        }
    }
    for answer in answers {
        assert_eq!(text(&within("an answer", answer).await.expect("no panic")), "shared");
    }
    assert!(one.is_idle() && two.is_idle(), "each had its half");
}

fn is_foreign(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { code: Code::Sec, .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_declared_adapter_of_this_kind_may_attach_and_only_who_may_be_it() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = declared("cast", &["a"]) + &adapter("dialled", &mock.url(), &["m"]);
    let atp = up(&folder, &resources, "m").await;
    let mut reasons = Vec::new();
    for name in ["nobody", "dialled"] {
        for via in [Via::Ws, Via::H2] {
            reasons.push(Stage::dial(name, &url(&atp), wide(via, 1)).refused().await);
        }
    }
    // A tenant by its key, where nobody is trusted for being on this machine.
    let folder = Folder::new();
    let keyed = format!(
        "{resources}---\nkind: Tenant\nname: acme\nspec: {{ keys: [ {{ sha256: \"{}\" }} ] }}\n",
        key_hash("acme-key")
    );
    let other = Atp::of_file(&folder, &keyed).await;
    for via in [Via::Ws, Via::H2] {
        let options = Options { key: Some("acme-key".into()), ..wide(via, 1) };
        reasons.push(Stage::dial("cast", &url(&other), options.clone()).refused().await);
        let client = within("a session", Client::connect(&url(&other), options)).await;
        client.expect("it may ask").finish().await.expect("in order");
    }
    assert!(reasons.iter().all(is_foreign), "{reasons:?}");
    assert!(
        reasons.iter().all(|reason| *reason == reasons[0]),
        "it says nothing of what there is: {reasons:?}"
    );
    assert_eq!((attached(&atp).await, attached(&other).await), (0, 0));
}

/// A data plane behind TLS whose clients may show certificates.
async fn secured(folder: &Folder, authority: &Authority, resources: &str) -> Atp {
    let Pair { cert, key } = authority.server();
    for (name, content) in [("server.pem", &cert), ("server.key", &key), ("ca.pem", &authority.pem)] {
        folder.write(name, content);
    }
    let tls = "tls: { listen: \"127.0.0.1:0\", cert: server.pem, key: server.key, client_ca: ca.pem, \
               client_auth: optional }\n";
    Atp::of_file_with(folder, resources, tls).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_attaches_as_the_adapter_it_names_and_as_no_other() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let resources = declared("cast", &["a"]) + &declared("crew", &["b"]);
    let atp = secured(&folder, &authority, &resources).await;
    let secure = format!("https://localhost:{}", atp.https().await.port());
    let showing = |via: Via, name: &str| {
        let pair = authority.client(&[&format!("spiffe://atp.local/{name}")]);
        let file = name.replace('/', "-");
        let tls = Tls {
            ca: Some(folder.path().join("ca.pem")),
            cert: Some(folder.write(&format!("{file}.pem"), &pair.cert)),
            key: Some(folder.write(&format!("{file}.key"), &pair.key)),
        };
        Options { tls, ..wide(via, 4) }
    };
    for via in [Via::Ws, Via::H2] {
        for (identity, name) in [
            ("adapter/cast", "crew"),
            ("adapter/nobody", "cast"),
            ("adapter/nobody", "nobody"),
            ("tenant/acme", "cast"),
            ("operator/cast", "cast"),
        ] {
            let failure = Stage::dial(name, &secure, showing(via, identity)).refused().await;
            let is_refused = is_foreign(&failure) || matches!(failure, Failure::Rejected { status: 401, .. });
            assert!(is_refused, "{via:?} {identity} as {name}: {failure:?}");
        }
        let asks = within("a refusal", Client::connect(&secure, showing(via, "adapter/cast"))).await;
        assert!(asks.as_ref().is_err_and(is_foreign), "an adapter asks for nothing: {:?}", asks.err());
        let mut stage = Stage::join(&atp, "cast", &secure, showing(via, "adapter/cast")).await;
        let (answer, call) = taken(&atp, &mut stage, "a").await;
        call.answer("by certificate").await;
        assert_eq!(text(&within("an answer", answer).await.expect("no panic")), "by certificate", "{via:?}");
        within("it to leave", stage.leave()).await.expect("no panic").expect("in order");
        until("it to be gone", async || attached(&atp).await == 0).await;
    }
}
