//! Sessions over QUIC, spoken by hand: what this library's own client would hide shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use serde_json::{Value, json};

use crate::kit::{Atp, Authority, Folder, adapter, chat, mock, quic, until, within};

/// A connection that speaks for one session, in JSON.
struct Hand {
    connection: Connection,
    control: Way,
    _endpoint: Endpoint,
}

/// Both directions of a stream.
struct Way {
    send: SendStream,
    receive: RecvStream,
}

const SESSION: &str = "run-1";

fn frame(stream: &str, seq: u64, flags: &[&str], kind: &str, content: &Value) -> Value {
    json!({
        "v": 1, "session_id": SESSION, "stream_id": stream, "msg_seq": seq, "frag_seq": 0, "flags": flags,
        "qos": "bronze", "ttl": 8, "window": {"max_parallel": 8, "max_tokens": 0, "max_usd_micros": 0},
        "meta": {}, "payload": {"type": kind, "content": content},
    })
}

impl Hand {
    /// Comes in and is granted a session; `opening`: what its SYN says. Also what it was answered.
    async fn new(address: SocketAddr, authority: &Authority, opening: Value) -> (Hand, Value) {
        let connected = quic(address, authority.trusted_by(None), b"atp/1").await;
        let (endpoint, connection) = connected.expect("a connection");
        let mut control = Way::open(&connection).await;
        control.say(&frame("", 0, &["SYN"], "SYN", &opening)).await;
        let granted = control.hear().await.expect("an answer");
        (Hand { connection, control, _endpoint: endpoint }, granted)
    }

    async fn ask(&self, stream: &str, model: &str) -> Way {
        let mut way = Way::open(&self.connection).await;
        let body: Value = serde_json::from_str(&chat(model, true)).expect("JSON");
        way.say(&frame(stream, 1, &["FIN"], "completion", &body)).await;
        way
    }
}

impl Way {
    async fn open(connection: &Connection) -> Way {
        let (mut send, receive) = within("room for a stream", connection.open_bi()).await.expect("a stream");
        send.write_all(&[0]).await.expect("JSON is named");
        Way { send, receive }
    }

    async fn say(&mut self, frame: &Value) {
        let text = frame.to_string();
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        self.send.write_all(&length).await.expect("it is read");
        self.send.write_all(text.as_bytes()).await.expect("it is read");
    }

    /// The next frame that is a message or about the session; `None` at the end.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            let mut length = [0; 4];
            within("a frame", self.receive.read_exact(&mut length)).await.ok()?;
            let mut text = vec![0; u32::from_be_bytes(length) as usize];
            within("a frame", self.receive.read_exact(&mut text)).await.ok()?;
            let frame: Value = serde_json::from_slice(&text).expect("JSON");
            let flags = frame["flags"].as_array().expect("a list").clone();
            let is_own = |flag: &Value| ["ACK", "HB", "CTRL"].contains(&flag.as_str().unwrap_or_default());
            if flags.contains(&json!("SYN")) || !flags.iter().any(is_own) {
                return Some(frame);
            }
        }
    }

    /// Everything up to the final message, by number.
    async fn rest(&mut self, heard: &mut BTreeMap<u64, Value>) {
        while let Some(frame) = self.hear().await {
            let seq = frame["msg_seq"].as_u64().expect("a number");
            let is_final = frame["payload"]["type"] == "agent.result.final";
            assert!(frame["payload"]["type"] != "ERROR", "{frame}");
            assert!(heard.insert(seq, frame).is_none(), "{seq} came twice");
            if is_final {
                return;
            }
        }
        panic!("ended after {heard:?}");
    }
}

