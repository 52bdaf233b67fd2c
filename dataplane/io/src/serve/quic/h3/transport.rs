//! Quinn's connections as the HTTP/3 library wants them. Beside what it asks for: how much it holds of one
//! stream is bounded (it keeps whole what it cannot use yet), and whoever answers learns at once that the
//! client wants no more.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use crossbeam_queue::ArrayQueue;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

/// A future without a place in the library's types.
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;
type Pair = (quinn::SendStream, quinn::RecvStream);

/// A connection.
pub struct Transport {
    connection: quinn::Connection,
    /// Of the stream accepted last, until somebody takes it.
    accepted: Arc<ArrayQueue<Accepted>>,
    bidi: Option<Boxed<Result<Pair, ConnectionError>>>,
    uni: Option<Boxed<Result<quinn::RecvStream, ConnectionError>>>,
    opener: Opener,
}

/// What is to be known of a request's stream and has no place in the library.
pub struct Accepted {
    /// Until the client wants no more of the answer.
    pub stopped: Boxed<Result<Option<VarInt>, StoppedError>>,
    pub fed: Arc<Fed>,
}

impl Transport {
    /// Also where to find what is to be known of the stream accepted last.
    pub fn new(connection: quinn::Connection) -> (Transport, Arc<ArrayQueue<Accepted>>) {
        let accepted = Arc::new(ArrayQueue::new(1));
        let opener = Opener { connection: connection.clone(), uni: None };
        let beside = Arc::clone(&accepted);
        (Transport { connection, accepted, bidi: None, uni: None, opener }, beside)
    }
}

impl<B: Buf> quic::Connection<B> for Transport {
    type RecvStream = Reading;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reading, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let accepting = self.uni.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.uni = None;
        Poll::Ready(accepted.map(|stream| Reading::new(stream, Fed::control())).map_err(lost))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let accepting = self.bidi.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.bidi = None;
        Poll::Ready(accepted.map_err(lost).map(|(send, receive)| {
            let fed = Arc::new(Fed::default());
            let stopped = Box::pin(send.stopped());
            self.accepted.force_push(Accepted { stopped, fed: Arc::clone(&fed) });
            Both { writing: Writing::new(send), reading: Reading::new(receive, fed) }
        }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.connection.clone(), uni: None }
    }
}

impl<B: Buf> quic::OpenStreams<B> for Transport {
    type BidiStream = Both<B>;
    type SendStream = Writing<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Writing<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        close(&self.connection, code, reason);
    }
}

/// Opens streams.
pub struct Opener {
    connection: quinn::Connection,
    uni: Option<Boxed<Result<quinn::SendStream, ConnectionError>>>,
}

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = Both<B>;
    type SendStream = Writing<B>;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        // RFC 9114 section 6.1: a server opens none.
        let what = ConnectionErrorIncoming::InternalError("a server opens no request".into());
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: what }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Writing<B>, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.uni.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.uni = None;
        Poll::Ready(opened.map(Writing::new).map_err(stream_lost))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        close(&self.connection, code, reason);
    }
}

/// A request's stream.
pub struct Both<B: Buf> {
    writing: Writing<B>,
    reading: Reading,
}

impl<B: Buf> quic::BidiStream<B> for Both<B> {
    type SendStream = Writing<B>;
    type RecvStream = Reading;

    fn split(self) -> (Writing<B>, Reading) {
        (self.writing, self.reading)
    }
}

impl<B: Buf> quic::RecvStream for Both<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.reading.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.reading.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.reading.recv_id()
    }
}

impl<B: Buf> quic::SendStream<B> for Both<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.writing.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.writing.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.writing.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.writing.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.writing.send_id()
    }
}

/// The client's direction of a stream.
pub struct Reading {
    stream: quinn::RecvStream,
    fed: Arc<Fed>,
    /// Times in a row that the library was told to use what it has first.
    held_back: u32,
}

impl Reading {
    fn new(stream: quinn::RecvStream, fed: Arc<Fed>) -> Reading {
        Reading { stream, fed, held_back: 0 }
    }
}

