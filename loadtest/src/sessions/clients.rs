//! Those who ask: streams over sessions, and streams over HTTP.
//!
//! What it is for: the same requests by either way, again and again, every token counted as it comes. What it
//! never does: leave out an answer that failed; the measurement ends with its reason.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memchr::memmem::{self, Finder};
use rustls::pki_types::ServerName;
use sdk_rust::{Client, Encoding, Options, Piece, Via, Window};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certs::{Certs, Whose};

/// Tokens that came, and whether it is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<(AtomicU64, AtomicBool)>);

impl Count {
    pub(crate) fn one(&self) {
        self.many(1);
    }

    pub(crate) fn many(&self, tokens: u64) {
        // Order: relaxed, a statistic.
        self.0.0.fetch_add(tokens, Ordering::Relaxed);
    }

    pub(crate) fn so_far(&self) -> u64 {
        // Order: relaxed, as above.
        self.0.0.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        // Order: relaxed, those who look at it look again.
        self.0.1.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        // Order: relaxed, as above.
        self.0.1.load(Ordering::Relaxed)
    }
}

/// Whom to ask, for what.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) address: SocketAddr,
    /// `None` is cleartext.
    pub(crate) certs: Option<Certs>,
    pub(crate) key: Option<String>,
    pub(crate) model: String,
    pub(crate) streams: usize,
    pub(crate) count: Count,
}

impl Asking {
    fn body(&self) -> Value {
        let question = "How many tokens is a long answer? ".repeat(PROMPT_REPEATS);
        json!({"model": self.model, "stream": true, "messages": [{"role": "user", "content": question}]})
    }