fn text(heard: &BTreeMap<u64, Value>) -> String {
    let word = |frame: &Value| {
        frame["payload"]["content"]["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    };
    heard.values().map(word).collect()
}

fn words(count: usize) -> String {
    (1..=count).map(|at| format!("tok{at}")).collect::<Vec<_>>().join(" ")
}

async fn served(folder: &Folder, authority: &Authority, url: &str, models: &[&str]) -> Atp {
    let resources = adapter("a", url, models);
    Atp::of_file_with(folder, &resources, &super::tls(folder, authority, "optional")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_granted_and_each_stream_is_answered_on_its_own() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let atp = served(&folder, &authority, &mock.url(), &["m--tokens-5"]).await;
    let (hand, granted) = Hand::new(atp.quic().await, &authority, json!({"encodings": ["json"]})).await;
    assert_eq!(granted["flags"], json!(["ACK", "SYN"]), "{granted}");
    assert_eq!(granted["payload"]["content"]["encoding"], "json");
    let (mut one, mut two) = (hand.ask("1", "m--tokens-5").await, hand.ask("2", "m--tokens-5").await);
    for (way, id) in [(&mut two, "2"), (&mut one, "1")] {
        let mut heard = BTreeMap::new();
        way.rest(&mut heard).await;
        assert!(heard.values().all(|frame| frame["stream_id"] == id));
        assert_eq!(heard.keys().copied().collect::<Vec<_>>(), (1..=heard.len() as u64).collect::<Vec<_>>());
        assert_eq!(text(&heard), words(5));
        let last = heard.values().last().expect("a final");
        assert_eq!(last["payload"]["content"]["adapter"], "a", "{last}");
        assert!(last["flags"].as_array().expect("a list").contains(&json!("FIN")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_nobody_reads_slows_no_other() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let (long, short) = ("m--tokens-50000--answer-bytes-5000000", "m--tokens-5");
    let atp = served(&folder, &authority, &mock.url(), &[long, short]).await;
    let (hand, _) = Hand::new(atp.quic().await, &authority, json!({"encodings": ["json"]})).await;
    let unread = hand.ask("unread", long).await;
    for at in 0..30 {
        let mut heard = BTreeMap::new();
        hand.ask(&format!("{at}"), short).await.rest(&mut heard).await;
        assert_eq!(text(&heard), words(5));
    }
    assert_eq!(mock.model(long).completed, 0, "what nobody takes is not read from upstream either");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_or_stopped_cancels_its_request_and_no_other() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let (slow, short) = ("m--tokens-1000--token-rate-20", "m--tokens-5");
    let atp = served(&folder, &authority, &mock.url(), &[slow, short]).await;
    let (hand, _) = Hand::new(atp.quic().await, &authority, json!({"encodings": ["json"]})).await;
    let (mut reset, mut stopped) = (hand.ask("reset", slow).await, hand.ask("stopped", slow).await);
    reset.hear().await.expect("a piece");
    stopped.hear().await.expect("a piece");
    reset.send.reset(VarInt::from_u32(0)).expect("open");
    stopped.receive.stop(VarInt::from_u32(0)).expect("open");
    until("the upstream to know of both", async || mock.model(slow).cancelled == 2).await;
    let mut heard = BTreeMap::new();
    hand.ask("other", short).await.rest(&mut heard).await;
    assert_eq!(text(&heard), words(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_an_answer_is_resumed_where_it_was() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let model = "m--tokens-60--token-rate-60";
    let atp = served(&folder, &authority, &mock.url(), &[model]).await;
    let address = atp.quic().await;
    let opening = json!({"encodings": ["json"], "resume": true});
    let (mut hand, granted) = Hand::new(address, &authority, opening).await;
    let token = granted["payload"]["content"]["resume_token"].as_str().expect("a token").to_owned();
    hand.control.say(&frame("", 0, &["ACK"], "ACK", &Value::Null)).await;
    let mut way = hand.ask("1", model).await;
    let mut heard = BTreeMap::new();
    for _ in 0..10 {
        let frame = way.hear().await.expect("a piece");
        heard.insert(frame["msg_seq"].as_u64().expect("a number"), frame);
    }
    let received = *heard.keys().last().expect("some");
    way.say(&frame("1", received, &["ACK"], "ACK", &Value::Null)).await;
    hand.connection.close(VarInt::from_u32(99), b"gone");
    let opening = json!({
        "encodings": ["json"], "resume": true, "resume_token": token, "received": [["1", received]],
    });
    let (again, granted) = Hand::new(address, &authority, opening).await;
    assert_eq!(granted["payload"]["content"]["resumed"], true, "{granted}");
    let (send, mut receive) = within("a stream", again.connection.accept_bi()).await.expect("a stream");
    let mut encoding = [9];
    receive.read_exact(&mut encoding).await.expect("a byte");
    assert_eq!(encoding, [0]);
    Way { send, receive }.rest(&mut heard).await;
    assert_eq!(heard.keys().copied().collect::<Vec<_>>(), (1..=heard.len() as u64).collect::<Vec<_>>());
    assert_eq!(text(&heard), words(60));
    // It counts an answer as completed behind its last byte.
    until("the mock to know that it is done", async || mock.model(model).completed == 1).await;
    assert_eq!(mock.model(model).requests, 1, "asked for once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_begins_with_no_session_is_closed() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let atp = served(&folder, &authority, &mock.url(), &["m"]).await;
    for first in [&[7u8][..], &[0, 0, 0, 0, 2, b'{', b'}'], &[2, 0xff, 0xff, 0xff, 0xff]] {
        let connected = quic(atp.quic().await, authority.trusted_by(None), b"atp/1").await;
        let (_endpoint, connection) = connected.expect("a connection");
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        send.write_all(first).await.expect("it is read");
        within("the end", connection.closed()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unsaid_on_a_stream_whose_place_another_takes_is_said_there_and_once() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let model = "m--tokens-500--token-rate-1000";
    let atp = served(&folder, &authority, &mock.url(), &[model]).await;
    let (hand, _) = Hand::new(atp.quic().await, &authority, json!({"encodings": ["json"]})).await;
    // Nobody reads it: it takes 64 KiB, and the rest of some 150 waits behind.
    let mut first = hand.ask("1", model).await;
    until("all to be said", async || mock.model(model).completed == 1).await;
    let mut second = Way::open(&hand.connection).await;
    second.say(&frame("1", 1, &["ACK"], "ACK", &Value::Null)).await;
    let rest = async {
        let mut heard = BTreeMap::new();
        second.rest(&mut heard).await;
        heard
    };
    let begun = async {
        let mut heard = BTreeMap::new();
        while let Some(frame) = first.hear().await {
            let seq = frame["msg_seq"].as_u64().expect("a number");
            assert!(heard.insert(seq, frame).is_none(), "{seq} came twice");
        }
        heard
    };
    let (mut heard, rest) = tokio::join!(begun, rest);
    assert!(heard.len() > 1 && rest.len() > 1, "{} and {}: both have their part", heard.len(), rest.len());
    let both = heard.len() + rest.len();
    heard.extend(rest);
    assert_eq!(heard.len(), both, "nothing is said on both");
    assert_eq!(heard.keys().copied().collect::<Vec<_>>(), (1..=both as u64).collect::<Vec<_>>());
    assert_eq!(text(&heard), words(500));
    assert_eq!(mock.model(model).requests, 1, "asked for once");
}
