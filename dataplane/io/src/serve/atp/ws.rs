//! Sessions over WebSocket, on a connection of HTTP/1.1 (RFC 6455) or a stream of HTTP/2 (RFC 8441): each
//! message is a frame, JSON as text, the others as binary; which it is, is agreed as the subprotocol. Up to
//! 64 sessions share a WebSocket. At `/mcp` messages may also be of the older protocol of tools; what each
//! one is, it says itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::mcp::socket as mcp;
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::pipe;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, Stream, StreamExt};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use proto_core::frame::{Encoding, FRAME_BYTES_MAX, FlagSet, Frame, Text, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink as sink_of_bytes};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::compat::{self, Compat};
use super::conversation;
use super::cutter::{Begun, Rest, Uncut};
use super::gathered::Gathered;
use super::link::{Inbound, OUTBOUND_MAX, Out, Outbound, branch};
use super::opening::Caller;
use super::patient::Patient;
use crate::drain::{LAST_WORDS, Phase};
use crate::serve::answer::AnswerBody;
use crate::serve::headers::X_API_KEY;
use crate::serve::mcp::socket::{self as tools, Tools};
use crate::serve::{Peer, retired};

type Socket = WebSocketStream<Gathered<Patient<TokioIo<Upgraded>>>>;

/// Whether a request wants to become a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    headers.get(UPGRADE).is_some_and(is_websocket)
}

/// What a WebSocket was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    pub path: &'t str,
    pub query: Option<&'t str>,
}

/// Answers the handshake; the connection goes on as sessions once that is sent.
pub fn upgrade(
    peer: &Arc<Peer>,
    headers: &HeaderMap,
    target: Target<'_>,
    on_upgrade: OnUpgrade,
) -> Result<Response<AnswerBody>, Fault> {
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_CHARS);
    let Some(key) = key else {
        return Err(Fault::client(Kind::InvalidField("sec-websocket-key", "16 bytes in base64 (RFC 6455)")));
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is visible ASCII");
    let mut response = begin(peer, headers, target, on_upgrade, Patient::alone)?;
    peer.stage.on_upgrade();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The same over one stream of HTTP/2, whose other streams go on: an extended CONNECT (RFC 8441). There is no
/// key to answer: nobody can take its stream for something else.
pub fn connect(
    peer: &Arc<Peer>,
    headers: &HeaderMap,
    target: Target<'_>,
    on_upgrade: OnUpgrade,
) -> Result<Response<AnswerBody>, Fault> {
    let serving = peer.stage.on_head();
    let worker = Arc::clone(&peer.worker);
    begin(peer, headers, target, on_upgrade, move |io| Patient::shared(io, &worker, serving))
}

/// What both have in common; the answer still lacks what its protocol says.
fn begin(
    peer: &Arc<Peer>,
    headers: &HeaderMap,
    Target { path, query }: Target<'_>,
    on_upgrade: OnUpgrade,
    guard: impl FnOnce(TokioIo<Upgraded>) -> Patient<TokioIo<Upgraded>> + Send + 'static,
) -> Result<Response<AnswerBody>, Fault> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Fault::client(Kind::InvalidField("sec-websocket-version", "13")));
    }
    let (encoding, subprotocol) = chosen(headers);
    let caller = Caller { peer: Arc::clone(peer), headers: Arc::new(credentials(headers, query)) };
    // Who may not come in learns it now, as an answer every client shows.
    caller.check()?;
    let has_tools = path == "/mcp" && encoding == Encoding::Json;
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => carry(caller, guard(TokioIo::new(upgraded)), encoding, has_tools).await,
            Err(error) => tracing::debug!(%error, "a WebSocket did not come about"),
        }
    });
    let mut response = Response::new(AnswerBody::text(""));
    if let Some(subprotocol) = subprotocol {
        let named = HeaderValue::from_static(subprotocol);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, named);
    }
    Ok(response)
}

/// The first of the client's list that is known; without any, JSON and no word of it.
fn chosen(headers: &HeaderMap) -> (Encoding, Option<&'static str>) {
    let asked = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut asked =
        asked.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',').map(str::trim));
    let known = |name: &str| Encoding::ALL.into_iter().find(|encoding| encoding.subprotocol() == name);
    match asked.find_map(known) {
        Some(encoding) => (encoding, Some(encoding.subprotocol())),
        None => (Encoding::Json, None),
    }
}

