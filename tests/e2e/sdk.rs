//! The client library and the commands on it, against the binary: sessions over each transport, connections
//! that break in the middle of an answer, adapters that dial in.

pub mod cutter;

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use loadtest::mock::Mock;
use sdk_rust::adapter::echo;
use sdk_rust::{Adapter, Ask, Client, Code, Dispatch, Encoding, Failure, Options, Piece, Tls, Via};
use serde_json::json;
use tokio::sync::oneshot;

use crate::kit::{
    Atp, Authority, Caller, Folder, Page, Pair, adapter, atp, counted, finished, mock, tenant, told, until,
    within,
};
use cutter::Cutter;

/// A data plane with TLS, and what its clients need.
struct Served {
    atp: Atp,
    quic: SocketAddr,
    folder: Folder,
}

impl Served {
    /// Of a file.
    async fn new(resources: &str) -> Served {
        let (folder, authority) = (Folder::new(), Authority::new());
        let settings = tls(&folder, &authority);
        let atp = Atp::of_file_with(&folder, resources, &settings).await;
        Served { quic: atp.quic().await, atp, folder }
    }

    /// Both planes.
    async fn up() -> Served {
        let (folder, authority) = (Folder::new(), Authority::new());
        let settings = tls(&folder, &authority);
        let atp = Atp::up_with(&folder, &settings).await;
        Served { quic: atp.https().await, atp, folder }
    }

    fn options(&self, via: Via) -> Options {
        let ca = Some(self.folder.path().join("ca.pem"));
        Options { via, tls: Tls { ca, ..Tls::default() }, ..Options::default() }
    }

    fn url(&self, via: Via) -> String {
        if via == Via::Quic {
            format!("https://{}", self.quic)
        } else {
            format!("http://{}", self.atp.clients)
        }
    }

    async fn until_declared(&self, model: &str) {
        let caller = Caller::new(self.atp.clients);
        until("the adapter to be declared", async || caller.get("/v1/models").await.text.contains(model))
            .await;
    }

    /// So many adapters attached since the start. Asked of the log: requests nobody answers trip the breaker.
    async fn until_attached(&self, count: usize) {
        let said = "an adapter attached";
        until("the adapter to attach", async || self.atp.said().matches(said).count() >= count).await;
    }

    async fn client(&self, via: Via, encoding: Encoding) -> Client {
        let options = Options { encoding, ..self.options(via) };
        within("a session", Client::connect(&self.url(via), options)).await.expect("it is granted")
    }
}

fn tls(folder: &Folder, authority: &Authority) -> String {
    let Pair { cert, key } = authority.server();
    let (cert, key) = (folder.write("server.pem", &cert), folder.write("server.key", &key));
    folder.write("ca.pem", &authority.pem);
    format!("tls: {{ listen: \"127.0.0.1:0\", cert: {}, key: {} }}\n", cert.display(), key.display())
}

/// Ends with its test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The mock's answer of so many tokens.
fn tokens(count: u32) -> String {
    (1..=count).map(|at| format!("tok{at}")).collect::<Vec<_>>().join(" ")
}

fn asking(model: &str) -> Ask {
    Ask { model: Some(model.into()), ..Ask::new("say hi") }
}

