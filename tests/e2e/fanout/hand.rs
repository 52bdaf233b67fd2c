//! A session over HTTP/2, spoken by hand: what the library's client does not show.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::kit::within;

/// One session whose frames all have this quality of service.
pub struct Hand {
    id: String,
    qos: &'static str,
    out: mpsc::Sender<Bytes>,
    answer: Incoming,
    unread: Vec<u8>,
    connection: JoinHandle<()>,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Goes on until its sender is gone.
struct Said(mpsc::Receiver<Bytes>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|said| said.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Hand {
    /// Comes in, and is granted the session.
    pub async fn new(address: SocketAddr, id: &str, qos: &'static str) -> Hand {
        let stream = TcpStream::connect(address).await.expect("it listens");
        Hand::over(stream, id, qos, json!({})).await.expect("it is granted")
    }

    /// The same as an adapter of this name, of whoever is on this machine.
    pub async fn adapter(address: SocketAddr, adapter: &str) -> Hand {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let meta = json!({"role": "adapter", "adapter": adapter});
        Hand::over(stream, adapter, "bronze", meta).await.expect("it is granted")
    }

    /// The same as an adapter of this name, with a certificate; the error it is refused with, where it is.
    pub async fn behind_tls(
        address: SocketAddr,
        mut config: ClientConfig,
        adapter: &str,
    ) -> Result<Hand, Value> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        Hand::over(stream, adapter, "bronze", json!({"role": "adapter", "adapter": adapter})).await
    }

    async fn over<I>(stream: I, id: &str, qos: &'static str, meta: Value) -> Result<Hand, Value>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("a connection");
        let connection = tokio::spawn(async move { drop(connection.await) });
        let (out, said) = mpsc::channel(16);
        let request = Request::post("http://localhost/atp/v1/session")
            .header("content-type", "application/atp+json")
            .body(Said(said))
            .expect("a request");
        let mut opening = framed(id, qos, ("", 0), &["SYN"], "SYN", &json!({"encodings": ["json"]}));
        opening["meta"] = meta;
        out.send(prefixed(&opening)).await.expect("it is read");
        let answer = within("the head of an answer", sender.send_request(request)).await.expect("an answer");
        let answer = answer.into_body();
        let mut hand = Hand { id: id.into(), qos, out, answer, unread: Vec::new(), connection };
        let granted = hand.hear().await;
        match granted["flags"] == json!(["ACK", "SYN"]) {
            true => Ok(hand),
            false => Err(granted),
        }
    }

    /// The first message of a stream, and its last.
    pub async fn ask(&self, stream: &str, kind: &str, content: &Value) {
        self.say((stream, 1), &["FIN"], kind, content).await;
    }

    /// A message of a stream, by its number.
    pub async fn say(&self, place: (&str, u64), flags: &[&str], kind: &str, content: &Value) {
        let message = frame(&self.id, self.qos, place, flags, kind, content);
        self.out.send(message).await.expect("it is read");
    }

    /// What the next error says.
    pub async fn refused(&mut self) -> Value {
        loop {
            let frame = self.hear().await;
            if frame["payload"]["type"] == "ERROR" {
                return frame["payload"]["content"].clone();
            }
        }
    }

    /// The next message of this kind.
    pub async fn hear_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear().await;
            assert_ne!(frame["payload"]["type"], "ERROR", "{frame}");
            if frame["payload"]["type"] == kind {
                return frame;
            }
        }
    }

    /// The next frame.
    pub async fn hear(&mut self) -> Value {
        loop {
            if let Some((length, rest)) = self.unread.split_first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let frame = serde_json::from_slice(&rest[..length]).expect("JSON");
                    self.unread.drain(..4 + length);
                    return frame;
                }
            }
            let piece = within("a frame", self.answer.frame()).await.expect("it goes on").expect("whole");
            self.unread.extend_from_slice(&piece.into_data().expect("no trailers"));
        }
    }
}

fn frame(
    session: &str,
    qos: &str,
    (stream, seq): (&str, u64),
    flags: &[&str],
    kind: &str,
    content: &Value,
) -> Bytes {
    prefixed(&framed(session, qos, (stream, seq), flags, kind, content))
}

fn framed(
    session: &str,
    qos: &str,
    (stream, seq): (&str, u64),
    flags: &[&str],
    kind: &str,
    content: &Value,
) -> Value {
    json!({
        "v": 1, "session_id": session, "stream_id": stream, "msg_seq": seq, "frag_seq": 0, "flags": flags,
        "qos": qos, "ttl": 8, "window": {"max_parallel": 8, "max_tokens": 0, "max_usd_micros": 0},
        "meta": {}, "payload": {"type": kind, "content": content},
    })
}

/// Behind its length.
fn prefixed(frame: &Value) -> Bytes {
    let text = frame.to_string();
    let length = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&length, text.as_bytes()].concat().into()
}