/// What says who calls. Existing clients, and browsers, have no header for it but their address.
fn credentials(headers: &HeaderMap, query: Option<&str>) -> HeaderMap {
    let mut kept = super::credentials(headers);
    let key = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("api_key="));
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(key).ok())
        && !kept.contains_key(AUTHORIZATION)
        && !kept.contains_key(X_API_KEY)
    {
        kept.insert(X_API_KEY, key);
    }
    kept
}

/// One connection, until it ends.
async fn carry(caller: Caller, io: Patient<TokioIo<Upgraded>>, encoding: Encoding, has_tools: bool) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Frames are gathered below, in a buffer that is there while it is needed.
        .write_buffer_size(0)
        .max_write_buffer_size(FRAME_BYTES_MAX * 2)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let io = Gathered::new(io);
    let arriving = Begins::new(&caller.peer, io.read_bytes());
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (out, outbound) = mpsc::channel(OUTBOUND_MAX);
    let mut phases = caller.peer.worker.shared.phases();
    let verified = caller.peer.verified.clone();
    let sessions = Vec::new();
    let (compat, tools) = (None, None);
    let mut reader = Reader { caller, encoding, has_tools, stream, arriving, sessions, compat, tools, out };
    let writing = tokio::spawn(write(sink, outbound, encoding));
    // What a session still has to say while the plane closes is written: its task ends, the way out closes.
    let why = tokio::select! {
        why = reader.read() => why,
        _ = phases.wait_for(|phase| *phase >= Phase::Closing) => Why::Draining,
        // Its certificate is not trusted any more. Whoever comes back needs another.
        () = retired(verified.as_deref()) => Why::Draining,
    };
    let abort = writing.abort_handle();
    // The reader's senders go; those of the sessions do as they end or wait for another connection.
    let Reader { stream, sessions, compat, tools, out, .. } = reader;
    drop((sessions, compat, tools, out));
    match timeout(LAST_WORDS, writing).await {
        Ok(Ok(Some(sink))) => {
            // The peer may be gone, or take nothing. On the heap: every idle connection would carry its room.
            let _ = timeout(LAST_WORDS, Box::pin(close(sink, stream, why))).await;
        }
        _ => abort.abort(),
    }
}

/// Why a connection ends from this side.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// It ended, or broke, by itself.
    Over,
    /// A message is longer than any frame.
    TooLong,
    /// It breaks RFC 6455, or is no UTF-8.
    Broken(CloseCode),
    /// A kind of message the agreed encoding does not have.
    Unsupported,
    /// There is no room for the rest of a message.
    Crowded,
    Draining,
    Idle,
}

async fn close(mut sink: SplitSink<Socket, Message>, stream: SplitStream<Socket>, why: Why) {
    let (code, reason) = match why {
        Why::Over => (CloseCode::Normal, ""),
        Why::TooLong => (CloseCode::Size, "a frame has at most 1 MiB"),
        Why::Broken(code) => (code, ""),
        Why::Unsupported => (CloseCode::Unsupported, "this encoding has no such messages"),
        Why::Crowded => (CloseCode::Again, "no memory is left for the rest of a message"),
        Why::Draining => (CloseCode::Away, "draining"),
        Why::Idle => (CloseCode::Normal, "idle"),
    };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    // Fails where the peer closed first; what it is answered is written by the second in either case.
    let _ = sink.send(Message::Close(Some(frame))).await;
    let _ = sink.close().await;
    let Ok(socket) = sink.reunite(stream) else { return };
    let mut io = socket.into_inner();
    // Closed with bytes unread, a socket is reset and its peer never reads why (RFC 6455 section 7.1.1).
    if io.shutdown().await.is_ok() {
        let _ = copy(&mut io.take(LINGER_BYTES), &mut sink_of_bytes()).await;
    }
}

struct Reader {
    caller: Caller,
    encoding: Encoding,
    /// Messages may be of the older protocol of tools.
    has_tools: bool,
    stream: SplitStream<Socket>,
    arriving: Begins,
    /// By name; nearly always one, so a list, and no larger than it must be.
    sessions: Vec<(Text, pipe::Sender<Inbound>)>,
    /// For peers that never open a session.
    compat: Option<Compat>,
    /// For those that call tools.
    tools: Option<Tools>,
    out: mpsc::Sender<Outbound>,
}

