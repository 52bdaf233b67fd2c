//! A client of HTTP/3, of another transport than the one under test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Request};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportConfig, VarInt};
use tokio::task::JoinHandle;

use super::client::{Answer, CHAT, chat};
use super::within;

/// One QUIC connection with HTTP/3 on it, for many requests.
pub struct Third {
    sender: SendRequest<OpenStreams, Bytes>,
    driver: JoinHandle<()>,
    _endpoint: Endpoint,
}

/// An answer under way. Dropping it tells the server that no more of it is wanted.
pub struct ThirdFlow {
    pub status: u16,
    pub headers: HeaderMap,
    stream: RequestStream<BidiStream<Bytes>, Bytes>,
}

impl Drop for Third {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A QUIC connection that speaks `protocol`.
pub async fn quic(
    address: SocketAddr,
    mut tls: rustls::ClientConfig,
    protocol: &[u8],
) -> Result<(Endpoint, Connection), ConnectionError> {
    tls.alpn_protocols = vec![protocol.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    // Small, so that a stream nobody reads shows soon.
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let connecting = endpoint.connect_with(config, address, "localhost").expect("a configuration");
    let connection = within("a QUIC handshake", connecting).await?;
    Ok((endpoint, connection))
}

/// Speaks HTTP/3.
pub async fn h3(address: SocketAddr, tls: rustls::ClientConfig) -> Result<Third, ConnectionError> {
    let (endpoint, connection) = quic(address, tls, b"h3").await?;
    let transport = h3_quinn::Connection::new(connection);
    let (mut driver, sender) = h3::client::new(transport).await.expect("HTTP/3");
    let driver = tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    Ok(Third { sender, driver, _endpoint: endpoint })
}

impl Third {
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(format!("https://localhost{path}")).body(()).expect("a request");
        self.send(request, None).await.whole().await
    }

    /// A chat; the head of its answer has come.
    pub async fn chat(&mut self, model: &str, streamed: bool) -> ThirdFlow {
        let request = Request::post(format!("https://localhost{CHAT}")).body(()).expect("a request");
        self.send(request, Some(chat(model, streamed).into())).await
    }

    pub async fn send(&mut self, request: Request<()>, body: Option<Bytes>) -> ThirdFlow {
        let mut stream = within("room for a request", self.sender.send_request(request)).await.expect("room");
        if let Some(body) = body {
            stream.send_data(body).await.expect("a body");
        }
        // Fails where the answer was there first and nothing more of the request is wanted (RFC 9114 section
        // 4.1): what it is shows in the answer.
        let _ = stream.finish().await;
        let head = within("the head of an answer", stream.recv_response()).await.expect("an answer");
        ThirdFlow { status: head.status().as_u16(), headers: head.headers().clone(), stream }
    }
}

impl ThirdFlow {
    /// The next piece; `None` at the end, an error where the answer was cut.
    pub async fn piece(&mut self) -> Option<Result<Bytes, h3::error::StreamError>> {
        let piece = within("a piece of an answer", self.stream.recv_data()).await;
        piece.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))).transpose()
    }

    /// Reads until `text` has come.
    pub async fn read_to(&mut self, text: &str) {
        let mut read = String::new();
        while !read.contains(text) {
            match self.piece().await {
                Some(Ok(piece)) => read.push_str(&String::from_utf8_lossy(&piece)),
                other => panic!("no `{text}` but {other:?} after {read}"),
            }
        }
    }

    /// All of it.
    pub async fn whole(mut self) -> Answer {
        let (mut text, mut is_cut) = (Vec::new(), false);
        while let Some(piece) = self.piece().await {
            match piece {
                Ok(piece) => text.extend_from_slice(&piece),
                Err(_) => {
                    is_cut = true;
                    break;
                }
            }
        }
        let ThirdFlow { status, headers, .. } = self;
        Answer { status, headers, text: String::from_utf8_lossy(&text).into_owned(), is_cut }
    }
}

const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
