//! What is shed, and in which order, when a data plane holds as much as it may.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{Atp, Caller, Folder, Page, adapter, key_hash, mock, until, within};

const HANGS: &str = "m--hang";
const SLOW: &str = "m--first-token-ms-20000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worse_is_shed_before_better_before_a_body_is_read_and_all_is_well_again_afterwards() {
    let (folder, mock) = (Folder::new(), mock().await);
    let tenants = ["gold", "silver", "bronze"].map(|qos| {
        let hash = key_hash(qos);
        format!(
            "---\nkind: Tenant\nname: {qos}\nspec: {{ qos: {qos}, keys: [ {{ sha256: \"{hash}\" }} ] }}\n"
        )
    });
    let resources = [adapter("a", &mock.url(), &["m", HANGS, SLOW]), tenants.concat()].concat();
    let settings = "workers: 1\nlimits: { body_bytes: 1048576, memory_bytes: 16777216 }\n";
    let data = Atp::of_file_with(&folder, &resources, settings).await;
    let caller = Caller::new(data.clients);
    let statuses = async || {
        let mut statuses = Vec::new();
        for qos in ["bronze", "gold", "silver"] {
            statuses.push(caller.with_key(qos).chat("m").await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    let mut held = Vec::new();
    for (bodies, level) in [(11, 1), (5, 2)] {
        for _ in 0..bodies {
            let caller = caller.with_key("gold");
            held.push(tokio::spawn(async move { caller.post(CHAT, large()).await.status }));
            // One by one: once they make red together, no further connection is taken.
            until("the body to be held", async || mock.model(HANGS).requests == held.len() as u64).await;
        }
        assert_eq!(Page::of(data.admin).await.value("atp_pressure"), level);
        if level == 1 {
            assert_eq!(statuses().await, [503, 200, 200]);
            let refused = caller.with_key("bronze").chat("m").await;
            assert_eq!(refused.code(), "overloaded", "{}", refused.text);
            assert!(!refused.header("retry-after").is_empty());
            assert_eq!(refused.header("connection"), "close");
            let quiet = caller.with_key("silver");
            let beside = tokio::spawn(async move { quiet.chat(SLOW).await.status });
            until("silver to have something under way", async || mock.model(SLOW).requests == 1).await;
            let gold = async || caller.with_key("gold").chat("m").await.status;
            until("gold to have more than its share", async || gold().await == 503).await;
            beside.abort();
            until("gold to be alone, with nobody to make room for", async || gold().await == 200).await;
        }
    }
    let mut refused = TcpStream::connect(data.clients).await.expect("the kernel accepts");
    let read = within("the end of a connection", refused.read(&mut [0; 16])).await;
    assert_eq!(read.ok().unwrap_or_default(), 0, "red takes no new connection");
    assert_eq!(Page::of(data.admin).await.value("atp_ready"), 1, "the admin port answers under any pressure");
    held.into_iter().for_each(|task| task.abort());
    until("what was held to be free", async || {
        Page::of(data.admin).await.value("atp_buffered_bytes") < 65_536
    })
    .await;
    assert_eq!(statuses().await, [200, 200, 200]);
}

/// A WebSocket's connection, behind its handshake.
async fn websocket(data: &Atp, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(data.clients).await.expect("a connection");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it is read");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within("the handshake", stream.read_u8()).await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

async fn buffered(data: &Atp) -> u64 {
    Page::of(data.admin).await.value("atp_buffered_bytes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tools_have_to_say_to_a_peer_that_does_not_read_is_accounted_for_and_bounded() {
    let (folder, mock) = (Folder::new(), mock().await);
    let models: Vec<String> = (0..64).map(|at| format!("model-{at}")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let resources: String = (0..16).map(|at| adapter(&format!("a{at}"), &mock.url(), &models)).collect();
    let data = Atp::of_file_with(&folder, &resources, "workers: 1\n").await;
    let mut deaf = websocket(&data, "/mcp").await;
    let message = br#"{"type":"listTools"}"#;
    // A mask of zeros leaves the text as it is.
    let frame = [&[0x81, 0x80 | message.len() as u8, 0, 0, 0, 0][..], message].concat();
    let asking = tokio::spawn(async move { while deaf.write_all(&frame).await.is_ok() {} });
    until("answers to wait", async || buffered(&data).await > MIB / 2).await;
    for _ in 0..20 {
        assert!(buffered(&data).await <= 2 * MIB, "no more than a connection may have");
        assert_eq!(Caller::new(data.clients).chat("model-0").await.status, 200, "others are served");
    }
    asking.abort();
    until("what waited to be free", async || buffered(&data).await < 65_536).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_websockets_message_is_accounted_for_and_turned_away_where_there_is_no_room() {
    let (folder, mock) = (Folder::new(), mock().await);
    let settings = "workers: 1\nlimits: { body_bytes: 1048576, memory_bytes: 16777216 }\n";
    let data = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), settings).await;
    // Of a megabyte, all but its last byte.
    let mut begun = vec![0x81, 0xff];
    begun.extend_from_slice(&MIB.to_be_bytes());
    begun.extend_from_slice(&[0; 4]);
    begun.resize(begun.len() + MIB as usize - 1, b' ');
    let mut first = websocket(&data, "/ws").await;
    first.write_all(&begun).await.expect("it is read");
    until("the message to be accounted for", async || buffered(&data).await >= MIB - 4096).await;
    first.write_all(b" ").await.expect("it is read");
    until("a message that is whole to be nobody's", async || buffered(&data).await < 65_536).await;
    // As many as are let in: red takes no new connection.
    let mut more = Vec::new();
    for _ in 0..12 {
        more.push(websocket(&data, "/ws").await);
    }
    for stream in &mut more {
        stream.write_all(&begun).await.expect("it is read");
    }
    until("them to be accounted for", async || buffered(&data).await >= 11 * MIB).await;
    drop((first, more));
    until("what was begun to be free", async || buffered(&data).await < 65_536).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_told_in_other_words_has_room_for_all_its_copies_or_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (folder, settings) =
        (Folder::new(), "workers: 1\nlimits: { body_bytes: 1048576, memory_bytes: 16777216 }\n");
    let server = tokio::spawn(async move {
        // The second is a byte longer than a third of what may be held.
        for bytes in [2 * MIB, 16 * MIB / 3 + 1] {
            let mut stream = listener.accept().await.expect("a connection").0;
            let mut head = Vec::new();
            while !head.ends_with(b"}") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let body = json!({
                "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "x".repeat(bytes as usize)}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            });
            let body = body.to_string();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            // With bytes unread it would be reset.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let data = Atp::of_file_with(&folder, &adapter("a", &url, &["m"]), settings).await;
    let caller = Caller::new(data.clients);
    let asked = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let answer = caller.post("/v1/messages", asked.to_string()).await;
    assert_eq!((answer.status, answer.text.len() as u64 > 2 * MIB), (200, true), "{:.300}", answer.text);
    let answer = caller.post("/v1/messages", asked.to_string()).await;
    assert_eq!(answer.status, 529, "{:.300}", answer.text);
    assert_eq!(answer.json()["error"]["type"], "overloaded_error", "{}", answer.text);
    until("nothing to be held", async || buffered(&data).await < 65_536).await;
    server.abort();
}

const MIB: u64 = 1024 * 1024;
const CHAT: &str = "/v1/chat/completions";

/// Nine hundred kilobytes that nobody answers.
fn large() -> String {
    let text = "x".repeat(900 * 1024);
    format!(r#"{{"model":"{HANGS}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}