impl Reader {
    async fn read(&mut self) -> Why {
        loop {
            let message =
                match timeout(IDLE_WAIT, poll_fn(|cx| self.arriving.poll_next(&mut self.stream, cx))).await {
                    // A session beats every few seconds; who has none says nothing at all.
                    Err(_) => {
                        if let Some(tools) = &self.tools {
                            tools.on_idle().await;
                        }
                        return Why::Idle;
                    }
                    Ok(Err(uncut)) => {
                        tracing::debug!(%uncut, "a WebSocket cannot be read on");
                        return Why::Crowded;
                    }
                    Ok(Ok(None)) => return Why::Over,
                    Ok(Ok(Some(Ok(message)))) => message,
                    Ok(Ok(Some(Err(Error::Capacity(_))))) => return Why::TooLong,
                    Ok(Ok(Some(Err(Error::Utf8(_))))) => return Why::Broken(CloseCode::Invalid),
                    Ok(Ok(Some(Err(Error::Protocol(_))))) => return Why::Broken(CloseCode::Protocol),
                    Ok(Ok(Some(Err(_)))) => return Why::Over,
                };
            let is_alive = match (message, self.encoding) {
                (Message::Text(text), Encoding::Json) => self.on_json(text.into()).await,
                (Message::Binary(_), Encoding::Json) => self.on_binary().await,
                (Message::Binary(bytes), _) => self.on_binary_frame(bytes).await,
                (Message::Text(_), _) => return Why::Unsupported,
                (Message::Close(_), _) => return Why::Over,
                // The library answers pings.
                (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => true,
            };
            if !is_alive {
                return Why::Over;
            }
        }
    }

    async fn on_json(&mut self, text: Bytes) -> bool {
        if self.has_tools && self.is_of_tools(&text) {
            let tools = self.tools.get_or_insert_with(|| tools::start(&self.caller, &self.out));
            return tools.on_message(text).await;
        }
        match json::decode(&text) {
            Ok(received) => {
                match self.session(&received.frame.session_id).is_some() || is_opening(&received.frame) {
                    true => self.on_frame(received.frame).await,
                    false => self.compat().on_frame(received).await,
                }
            }
            Err(malformed) => match self.sessions.len() {
                // Whose it is cannot be told where there are several.
                1 => self.on_malformed(malformed).await,
                _ => self.compat().on_malformed(&malformed).await,
            },
        }
    }

    /// What is neither a frame nor anything else is answered in the words of whoever spoke before.
    fn is_of_tools(&self, text: &[u8]) -> bool {
        match mcp::read(text) {
            Ok(said) => said.is_some(),
            Err(_) => self.sessions.is_empty() && self.compat.is_none(),
        }
    }

    async fn on_binary(&mut self) -> bool {
        self.compat().on_binary().await
    }

    async fn on_binary_frame(&mut self, bytes: Bytes) -> bool {
        match self.encoding.decode(&bytes) {
            Ok(frame) => self.on_frame(frame).await,
            Err(malformed) => self.on_malformed(malformed).await,
        }
    }

    async fn on_malformed(&mut self, malformed: proto_core::frame::Malformed) -> bool {
        let Some((_, session)) = self.sessions.first_mut() else { return false };
        // A session that is over takes no part in it.
        let _ = session.send(Inbound::Malformed(malformed)).await;
        true
    }

    async fn on_frame(&mut self, frame: Frame) -> bool {
        let frame = match self.session(&frame.session_id) {
            Some(session) => match session.send(Inbound::Frame(Box::new(frame))).await {
                Ok(()) => return true,
                Err(Inbound::Frame(frame)) => *frame,
                Err(_) => return true,
            },
            None => frame,
        };
        // Over, or never there.
        self.sessions.retain(|(_, session)| !session.is_closed());
        if self.sessions.len() >= SESSIONS_MAX {
            tracing::debug!("a connection wants more sessions than it may have");
            return self.compat().on_too_many().await;
        }
        // In memory of its own, or it would keep what the frame came in.
        let id = Text::from(frame.session_id.as_str());
        let (link, inbound) =
            branch(self.encoding, Out::Shared(self.out.clone(), Arc::clone(&self.caller.peer.worker.ledger)));
        self.sessions.reserve_exact(1);
        self.sessions.push((id, inbound));
        tokio::spawn(conversation::run(self.caller.clone(), frame, link));
        true
    }

    fn session(&mut self, id: &Text) -> Option<&mut pipe::Sender<Inbound>> {
        self.sessions.iter_mut().find(|(own, _)| own == id).map(|(_, session)| session)
    }

    fn compat(&mut self) -> &mut Compat {
        self.compat.get_or_insert_with(|| compat::start(&self.caller, &self.out))
    }
}

/// What came of a message that is not whole, in the account of its worker and of its connection.
struct Begins {
    rest: Rest,
    read: Arc<AtomicUsize>,
}

impl Begins {
    fn new(peer: &Peer, read: &Arc<AtomicUsize>) -> Begins {
        // On a stream of HTTP/2 its connection has others; else it is the connection.
        let own = Arc::default();
        let begun = Begun::of(&peer.worker, peer.stage.begun_bytes().unwrap_or(&own));
        Begins { rest: Rest::new(&begun), read: Arc::clone(read) }
    }

