//! A client's connection with deadlines on every wait: for a request's head, for its body, for the next
//! request, for a client that does not read. One timer each way, looked at when it fires: while data flows
//! nothing is re-armed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::flood::Flood;
use super::unsent::{Look, Unsent, Watch};
use crate::clock;
use crate::worker::Worker;

/// Where a connection stands between requests, shared by the connection and the service on it: the stage in
/// the low two bits, above them how often it changed.
#[derive(Debug, Default)]
pub struct Stage {
    now: AtomicU32,
    /// Requests not answered to their end, and requests ever.
    under_way: AtomicU32,
    begun: AtomicU32,
    /// Over HTTP/2: what waits for the client's window.
    unsent: Option<Arc<Unsent>>,
    /// Over HTTP/2: what has come of frames of sessions that are not whole.
    begun_bytes: Option<Arc<AtomicUsize>>,
    /// Nothing was asked for long: the client is told to go.
    is_idle: AtomicBool,
    /// It speaks no HTTP any more: what is spoken now has deadlines of its own.
    is_upgraded: AtomicBool,
}

/// A request from its head to the end of its answer.
#[derive(Debug)]
pub struct Serving(Arc<Stage>);

impl Drop for Serving {
    fn drop(&mut self) {
        // Order: relaxed, see `set`.
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.0.unsent.is_none() {
            self.0.set(IDLE);
        }
    }
}

const IDLE: u32 = 0;
const HEAD: u32 = 1;
const BODY: u32 = 2;
const ANSWER: u32 = 3;

impl Stage {
    pub fn new(is_h2: bool) -> Stage {
        Stage { unsent: is_h2.then(Arc::default), begun_bytes: is_h2.then(Arc::default), ..Stage::default() }
    }

    /// A request's head is whole; its body follows. Over HTTP/2 requests overlap and each has its own
    /// deadlines; the connection's stage stays.
    pub fn on_head(self: &Arc<Stage>) -> Serving {
        // Order: relaxed, see `set`.
        self.under_way.fetch_add(1, Ordering::Relaxed);
        // Order: relaxed, see `set`.
        self.begun.fetch_add(1, Ordering::Relaxed);
        if self.unsent.is_none() {
            self.set(BODY);
        }
        Serving(Arc::clone(self))
    }

    /// The request is whole; the client waits for us.
    pub fn on_body(&self) {
        if self.unsent.is_none() {
            self.set(ANSWER);
        }
    }

    /// The connection goes on as a WebSocket.
    pub fn on_upgrade(&self) {
        self.set(ANSWER);
        // Order: relaxed, see `set`.
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    /// Where answers over HTTP/2 are accounted for.
    pub fn unsent(&self) -> Option<&Arc<Unsent>> {
        self.unsent.as_ref()
    }

    /// What has come of frames of sessions that are not whole; `None` over HTTP/1.1.
    pub fn begun_bytes(&self) -> Option<&Arc<AtomicUsize>> {
        self.begun_bytes.as_ref()
    }

    /// Nothing was asked for long.
    pub fn is_idle(&self) -> bool {
        // Order: relaxed, see `set`.
        self.is_idle.load(Ordering::Relaxed)
    }

    fn set(&self, stage: u32) {
        // Order: relaxed, see below.
        if self.is_upgraded.load(Ordering::Relaxed) {
            return;
        }
        let count = (self.now() & !3).wrapping_add(4);
        // Order: relaxed. Both ends live in one task; the atomic only makes sharing legal.
        self.now.store(count | stage, Ordering::Relaxed);
    }

    fn now(&self) -> u32 {
        // Order: relaxed, see `set`.
        self.now.load(Ordering::Relaxed)
    }
}

/// The connection.
pub struct Guarded<I> {
    io: I,
    /// Bytes read to tell the protocol, given out first.
    prefix: [u8; PREFIX_BYTES],
    prefix_from: u8,
    prefix_to: u8,
    stage: Arc<Stage>,
    worker: Arc<Worker>,
    flood: Option<Flood>,
    /// Bytes of HTTP/2's preface still to come: until then it has no pings.
    preface_bytes: usize,
    read_timer: Option<Pin<Box<Sleep>>>,
    /// The stage that `read_due` belongs to, and bytes read in it.
    armed: u32,
    read_due: Instant,
    read_bytes: u64,
    write_timer: Option<Pin<Box<Sleep>>>,
    is_write_waiting: bool,
    /// The read timer is one of looks now.
    is_looking: bool,
    watch: Watch,
}

/// Enough to tell HTTP/2's preface from a request line.
pub const PREFIX_BYTES: usize = 4;
/// Of HTTP/2's (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

impl<I> Guarded<I> {
    pub fn new(io: I, prefix: &[u8], stage: Arc<Stage>, worker: Arc<Worker>) -> Guarded<I> {
        let is_h2 = stage.unsent.is_some();
        let mut held = [0; PREFIX_BYTES];
        held[..prefix.len()].copy_from_slice(prefix);
        let mut flood = is_h2.then(Flood::new);
        if let Some(flood) = &mut flood {
            flood.on_bytes(prefix, clock::now()).expect("four bytes are no flood");
        }
        stage.set(HEAD);
        Guarded {
            io,
            prefix: held,
            prefix_from: 0,
            prefix_to: u8::try_from(prefix.len()).expect("a prefix is four bytes"),
            stage,
            worker,
            flood,
            preface_bytes: if is_h2 { PREFACE_BYTES - PREFIX_BYTES } else { 0 },
            read_timer: None,
            armed: ANSWER,
            read_due: Instant::now(),
            read_bytes: 0,
            write_timer: None,
            is_write_waiting: false,
            is_looking: false,
            watch: Watch::default(),
        }
    }

