//! Sessions over WebSocket where the proxy has to keep its own books right: what is refused, what is lost,
//! and the end. Frames by hand; what clients see of it in full is checked by programs that are not ours
//! (`tests/foreign/ws.py`, `h2_session.py`).

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{Atp, Folder, Page, adapter, chat, counted, mock, until, within};

/// One session on a connection of its own, in JSON.
pub struct Hand(BufReader<TcpStream>);

impl Hand {
    pub async fn new(atp: &Atp, opening: Value) -> Hand {
        let stream = TcpStream::connect(atp.clients).await.expect("a connection");
        let mut hand = Hand(BufReader::new(stream));
        let head = "GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        hand.0.write_all(head.as_bytes()).await.expect("it is read");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(within("the handshake", hand.0.read_u8()).await.expect("an answer"));
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        hand.say("", 0, "SYN", "SYN", opening).await;
        let granted = hand.hear().await;
        assert!(has(&granted, "SYN") && has(&granted, "ACK"), "{granted}");
        hand
    }

    async fn say(&mut self, stream: &str, seq: u64, flag: &str, kind: &str, content: Value) {
        self.say_of(json!({}), stream, seq, flag, kind, content).await;
    }

    async fn say_of(&mut self, meta: Value, stream: &str, seq: u64, flag: &str, kind: &str, content: Value) {
        let frame = json!({
            "v": 1, "session_id": "run-1", "stream_id": stream, "msg_seq": seq, "frag_seq": 0,
            "flags": [flag], "qos": "bronze", "ttl": 8,
            "window": {"max_parallel": 2, "max_tokens": 0, "max_usd_micros": 0},
            "meta": meta, "payload": {"type": kind, "content": content},
        });
        let text = frame.to_string();
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        // A mask of zeros leaves the text as it is.
        let head = [0x81, 0xfe, length[0], length[1], 0, 0, 0, 0];
        self.0.write_all(&[&head[..], text.as_bytes()].concat()).await.expect("it is read");
    }

    /// One request, and its last message.
    pub async fn ask_of(&mut self, meta: Value, body: Value) -> Value {
        self.say_of(meta, "a", 1, "FIN", "completion", body).await;
        self.last("a").await
    }

    async fn ask(&mut self, stream: &str, model: &str) {
        let body = serde_json::from_str(&chat(model, true)).expect("JSON");
        self.say(stream, 1, "FIN", "completion", body).await;
    }