    fn poll_next<S: Stream<Item = Result<Message, Error>> + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<S::Item>, Uncut>> {
        let polled = stream.poll_next_unpin(cx);
        // Order: relaxed, here and below: counted and looked at by one task.
        let read = self.read.load(Ordering::Relaxed);
        let left = match &polled {
            Poll::Pending => read,
            // May stand between the parts of a message.
            Poll::Ready(Some(Ok(Message::Ping(said) | Message::Pong(said)))) => {
                read.saturating_sub(said.len() + CONTROL_BYTES)
            }
            Poll::Ready(_) => 0,
        };
        // However many empty parts a message has, the library holds no more of it than this.
        let left = left.min(FRAME_BYTES_MAX + READ_BUFFER_BYTES);
        // Order: relaxed, see above.
        self.read.store(left, Ordering::Relaxed);
        match self.rest.set(left) {
            Ok(()) => polled.map(Ok),
            Err(uncut) => Poll::Ready(Err(uncut)),
        }
    }
}

/// The first frame of a session that is negotiated.
fn is_opening(frame: &Frame) -> bool {
    frame.flags.has(FlagSet::SYN) && frame.stream_id.is_empty()
}

/// Writes what sessions say until all of them are over or elsewhere; many frames share one write.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut out: mpsc::Receiver<Outbound>,
    encoding: Encoding,
) -> Option<SplitSink<Socket, Message>> {
    let mut held = Vec::new();
    while let Some(first) = out.recv().await {
        let mut next = Some(first);
        while let Some(outbound) = next {
            // What is fed may still be in a buffer: it is held until it is flushed.
            held.extend(outbound.held);
            sink.feed(message(outbound.message, encoding)?).await.ok()?;
            next = if held.len() < OUTBOUND_MAX { out.try_recv().ok() } else { None };
        }
        sink.flush().await.ok()?;
        held = Vec::new();
    }
    Some(sink)
}

/// An empty one, which no frame is, is a ping.
fn message(bytes: Bytes, encoding: Encoding) -> Option<Message> {
    if bytes.is_empty() {
        return Some(Message::Ping(bytes));
    }
    match encoding {
        Encoding::Json => Utf8Bytes::try_from(bytes).ok().map(Message::Text),
        Encoding::Cbor | Encoding::Bin => Some(Message::Binary(bytes)),
    }
}

/// Around what a ping of a client says.
const CONTROL_BYTES: usize = 6;
/// Of 16 bytes in base64.
const KEY_CHARS: usize = 24;
/// Many connections are idle; the library's own default is 128 KiB each.
const READ_BUFFER_BYTES: usize = 4096;
/// Of one connection.
const SESSIONS_MAX: usize = 64;
/// Read and thrown away behind a close: two of the longest messages.
const LINGER_BYTES: u64 = 2 * FRAME_BYTES_MAX as u64;
/// Longer than the slowest heartbeat of existing clients.
const IDLE_WAIT: Duration = Duration::from_secs(75);
