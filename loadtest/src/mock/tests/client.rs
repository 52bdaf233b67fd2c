//! A client that shows every byte and every way a connection can end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::{Mock, MockConfig, Script, serve_here};

/// All bytes up to the end, and how it came.
pub(super) struct Read {
    pub(super) text: String,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
    /// Nothing comes any more, though the connection stands.
    Silent,
}

impl Read {
    pub(super) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.body()).unwrap_or_else(|e| panic!("{e} in {}", self.text))
    }

    /// `data:` values of a stream, its chunk framing skipped.
    pub(super) fn events(&self) -> Vec<&str> {
        self.body().lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }

    pub(super) fn parsed_events(&self) -> Vec<serde_json::Value> {
        self.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect()
    }

    pub(super) fn ends_like_a_whole_stream(&self) -> bool {
        self.text.ends_with("0\r\n\r\n")
    }
}

pub(super) async fn mock() -> Mock {
    serve_here(MockConfig::default()).await.unwrap()
}

pub(super) async fn mock_with(words: &str) -> Mock {
    let mut script = Script::default();
    script.apply(words).unwrap();
    serve_here(MockConfig { script, ..MockConfig::default() }).await.unwrap()
}

pub(super) async fn connect(mock: &Mock) -> TcpStream {
    TcpStream::connect(mock.address()).await.unwrap()
}

/// A POST that asks the mock to close behind its answer.
pub(super) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(super) async fn exchange(mock: &Mock, request: &str) -> Read {
    let mut stream = connect(mock).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

/// One chat request for `model`, streamed or not.
pub(super) async fn chat(mock: &Mock, model: &str, streamed: bool) -> Read {
    let body =
        format!(r#"{{"model":"{model}","stream":{streamed},"messages":[{{"role":"user","content":"hi"}}]}}"#);
    exchange(mock, &post("/v1/chat/completions", &body)).await
}

pub(super) async fn read_to_end(stream: &mut TcpStream) -> Read {
    let read = read_for(stream, DEADLINE).await;
    assert_ne!(read.end, End::Silent, "the mock went silent behind {}", read.text);
    read
}

/// A chat that hangs once `part` has come.
pub(super) async fn chat_until_silent(mock: &Mock, model: &str, streamed: bool, part: &str) -> Read {
    let mut stream = connect(mock).await;
    let body = format!(r#"{{"model":"{model}","stream":{streamed},"messages":[]}}"#);
    stream.write_all(post("/v1/chat/completions", &body).as_bytes()).await.unwrap();
    until("the request", || mock.model(model).requests == 1).await;
    let before = read_until(&mut stream, part).await;
    let rest = read_for(&mut stream, SILENCE).await;
    Read { text: before + &rest.text, end: rest.end }
}

async fn read_for(stream: &mut TcpStream, patience: Duration) -> Read {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let end = loop {
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Err(_) => break End::Silent,
            Ok(Ok(0)) => break End::Closed,
            Ok(Ok(read)) => bytes.extend_from_slice(&buffer[..read]),
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionReset => break End::Reset,
            Ok(Err(e)) => panic!("a read ended with {e}"),
        }
    };
    Read { text: String::from_utf8_lossy(&bytes).into_owned(), end }
}

/// Reads until `part` has come; panics when the stream ends before.
pub(super) async fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(part) {
        let read = tokio::time::timeout(DEADLINE, stream.read_buf(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "the stream ended before {part}: {}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Yields until the condition holds; panics at the deadline.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waited).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// How long a hang is watched: a machine that stalls can only hide a wrong answer, never fail a right one.
const SILENCE: Duration = Duration::from_millis(100);
/// Only a broken test ever waits for it.
const DEADLINE: Duration = Duration::from_secs(20);