    /// The next frame.
    pub async fn hear(&mut self) -> Value {
        let read = async {
            assert_eq!(self.0.read_u8().await.expect("a frame"), 0x81, "a text, whole");
            let length = match self.0.read_u8().await.expect("a length") {
                126 => usize::from(self.0.read_u16().await.expect("a length")),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            self.0.read_exact(&mut text).await.expect("a frame");
            serde_json::from_slice(&text).expect("JSON")
        };
        within("a frame", read).await
    }

    /// The last message of a stream, or its error; whatever else comes is passed over.
    async fn last(&mut self, stream: &str) -> Value {
        loop {
            let frame = self.hear().await;
            let is_end =
                ["agent.result.final", "ERROR"].iter().any(|kind| frame["payload"]["type"] == **kind);
            if frame["stream_id"] == stream && is_end {
                return frame;
            }
        }
    }
}

fn has(frame: &Value, flag: &str) -> bool {
    frame["flags"].as_array().expect("a list").iter().any(|known| known == flag)
}

async fn metric(atp: &Atp, name: &str) -> u64 {
    Page::of(atp.admin).await.value(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_window_refuses_is_on_no_book() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (slow, short) = ("m--tokens-1000--token-rate-20", "m--tokens-5");
    let atp = Atp::of_file(&folder, &adapter("a", &mock.url(), &[slow, short])).await;
    let mut hand = Hand::new(&atp, json!({})).await;
    hand.ask("1", slow).await;
    hand.ask("2", slow).await;
    for at in 0..8 {
        let stream = format!("refused-{at}");
        hand.ask(&stream, short).await;
        let told = hand.last(&stream).await;
        assert_eq!(told["payload"]["content"]["code"], "EWINDOW", "{told}");
    }
    for stream in ["1", "2"] {
        hand.say(stream, 0, "RST", "ERROR", json!({"code": "EPOLICY", "reason": "enough"})).await;
    }
    until("both to be cancelled", async || mock.model(slow).cancelled == 2).await;
    until("their room to be back", async || metric(&atp, "atp_upstream_in_flight").await == 0).await;
    hand.ask("then", short).await;
    assert!(has(&hand.last("then").await, "FIN"));
    assert_eq!(mock.model(short).requests, 1, "what was refused reached nobody");
    // In a debug build books that do not add up end their task.
    assert!(!atp.said().contains("panicked"), "{}", atp.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_behind_unread_frames_ends_its_session() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-1000--token-rate-100";
    let atp = Atp::of_file(&folder, &adapter("a", &mock.url(), &[model])).await;
    for _ in 0..10 {
        let mut hand = Hand::new(&atp, json!({})).await;
        hand.ask("1", model).await;
        while hand.hear().await["stream_id"] != "1" {}
        for _ in 0..20 {
            hand.say("", 0, "HB", "HEARTBEAT", Value::Null).await;
        }
    }
    until("all to be cancelled", async || mock.model(model).cancelled == 10).await;
    until("all to be over", async || metric(&atp, "atp_sessions_open").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_dies_in_an_answer_is_told_on_its_stream_and_others_go_on() {
    let (folder, dying, living) = (Folder::new(), mock().await, mock().await);
    let (slow, short) = ("m--tokens-1000--token-rate-20", "n--tokens-5");
    let resources = adapter("a", &dying.url(), &[slow]) + &adapter("b", &living.url(), &[short]);
    let atp = Atp::of_file(&folder, &resources).await;
    let mut hand = Hand::new(&atp, json!({})).await;
    hand.ask("1", slow).await;
    while hand.hear().await["payload"]["type"] != "agent.result.partial" {}
    drop(dying);
    let told = hand.last("1").await;
    assert!(has(&told, "RST"), "{told}");
    assert_eq!(told["payload"]["content"]["code"], "EADAPTER", "{told}");
    hand.ask("2", short).await;
    assert!(has(&hand.last("2").await, "FIN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_what_is_under_way_finish_and_then_ends_the_session() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "m--tokens-40--token-rate-40";
    let settings = "drain: { delay_ms: 0, grace_ms: 15000 }\n";
    let mut atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &[model]), settings).await;
    let mut hand = Hand::new(&atp, json!({})).await;
    hand.ask("1", model).await;
    while hand.hear().await["payload"]["type"] != "agent.result.partial" {}
    atp.signal("-TERM");
    let last = hand.last("1").await;
    assert!(has(&last, "FIN"), "{last}");
    hand.say("1", last["msg_seq"].as_u64().expect("a number"), "ACK", "ACK", Value::Null).await;
    loop {
        let frame = hand.hear().await;
        if frame["stream_id"] == "" && has(&frame, "FIN") {
            break;
        }
    }
    assert_eq!(atp.ended().await, Some(0));
    counted(&mock).await;
    assert_eq!(mock.model(model).completed, 1);
}

/// A model server that answers with `events`, all of them at once.
async fn at_once(events: &[Value]) -> String {
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let body = body + "data: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.expect("a request");
            }
            stream.write_all(answer.as_bytes()).await.expect("it is read");
            let _ = stream.read_to_end(&mut asked).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_came_together_are_one_message_and_each_is_counted() {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": "c", "choices": [choice]})
    };
    let said = |text: &str| chunk(json!({"content": text}), Value::Null);
    let tool = chunk(json!({"tool_calls": [{"index": 0, "id": "t"}]}), Value::Null);
    let end = chunk(json!({}), json!("stop"));
    let events = [said("a"), said("b"), said("c"), tool.clone(), said("d"), said("e"), end.clone()];
    let folder = Folder::new();
    let atp = Atp::of_file(&folder, &adapter("a", &at_once(&events).await, &["m"])).await;
    let mut hand = Hand::new(&atp, json!({})).await;
    hand.ask("1", "m").await;
    let mut heard = Vec::new();
    let last = loop {
        let frame = hand.hear().await;
        match frame["payload"]["type"].as_str() {
            Some("agent.result.partial") => heard.push(frame["payload"]["content"].clone()),
            Some("agent.result.final") => break frame,
            _ => {}
        }
    };
    assert_eq!(heard, [said("abc"), tool, said("de"), end]);
    assert_eq!(last["payload"]["content"]["tokens_out"], 6, "five texts and a tool call: {last}");
}
