//! Connections that carry sessions, from the client's side: ready for one, and nothing said of it yet.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use benches::KEY;
use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto_core::frame::Encoding;
use proto_core::session::prefixed;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub enum Carriage {
    WebSocket { stream: TcpStream, heard: BytesMut },
    Http2 { out: mpsc::Sender<Bytes>, answer: Incoming, heard: BytesMut },
    Quic { _endpoint: Endpoint, connection: Connection, streams: HashMap<String, Way> },
}

/// One stream of a connection.
pub struct Way {
    send: SendStream,
    receive: RecvStream,
    heard: BytesMut,
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

impl Carriage {
    pub async fn websocket(address: SocketAddr) -> Carriage {
        let mut stream = connect(address).await;
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             authorization: Bearer {KEY}\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: atp.bin.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut heard = BytesMut::new();
        while !heard.ends_with(b"\r\n\r\n") {
            read(&mut stream, &mut heard).await;
        }
        assert!(heard.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&heard));
        heard.clear();
        Carriage::WebSocket { stream, heard }
    }

    pub async fn http2(address: SocketAddr) -> Carriage {
        let stream = TokioIo::new(connect(address).await);
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
        // It ends with the bench.
        tokio::spawn(async move { drop(connection.await) });
        let (out, said) = mpsc::channel(4);
        let request = Request::post("http://localhost/atp/v1/session")
            .header("content-type", Encoding::Bin.content_type())
            .header("authorization", format!("Bearer {KEY}"))
            .body(Said(said))
            .expect("a request");
        let answer = within(sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        Carriage::Http2 { out, answer: answer.into_body(), heard: BytesMut::new() }
    }

    pub async fn quic(address: SocketAddr, mut tls: ClientConfig, number: u32) -> Carriage {
        tls.alpn_protocols = vec![b"atp/1".to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        // So many as are allowed to one address go from one.
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number % 200 + 1).expect("at most 200"));
        let endpoint = Endpoint::client((from, 0).into()).expect("a socket");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint.connect_with(config, address, "localhost").expect("a configuration");
        let connection = within(connecting).await.expect("a handshake");
        Carriage::Quic { _endpoint: endpoint, connection, streams: HashMap::new() }
    }

    /// `stream`: of the session, empty for the session's own.
    pub async fn say(&mut self, stream: &str, message: &Bytes) {
        match self {
            Carriage::WebSocket { stream, .. } => {
                // Masked with zeros, which leaves the bytes as they are.
                let length = u16::try_from(message.len()).expect("a short frame");
                let head = match u8::try_from(length) {
                    Ok(short @ ..126) => vec![0x82, 0x80 | short],
                    _ => [&[0x82, 0xfe], &length.to_be_bytes()[..]].concat(),
                };
                let whole = [&head, &[0; 4][..], message].concat();
                stream.write_all(&whole).await.expect("it reads");
            }
            Carriage::Http2 { out, .. } => {
                let whole = [&prefixed(message)[..], message].concat();
                out.send(whole.into()).await.expect("it reads");
            }
            Carriage::Quic { connection, streams, .. } => {
                let mut whole = Vec::new();
                if !streams.contains_key(stream) {
                    let (send, receive) = within(connection.open_bi()).await.expect("a stream");
                    let way = Way { send, receive, heard: BytesMut::new() };
                    streams.insert(stream.to_owned(), way);
                    whole.push(Encoding::Bin.byte());
                }
                whole.extend_from_slice(&prefixed(message));
                whole.extend_from_slice(message);
                let way = streams.get_mut(stream).expect("it is there now");
                way.send.write_all(&whole).await.expect("it reads");
            }
        }
    }

    /// The next message said there.
    pub async fn hear(&mut self, stream: &str) -> Bytes {
        loop {
            let whole = match self {
                Carriage::WebSocket { heard, .. } => unframed(heard),
                Carriage::Http2 { heard, .. } => unprefixed(heard),
                Carriage::Quic { streams, .. } => unprefixed(&mut way(streams, stream).heard),
            };
            if let Some(whole) = whole {
                return whole;
            }
            match self {
                Carriage::WebSocket { stream, heard } => read(stream, heard).await,
                Carriage::Http2 { answer, heard, .. } => {
                    let frame = within(answer.frame()).await.expect("it goes on").expect("it is whole");
                    heard.extend_from_slice(&frame.into_data().expect("no trailers"));
                }
                Carriage::Quic { streams, .. } => {
                    let Way { receive, heard, .. } = way(streams, stream);
                    let chunk = within(receive.read_chunk(usize::MAX, true)).await.expect("it is whole");
                    heard.extend_from_slice(&chunk.expect("it goes on").bytes);
                }
            }
        }
    }
}

fn way<'s>(streams: &'s mut HashMap<String, Way>, stream: &str) -> &'s mut Way {
    streams.get_mut(stream).expect("it was opened")
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

async fn read(stream: &mut TcpStream, heard: &mut BytesMut) {
    let read = within(stream.read_buf(heard)).await.expect("a socket");
    assert!(read > 0, "it was cut: {}", String::from_utf8_lossy(heard));
}

/// A message behind its length.
fn unprefixed(heard: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(*heard.first_chunk()?) as usize;
    taken(heard, 4, length)
}

/// A message of a server's WebSocket, which masks nothing (RFC 6455 section 5.2).
fn unframed(heard: &mut BytesMut) -> Option<Bytes> {
    let [_, short] = *heard.first_chunk()?;
    match short {
        ..126 => taken(heard, 2, usize::from(short)),
        126 => {
            let [_, _, length @ ..] = *heard.first_chunk::<4>()?;
            taken(heard, 4, usize::from(u16::from_be_bytes(length)))
        }
        _ => panic!("an answer of this bench is short"),
    }
}

fn taken(heard: &mut BytesMut, head: usize, length: usize) -> Option<Bytes> {
    if heard.len() < head + length {
        return None;
    }
    heard.advance(head);
    Some(heard.split_to(length).freeze())
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it comes in time")
}

const PATIENCE: Duration = Duration::from_secs(10);