    /// All streams in one session.
    pub(crate) async fn session(self, via: Via, encoding: Encoding) -> Result<(), String> {
        let scheme = if self.certs.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", self.address.port());
        let window = Window { max_parallel: self.streams as u32, ..Window::WIDEST };
        let tls = self.certs.as_ref().map(|certs| certs.of_client(Whose::Tenant)).unwrap_or_default();
        // One run, so that what it is found to bear is found once.
        let session_id = Some(format!("load-{via:?}").to_lowercase());
        let options = Options {
            via,
            encoding,
            tls,
            key: self.key.clone(),
            window,
            session_id,
            resumes: false,
            ..Options::default()
        };
        let client = Client::connect(&url, options).await.map_err(|failure| failure.to_string())?;
        let body = Arc::new(self.body());
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..self.streams {
            let (client, body, count) = (client.clone(), Arc::clone(&body), self.count.clone());
            asking.spawn(async move {
                while !count.is_over() {
                    let mut answer = client.complete(&body).await?;
                    while let Some(piece) = answer.next().await? {
                        if let Piece::Chunk(chunk) = piece {
                            count.many(tokens(&chunk));
                        }
                    }
                }
                Ok::<(), sdk_rust::Failure>(())
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.map_err(|error| error.to_string())?.map_err(|failure| failure.to_string())?;
        }
        client.finish().await.map_err(|failure| failure.to_string())
    }

    /// Each stream on a HTTP/1.1 connection of its own, kept for as long as the server keeps it: one that has
    /// too much to do says `connection: close`.
    pub(crate) async fn http(self) -> Result<(), String> {
        let body = self.body().to_string();
        let authorization =
            self.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             {authorization}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let request = Arc::<str>::from(request);
        let config = self.certs.as_ref().map(|certs| certs.client(b"http/1.1")).transpose()?;
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..self.streams {
            let (request, count) = (Arc::clone(&request), self.count.clone());
            let (address, config) = (self.address, config.clone());
            asking.spawn(async move {
                let failed = |error: std::io::Error| format!("{address}: {error}");
                while !count.is_over() {
                    let stream = TcpStream::connect(address).await.map_err(failed)?;
                    stream.set_nodelay(true).map_err(failed)?;
                    let Some(config) = config.clone() else {
                        answers(stream, &request, &count).await?;
                        continue;
                    };
                    let name = ServerName::try_from("localhost").expect("a name");
                    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
                    answers(stream, &request, &count).await?;
                }
                Ok::<(), String>(())
            });
        }
        while let Some(asked) = asking.join_next().await {
            asked.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}

/// What came in a chunk: as many as the server's events that it is made of. Those without text are one.
fn tokens(chunk: &Value) -> u64 {
    let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    (text.matches(TOKEN).count() as u64).max(1)
}

/// Until it is enough, or the server wants the next request on another connection.
async fn answers(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    count: &Count,
) -> Result<(), String> {
    let event = Finder::new(EVENT);
    let mut held = Vec::with_capacity(READ_BYTES);
    while !count.is_over() {
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let (mut is_begun, mut is_last) = (false, false);
        loop {
            held.reserve(READ_BYTES);
            let read = stream.read_buf(&mut held).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("the connection ended within an answer".into());
            }
            if !is_begun {
                let Some(end) = memmem::find(&held, HEAD_END).filter(|_| held.starts_with(GOOD)) else {
                    match held.len() < GOOD.len() || held.starts_with(GOOD) && held.len() < HEAD_BYTES_MAX {
                        true => continue,
                        false => return Err(format!("refused: {}", String::from_utf8_lossy(&held))),
                    }
                };
                is_last = is_closing(&held[..end]);
                is_begun = true;
            }
            count.many(event.find_iter(&held).count() as u64);
            if held.ends_with(LAST_CHUNK) {
                held.clear();
                break;
            }
            // What may be the beginning of the next event, or of the end.
            let kept = held.len().min(EVENT.len() - 1);
            held.drain(..held.len() - kept);
        }
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a head says that no other answer follows on its connection.
fn is_closing(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().any(|line| line.strip_prefix("connection:").is_some_and(|value| value.trim() == "close"))
}

/// How each token begins that the mock says, and the adapter.
const TOKEN: &str = "tok";
/// An object of the stream begins; `[DONE]` is none.
const EVENT: &[u8] = b"data: {";
const GOOD: &[u8] = b"HTTP/1.1 200";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// More than any server says there.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Of a chunked body. As long as an event's beginning, so that what is kept is enough for both.
const LAST_CHUNK: &[u8; EVENT.len()] = b"\r\n0\r\n\r\n";
const READ_BYTES: usize = 16 * 1024;
/// A short question.
const PROMPT_REPEATS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each request on the connection it comes on, and hangs up behind the first.
    async fn server(listener: tokio::net::TcpListener, count: Count) {
        for close in ["Connection: close\r\n", ""] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            for _ in 0..if close.is_empty() { 3 } else { 1 } {
                let mut asked = Vec::new();
                while !asked.ends_with(b"}") {
                    stream.read_buf(&mut asked).await.expect("a request");
                }
                let chunk = "data: {\"choices\":[]}\n\n";
                let body = format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
                let head = format!("HTTP/1.1 200 OK\r\n{close}transfer-encoding: chunked\r\n\r\n");
                // In pieces: a head may come as it likes.
                for piece in [&head[..30], &head[30..], &body] {
                    stream.write_all(piece.as_bytes()).await.expect("it is read");
                    stream.flush().await.expect("it is read");
                    tokio::task::yield_now().await;
                }
                if count.so_far() >= 3 {
                    count.end();
                }
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_closes_behind_an_answer_is_asked_on_another_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, count) = (listener.local_addr().expect("an address"), Count::default());
        let asking =
            Asking { address, certs: None, key: None, model: "m".into(), streams: 1, count: count.clone() };
        let (_, asked) = tokio::join!(server(listener, count.clone()), asking.http());
        // Four answers, each of one event; the last may be cut, when it is enough.
        assert!(count.so_far() >= 3, "{} {asked:?}", count.so_far());
    }

    #[test]
    fn only_a_head_that_says_so_is_the_last() {
        assert!(is_closing(b"HTTP/1.1 200 OK\r\nConnection:  close\r\nx: y"));
        assert!(!is_closing(b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nx-connection: close"));
    }

    #[test]
    fn a_chunk_counts_as_the_events_it_is_made_of() {
        let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        assert_eq!(tokens(&chunk(json!({"content": "tok1"}))), 1);
        assert_eq!(tokens(&chunk(json!({"content": " tok2 tok3 tok4"}))), 3);
        assert_eq!(tokens(&chunk(json!({"role": "assistant", "content": ""}))), 1);
        assert_eq!(tokens(&json!({"choices": []})), 1);
    }
}
