//! Those who ask: streams over sessions, and streams over HTTP.
//!
//! What it is for: the same requests by either way, again and again, every token counted as it comes. What it
//! never does: leave out an answer that failed; the measurement ends with its reason.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memchr::memmem::Finder;
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

    /// Each stream on a kept HTTP/1.1 connection of its own.
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
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let Some(config) = config else { return answers(stream, &request, &count).await };
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
                answers(stream, &request, &count).await
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

async fn answers(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    count: &Count,
) -> Result<(), String> {
    let event = Finder::new(EVENT);
    let mut held = Vec::with_capacity(READ_BYTES);
    while !count.is_over() {
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut is_begun = false;
        loop {
            held.reserve(READ_BYTES);
            let read = stream.read_buf(&mut held).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("the connection ended within an answer".into());
            }
            if !is_begun && held.len() >= GOOD.len() {
                if !held.starts_with(GOOD) {
                    return Err(format!("refused: {}", String::from_utf8_lossy(&held)));
                }
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
    }
    Ok(())
}

/// How each token begins that the mock says, and the adapter.
const TOKEN: &str = "tok";
/// An object of the stream begins; `[DONE]` is none.
const EVENT: &[u8] = b"data: {";
const GOOD: &[u8] = b"HTTP/1.1 200";
/// Of a chunked body. As long as an event's beginning, so that what is kept is enough for both.
const LAST_CHUNK: &[u8; EVENT.len()] = b"\r\n0\r\n\r\n";
const READ_BYTES: usize = 16 * 1024;
/// A short question.
const PROMPT_REPEATS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_counts_as_the_events_it_is_made_of() {
        let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        assert_eq!(tokens(&chunk(json!({"content": "tok1"}))), 1);
        assert_eq!(tokens(&chunk(json!({"content": " tok2 tok3 tok4"}))), 3);
        assert_eq!(tokens(&chunk(json!({"role": "assistant", "content": ""}))), 1);
        assert_eq!(tokens(&json!({"choices": []})), 1);
    }
}