    fn on_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.read_bytes += bytes.len() as u64;
        if self.stage.now() & 3 == IDLE {
            self.stage.set(HEAD);
        }
        if self.preface_bytes > 0 {
            self.preface_bytes = self.preface_bytes.saturating_sub(bytes.len());
            if self.preface_bytes == 0 {
                // From here HTTP/2 has pings, a deadline for each body that arrives, and a look now and then.
                self.stage.set(ANSWER);
            }
        }
        match &mut self.flood {
            Some(flood) => flood.on_bytes(bytes, clock::now()).map_err(|too_many| {
                self.worker.tally.connections_cut_flood.one();
                io::Error::new(io::ErrorKind::InvalidData, format!("too many {} frames a second", too_many.0))
            }),
            None => Ok(()),
        }
    }

    /// Nothing to read. Too long?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let stage = self.stage.now();
        if stage & 3 == ANSWER {
            return match &self.stage.unsent {
                Some(_) => self.poll_look(cx),
                None => Poll::Pending,
            };
        }
        if self.armed != stage {
            self.armed = stage;
            self.read_due = Instant::now() + wait(stage & 3);
            self.read_bytes = 0;
        }
        let due = self.read_due;
        let timer = self.read_timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // A timer that fires too early is looked at again; only one that would fire too late is moved. So a
        // busy connection, whose stages never last, moves it about once a minute.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.read_due {
                // A body that moves may go on; a head may not, or one byte a second would hold it for ever.
                if stage & 3 != BODY || self.read_bytes < BODY_BYTES_MIN {
                    self.worker.tally.connections_cut_slow.one();
                    let what = "the client sent nothing in time";
                    return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                self.read_bytes = 0;
                self.read_due = now + BODY_WAIT;
            }
            timer.as_mut().reset(self.read_due);
        }
    }

    /// Over HTTP/2: does the client take what it asked for, and does it ask for anything?
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timer = self.read_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LOOK_EVERY)));
        if !self.is_looking {
            self.is_looking = true;
            timer.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(Instant::now() + LOOK_EVERY);
            let unsent = self.stage.unsent.as_ref().expect("looked at over HTTP/2 only");
            // Order: relaxed, see `Stage::set`.
            let under_way = self.stage.under_way.load(Ordering::Relaxed);
            // Order: relaxed, see `Stage::set`.
            let begun = self.stage.begun.load(Ordering::Relaxed);
            let patience = self.worker.ledger.level().patience(TAKES_WAIT);
            let ticks = u32::try_from(patience.as_secs() / LOOK_EVERY.as_secs()).unwrap_or(1);
            match self.watch.on_tick(ticks, unsent, under_way, begun) {
                Look::Well => {}
                // Order: relaxed, see `Stage::set`. Read when this very poll returns.
                Look::Idle => self.stage.is_idle.store(true, Ordering::Relaxed),
                Look::Stalled => {
                    self.worker.tally.connections_cut_slow.one();
                    let what = "the client does not take its answers";
                    return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what));
                }
            }
        }
    }

    fn poll_write_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timer =
            self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_STALL)));
        if !self.is_write_waiting {
            self.is_write_waiting = true;
            timer.as_mut().reset(Instant::now() + WRITE_STALL);
        }
        ready!(timer.as_mut().poll(cx));
        self.worker.tally.connections_cut_slow.one();
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix_from < this.prefix_to {
            let held = &this.prefix[usize::from(this.prefix_from)..usize::from(this.prefix_to)];
            let take = held.len().min(buf.remaining());
            buf.put_slice(&held[..take]);
            this.prefix_from += u8::try_from(take).expect("a prefix is four bytes");
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.on_read(&buf.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_read_deadline(cx).map(Err),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Pending => this.poll_write_deadline(cx).map(Err),
            done => {
                this.is_write_waiting = false;
                done
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write_vectored(cx, slices) {
            Poll::Pending => this.poll_write_deadline(cx).map(Err),
            done => {
                this.is_write_waiting = false;
                done
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

fn wait(stage: u32) -> Duration {
    match stage {
        IDLE => IDLE_WAIT,
        HEAD => HEAD_WAIT,
        _ => BODY_WAIT,
    }
}

/// Between requests. Longer than the keep-alive of common clients, so that it is they who close and no
/// request races with a close.
const IDLE_WAIT: Duration = Duration::from_secs(75);
/// From a head's first byte to its last.
pub const HEAD_WAIT: Duration = Duration::from_secs(10);
/// In which a body moves by [`BODY_BYTES_MIN`].
const BODY_WAIT: Duration = Duration::from_secs(10);
/// 50 bytes a second: slower than any link, faster than an attack that wants to last.
const BODY_BYTES_MIN: u64 = 512;
/// An HTTP/2 connection that takes nothing is cut after one to two of these; a fifth of it in red.
const TAKES_WAIT: Duration = Duration::from_secs(30);
/// Between looks: the least that [`TAKES_WAIT`] comes to.
const LOOK_EVERY: Duration = Duration::from_secs(6);
/// Without a byte taken by the client.
const WRITE_STALL: Duration = Duration::from_secs(30);