const CARRIAGES: [Via; 3] = [Via::Ws, Via::H2, Via::Quic];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_session_are_answered_side_by_side_over_each_transport_in_each_encoding() {
    let mock = mock().await;
    let (quick, slow) = ("m--tokens-20", "m--tokens-200--token-rate-100");
    let served = Served::new(&adapter("a", &mock.url(), &[quick, slow])).await;
    for via in CARRIAGES {
        for encoding in Encoding::ALL {
            let client = served.client(via, encoding).await;
            let mut long = client.ask(asking(slow)).await.expect("room");
            assert!(matches!(long.next().await, Ok(Some(Piece::Text(_)))), "{via:?} {encoding:?}");
            let mut answers = Vec::new();
            for _ in 0..8 {
                answers.push(client.ask(asking(quick)).await.expect("room"));
            }
            for answer in answers {
                let done = within("an answer", answer.whole()).await.expect("an answer");
                let expected = (tokens(20), quick, "a", 20);
                let got = (done.text, &*done.model_used, &*done.adapter, done.tokens_out);
                assert_eq!(got, expected, "{via:?} {encoding:?}");
            }
            drop(long);
            client.finish().await.expect("in order");
        }
    }
    until("the abandoned to be cancelled upstream", async || {
        mock.model(slow).cancelled + mock.model(slow).completed == 9 && mock.model(slow).under_way == 0
    })
    .await;
    assert!(mock.model(slow).cancelled >= 8, "{:?}", mock.model(slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_completion_comes_in_the_model_servers_own_words() {
    let mock = mock().await;
    let served = Served::new(&adapter("a", &mock.url(), &["m--tokens-3"])).await;
    let client = served.client(Via::H2, Encoding::Bin).await;
    let body = json!({"model": "m--tokens-3", "messages": [{"role": "user", "content": "hi"}]});
    let mut answer = client.complete(&body).await.expect("room");
    let mut said = Vec::new();
    let done = loop {
        match within("a piece", answer.next()).await.expect("a piece") {
            Some(Piece::Chunk(chunk)) => {
                assert_eq!(chunk["object"], "chat.completion.chunk");
                said.extend(chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned));
            }
            Some(Piece::Done(done)) => break done,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((said.concat(), done.text.as_str(), done.tokens_out), (tokens(3), &*tokens(3), 3));
}

/// Asks through something that breaks a few times in the middle of the answer.
async fn cut_mid_answer(served: &Served, mock: &Mock, model: &str, via: Via, cutter: Cutter, cuts: u64) {
    let scheme = if via == Via::Quic { "https" } else { "http" };
    let options = served.options(via);
    let url = format!("{scheme}://{}", cutter.address);
    let client = within("a session", Client::connect(&url, options)).await.expect("it is granted");
    let mut answer = client.ask(asking(model)).await.expect("room");
    let (mut text, mut pieces, mut made) = (String::new(), 0, 0);
    let done = loop {
        match within("a piece", answer.next()).await.expect("a piece") {
            Some(Piece::Text(piece)) => text.push_str(&piece),
            Some(Piece::Done(done)) => break done,
            other => panic!("{other:?}"),
        }
        pieces += 1;
        if pieces % 20 == 0 && made < cuts {
            cutter.cut();
            made += 1;
            let resumed = async || client.resumes() >= made;
            until("the session to be taken up again", resumed).await;
        }
    };
    assert_eq!(text, tokens(200), "nothing twice, nothing lost");
    assert_eq!((done.text, done.tokens_out), (text, 200));
    assert_eq!((made, client.resumes(), cutter.connections()), (cuts, cuts, cuts + 1), "{via:?}");
    client.finish().await.expect("in order");
    counted(mock).await;
    let seen = mock.model(model);
    assert_eq!((seen.completed, seen.cancelled), (1, 0), "asked once");
    let page = Page::of(served.atp.admin).await;
    let of = |metric: &str| page.value(&format!("atp_model_{metric}{{adapter=\"a\",model=\"{model}\"}}"));
    assert_eq!((of("requests_total"), of("output_tokens_total")), (1, 200), "billed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_in_the_middle_of_an_answer_costs_nothing() {
    let mock = mock().await;
    let models = ["w--tokens-200--token-rate-400", "h--tokens-200--token-rate-400"];
    let served = Served::new(&adapter("a", &mock.url(), &models)).await;
    for (via, model) in [(Via::Ws, models[0]), (Via::H2, models[1])] {
        let cutter = Cutter::tcp(served.atp.clients).await;
        cut_mid_answer(&served, &mock, model, via, cutter, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quic_connection_whose_datagrams_are_swallowed_is_made_anew() {
    let mock = mock().await;
    let model = "q--tokens-200--token-rate-400";
    let served = Served::new(&adapter("a", &mock.url(), &[model])).await;
    let cutter = Cutter::udp(served.quic).await;
    cut_mid_answer(&served, &mock, model, Via::Quic, cutter, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_longer_than_a_frame_and_a_streams_credit_arrives_whole() {
    let mock = mock().await;
    let served = Served::new(&adapter("a", &mock.url(), &["m--tokens-3"])).await;
    let words = "word ".repeat(400_000);
    for via in CARRIAGES {
        let client = served.client(via, Encoding::Bin).await;
        let body = json!({"model": "m--tokens-3", "messages": [{"role": "user", "content": words}]});
        let (long, short) = (client.complete(&body).await, client.ask(asking("m--tokens-3")).await);
        for answer in [long, short] {
            let done = within("an answer", answer.expect("room").whole()).await.expect("an answer");
            assert_eq!(done.text, tokens(3), "{via:?}");
        }
    }
    assert!(mock.model("m--tokens-3").prompt_bytes >= 3 * words.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_nobodys_opens_no_session() {
    let mock = mock().await;
    let resources = adapter("a", &mock.url(), &["m"]) + &tenant("acme", "secret");
    let served = Served::new(&resources).await;
    for via in CARRIAGES {
        let with = |key: &str| Options { key: Some(key.into()), ..served.options(via) };
        let client = Client::connect(&served.url(via), with("secret")).await.expect("it is granted");
        client.ask(asking("m")).await.expect("room").whole().await.expect("an answer");
        for options in [with("wrong"), served.options(via)] {
            let refused = within("a refusal", Client::connect(&served.url(via), options)).await;
            let is_refusal = matches!(
                refused,
                Err(Failure::Rejected { status: 401, .. } | Failure::Refused { code: Code::Sec, .. })
            );
            assert!(is_refusal, "{via:?}: {refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_asks_over_each_transport() {
    let mock = mock().await;
    let served = Served::new(&adapter("a", &mock.url(), &["m--tokens-4"])).await;
    for (via, name) in [(Via::Ws, "http"), (Via::Ws, "ws"), (Via::H2, "h2"), (Via::Quic, "quic")] {
        let mut command = atp(&served.folder);
        command.args(["ask", "--via", name, "--url", &served.url(via), "--model", "m--tokens-4", "say hi"]);
        command.arg("--ca").arg(served.folder.path().join("ca.pem"));
        let output = finished(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {}", told(&output));
        assert!(said.starts_with(&format!("{}\n[m--tokens-4: ", tokens(4))), "{name}: {said}");
        assert!(said.contains(" 4 out, ") && said.contains("first token after"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_dialed_in_answers_until_it_leaves() {
    let served = Served::up().await;
    let models = "  models: [ { name: parrot-1, quality: 0.7 } ]\n";
    let resources = format!("kind: Adapter\nname: parrot\nspec:\n  kind: attached\n{models}");
    served.atp.apply(&served.folder, &resources).await;
    let caller = Caller::new(served.atp.clients);
    served.until_declared("parrot-1").await;
    for (at, via) in CARRIAGES.into_iter().enumerate() {
        let (end, ended) = oneshot::channel::<()>();
        let (url, options) = (served.url(via), served.options(via));
        let serving = tokio::spawn(async move {
            Adapter::new("parrot", echo).serve(&url, &options, async { drop(ended.await) }).await
        });
        served.until_attached(at + 1).await;
        let answer = caller.chat("parrot-1").await;
        let expected = caller.chat("echo").await.json()["choices"][0]["message"]["content"].clone();
        assert_eq!(answer.json()["choices"][0]["message"]["content"], expected, "{via:?}");
        assert_eq!(answer.header("x-atp-adapter"), "parrot");
        let streamed = caller.stream("parrot-1").await.whole().await;
        assert!(!streamed.is_cut && streamed.text.ends_with("data: [DONE]\n\n"), "{}", streamed.text);
        end.send(()).expect("it serves");
        within("the adapter's leave", serving).await.expect("no panic").expect("in order");
        let gone = async || [502, 503].contains(&caller.chat("parrot-1").await.status);
        until("its absence to be known", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_serves_a_model_server_the_data_plane_cannot_reach() {
    let (served, mock) = (Served::up().await, mock().await);
    let models = "  models: [ { name: far, quality: 0.7 } ]\n";
    let resources = format!("kind: Adapter\nname: gpu\nspec:\n  kind: attached\n{models}");
    served.atp.apply(&served.folder, &resources).await;
    let caller = Caller::new(served.atp.clients);
    served.until_declared("far").await;
    let mut command = atp(&served.folder);
    command.args(["adapter", "serve", "--kind", "openai", "--name", "gpu", "--via", "h2"]);
    command.args(["--join", &served.url(Via::H2), "--endpoint", &format!("{}/v1", mock.url())]);
    command
        .args(["--model", "own--tokens-6"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut serving = Serving(command.spawn().expect("the binary runs"));
    served.until_attached(1).await;
    let answer = caller.chat("far").await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], tokens(6));
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let status = std::process::Command::new("kill").args(["-TERM", &serving.0.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
    until("it to leave", async || serving.0.try_wait().expect("a child").is_some()).await;
    assert_eq!(serving.0.wait().expect("it ended").code(), Some(0));
    let gone = async || [502, 503].contains(&caller.chat("far").await.status);
    until("its absence to be known", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_are_asked_at_once_and_one_answer_comes() {
    let mock = mock().await;
    let (quick, slow) = ("m--tokens-4", "m--tokens-2000--token-rate-20");
    let served = Served::new(&adapter("a", &mock.url(), &[quick, slow])).await;
    let client = served.client(Via::Ws, Encoding::Json).await;
    let mut answer = client.dispatch(&Dispatch::new("say hi", [slow, quick])).await.expect("room");
    let mut lanes = Vec::new();
    let done = loop {
        match within("a piece", answer.next()).await.expect("a piece") {
            Some(Piece::Done(done)) => break done,
            Some(Piece::LaneEnd(end)) => lanes.push(end.persona_id),
            Some(_) => {}
            None => panic!("it ends with its final message"),
        }
    };
    assert_eq!((done.text, &done.content["winning_persona"]), (tokens(4), &json!(quick)));
    assert!(lanes.iter().any(|lane| lane == quick), "{lanes:?}");
    until("the loser to be cancelled", async || mock.model(slow).cancelled == 1).await;
}