impl quic::RecvStream for Reading {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let most = self.fed.room();
        if most == 0 {
            // It asks ahead of what it can use: told to wait, it hands on what it has. Where that is
            // nothing, one frame is larger than all it may hold.
            self.held_back += 1;
            if self.held_back > HELD_BACK_MAX {
                return Poll::Ready(Err(StreamErrorIncoming::Unknown("a frame is too large".into())));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.held_back = 0;
        // Dropped after the poll: it has no state but the stream's own.
        let chunk = ready!(pin!(self.stream.read_chunk(most, true)).poll(cx));
        Poll::Ready(match chunk {
            Ok(chunk) => Ok(chunk.map(|chunk| {
                self.fed.on_fed(chunk.bytes.len());
                chunk.bytes
            })),
            Err(ReadError::Reset(code)) => {
                Err(StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() })
            }
            Err(ReadError::ConnectionLost(error)) => Err(stream_lost(error)),
            Err(error) => Err(StreamErrorIncoming::Unknown(error.into())),
        })
    }

    fn stop_sending(&mut self, code: u64) {
        // Stopped already, or over: the same.
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        u64::from(self.stream.id()).try_into().expect("QUIC's ids are the library's")
    }
}

/// How much of a stream the library was fed and has not handed on.
#[derive(Debug, Default)]
pub struct Fed {
    fed: AtomicU64,
    handed_on: AtomicU64,
}

impl Fed {
    /// Of a stream that never hands anything on: all of it may be no longer than this.
    fn control() -> Arc<Fed> {
        let fed = Fed::default();
        // Order: relaxed, here and below: one task reads a stream; atomic only to be shared with its parts.
        fed.handed_on.store(CONTROL_BYTES_MAX - HELD_BYTES_MAX, Ordering::Relaxed);
        Arc::new(fed)
    }

    fn room(&self) -> usize {
        // Order: relaxed, see `control`.
        let held = self.fed.load(Ordering::Relaxed).saturating_sub(self.handed_on.load(Ordering::Relaxed));
        usize::try_from(HELD_BYTES_MAX.saturating_sub(held)).unwrap_or(0)
    }

    fn on_fed(&self, bytes: usize) {
        // Order: relaxed, see `control`.
        self.fed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A piece of a body came out.
    pub fn on_handed_on(&self, bytes: usize) {
        // Order: relaxed, see `control`.
        self.handed_on.fetch_add(bytes as u64 + FRAME_HEAD_BYTES, Ordering::Relaxed);
    }
}

/// Our direction of a stream.
pub struct Writing<B> {
    stream: quinn::SendStream,
    data: Option<WriteBuf<B>>,
}

impl<B: Buf> Writing<B> {
    fn new(stream: quinn::SendStream) -> Writing<B> {
        Writing { stream, data: None }
    }
}

impl<B: Buf> quic::SendStream<B> for Writing<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.data.as_mut().filter(|data| data.has_remaining()) {
            let written = match ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())) {
                Ok(written) => written,
                Err(WriteError::Stopped(code)) => {
                    let error_code = code.into_inner();
                    return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                }
                Err(WriteError::ConnectionLost(error)) => return Poll::Ready(Err(stream_lost(error))),
                Err(error) => return Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into()))),
            };
            data.advance(written);
        }
        self.data = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        debug_assert!(self.data.is_none(), "the library waits until the last is written");
        self.data = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // Finished or stopped already: the same.
        let _ = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        u64::from(self.stream.id()).try_into().expect("QUIC's ids are the library's")
    }
}

fn close(connection: &quinn::Connection, code: Code, reason: &[u8]) {
    connection.close(varint(code.value()), reason);
}

fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn stream_lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
}

/// Of one stream, in the library: a head of the largest size and the beginning of a body.
const HELD_BYTES_MAX: u64 = 64 * 1024;
/// Of a control stream, ever: priorities of some ten thousand requests.
const CONTROL_BYTES_MAX: u64 = 1024 * 1024;
/// More often than a library that has something to hand on asks for more.
const HELD_BACK_MAX: u32 = 16;
/// Of a frame: a type and a length, which are not handed on.
const FRAME_HEAD_BYTES: u64 = 2;
