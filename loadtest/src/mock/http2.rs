//! HTTP/2 with prior knowledge, by hyper.
//!
//! What it is for: the same answers on multiplexed streams. Faults of the connection become faults of the
//! stream, but for a TCP reset, which takes the whole connection along. It never queues more than a few
//! chunks per stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::answer::{Asked, Ending, answer};
use super::ledger::Left;
use super::wire::{Head, Wire};
use super::{Shared, reset_on_close};

/// Serves one connection until it ends; `unread` starts with the preface.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, unread: BytesMut) {
    let broken = Arc::new(Broken { reset: AtomicBool::new(false), now: Notify::new() });
    let stream = Rewound { unread: unread.freeze(), stream, broken: Arc::clone(&broken) };
    let service = hyper::service::service_fn({
        let broken = Arc::clone(&broken);
        move |request| exchange(Arc::clone(&shared), Arc::clone(&broken), request)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How the connection ended is seen by its streams, which count it.
        _ = connection => {}
        () = broken.now.notified() => {}
    }
}

/// Set when a script resets the connection: the close that follows is then a TCP reset.
struct Broken {
    reset: AtomicBool,
    now: Notify,
}

async fn exchange(
    shared: Arc<Shared>,
    broken: Arc<Broken>,
    request: Request<Incoming>,
) -> Result<Response<Chunks>, Abandoned> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| Abandoned)?.to_bytes();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    if shared.config.record && !target.starts_with("/mock/") {
        shared.ledger.record(head_text(&parts, &target).into(), &body);
    }
    let (head_sender, head) = oneshot::channel();
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let reply = Reply { head: Some(head_sender), chunks: chunk_sender, slow: None };
    tokio::spawn(async move {
        let script = parts.headers.get("x-mock-script").and_then(|value| value.to_str().ok());
        let asked = Asked { method: parts.method.as_str(), target: &target, script, body };
        let mut wire = Wire::Http2(reply);
        let ending = answer(&shared, &asked, &mut wire).await;
        let Wire::Http2(reply) = wire else { return };
        match ending {
            Ending::Kept => {}
            // A stream that is gone already needs no reset.
            Ending::Cut => drop(reply.chunks.send(Err(Abandoned)).await),
            Ending::Reset => {
                broken.reset.store(true, Relaxed);
                broken.now.notify_one();
            }
        }
    });
    let head = head.await.map_err(|_| Abandoned)?;
    let (parts, ()) = head.into_parts();
    Ok(Response::from_parts(parts, Chunks(chunks)))
}

/// The head as text, for the record.
fn head_text(parts: &http::request::Parts, target: &str) -> String {
    let mut text = format!("{} {target} HTTP/2.0\r\n", parts.method);
    if let Some(authority) = parts.uri.authority() {
        text.push_str(&format!(":authority: {authority}\r\n"));
    }
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text
}

/// The answering half of one stream.
pub(crate) struct Reply {
    head: Option<oneshot::Sender<Response<()>>>,
    chunks: mpsc::Sender<Result<Bytes, Abandoned>>,
    slow: Option<Duration>,
}

impl Reply {
    pub(crate) fn head(&mut self, head: &Head<'_>) -> Result<(), Left> {
        let mut response = Response::builder().status(head.status).header("content-type", head.content_type);
        if let Some(bytes) = head.length {
            response = response.header("content-length", bytes);
        }
        if let Some((name, value)) = head.extra {
            response = response.header(name, value);
        }
        let response =
            response.header("server", "mock").body(()).expect("the mock's own header values are valid");
        self.send_head(response)
    }

    fn send_head(&mut self, response: Response<()>) -> Result<(), Left> {
        let sender = self.head.take().expect("an answer has one head");
        sender.send(response).map_err(|_| Left::StreamReset)
    }

    pub(crate) async fn body(&mut self, bytes: &[u8]) -> Result<(), Left> {
        let Some(each) = self.slow else { return self.send(Bytes::copy_from_slice(bytes)).await };
        for byte in bytes {
            self.send(Bytes::copy_from_slice(&[*byte])).await?;
            self.wait_until(Some(Instant::now() + each)).await?;
        }
        Ok(())
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Left> {
        self.chunks.send(Ok(bytes)).await.map_err(|_| Left::StreamReset)
    }

    pub(crate) async fn endless_head(&mut self) -> Result<Ending, Left> {
        let mut response = Response::builder().status(200);
        for line in 0..ENDLESS_LINES {
            response = response.header(format!("x-endless-{line}"), "e".repeat(64));
        }
        let response = response.body(()).expect("the mock's own header values are valid");
        self.send_head(response)?;
        Ok(Ending::Cut)
    }

    pub(crate) fn slow_down(&mut self, bytes_per_s: u32) {
        self.slow = Some(Duration::from_secs(1) / bytes_per_s.max(1));
    }

    pub(crate) fn still_there(&mut self) -> Result<(), Left> {
        if self.chunks.is_closed() { Err(Left::StreamReset) } else { Ok(()) }
    }

    pub(crate) async fn wait_until(&mut self, moment: Option<Instant>) -> Result<(), Left> {
        let timer = async {
            match moment {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        // The service future holds both receivers until it has a head, the body holds the second from then
        // on.
        tokio::select! {
            biased;
            () = timer => Ok(()),
            () = self.chunks.closed() => Err(Left::StreamReset),
        }
    }
}

/// The answer is not going to be finished: hyper resets the stream.
#[derive(Debug)]
pub(crate) struct Abandoned;

impl std::fmt::Display for Abandoned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the mock abandons this stream as its script says")
    }
}

impl std::error::Error for Abandoned {}

impl From<Infallible> for Abandoned {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A response body fed by the answer.
struct Chunks(mpsc::Receiver<Result<Bytes, Abandoned>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// A stream whose first bytes were already read.
struct Rewound {
    unread: Bytes,
    stream: TcpStream,
    broken: Arc<Broken>,
}

impl Drop for Rewound {
    fn drop(&mut self) {
        if self.broken.reset.load(Relaxed) {
            reset_on_close(&self.stream);
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let bytes = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..bytes]);
        self.unread.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// As many as nginx allows times eight: the mock is never the narrow place.
const STREAMS_MAX: u32 = 1024;
/// Chunks made before the client has room for them; two, so that the maker's pace stays the client's.
const CHUNKS_AHEAD: usize = 2;
/// Above every limit a proxy would set for a prompt.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Some 300 KiB of header block: far beyond the 16 KiB hyper and nginx accept.
const ENDLESS_LINES: u32 = 4000;
