//! Adapters that dialled in: they are sent work over the connection they opened, so they may stand behind a
//! NAT. A line is one such connection; a call goes to the line with the least under way that takes more.
//!
//! Whoever carries the line ([`crate::serve`]) puts it in and takes the work out; here nobody knows of
//! frames.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use dataplane_core::fault::{Fault, Kind, Retry, Side};
use dataplane_state::ledger::Ledger;
use proto_core::model::Name;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::{Answer, Call, UpstreamBody, chat_only, retold};

/// All lines of a data plane, by the adapter they are of. The map has locks (one a shard): asked once a call,
/// changed when a line comes or goes.
#[derive(Debug, Default)]
pub struct Lines(DashMap<Name, Vec<Arc<Line>>>);

/// One connection of an adapter.
#[derive(Debug)]
pub struct Line {
    to: mpsc::Sender<Work>,
    back: mpsc::UnboundedSender<Back>,
    next: AtomicU64,
    under_way: AtomicU32,
    /// Calls it takes at once, now.
    most: AtomicU32,
}

/// A call on its way to an adapter.
#[derive(Debug)]
pub struct Work {
    pub id: u64,
    /// A chat request in OpenAI's words.
    pub body: Bytes,
    pub to: mpsc::UnboundedSender<Piece>,
}

/// What came of it. The end of the channel without a `Last` is a connection that was lost.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of a stream of events, and what to name when they were taken.
    Data(Bytes, u64),
    /// The answer is complete.
    Last,
    Failed(Fault),
}

/// What the caller's side says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// Everything up to this piece was taken: there is room for more.
    Taken { id: u64, mark: u64 },
    /// Nobody wants the rest.
    Gone { id: u64 },
}

/// A line's other end: where work arrives.
#[derive(Debug)]
pub struct Desk {
    pub line: Arc<Line>,
    pub work: mpsc::Receiver<Work>,
    pub back: mpsc::UnboundedReceiver<Back>,
}

impl Lines {
    /// A connection of `adapter` that takes `most` calls at once.
    pub fn join(&self, adapter: &Name, most: u32) -> Desk {
        let (to, work) = mpsc::channel(WORK_MAX);
        #[expect(clippy::disallowed_methods, reason = "one for each message its peer has credit for")]
        let (back, returned) = mpsc::unbounded_channel();
        let line = Line {
            to,
            back,
            next: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            most: AtomicU32::new(most),
        };
        let line = Arc::new(line);
        self.0.entry(adapter.clone()).or_default().push(Arc::clone(&line));
        Desk { line, work, back: returned }
    }

    /// It is gone: no further call goes there.
    pub fn leave(&self, adapter: &Name, line: &Arc<Line>) {
        self.0.remove_if_mut(adapter, |_, lines| {
            lines.retain(|known| !Arc::ptr_eq(known, line));
            lines.is_empty()
        });
    }

    /// Connections of an adapter.
    pub fn count(&self, adapter: &Name) -> usize {
        self.0.get(adapter).map_or(0, |lines| lines.len())
    }

    /// Connections of all adapters.
    pub fn count_all(&self) -> usize {
        self.0.iter().map(|lines| lines.len()).sum()
    }

    /// Sends a call to a line that takes it, and waits for the first of its answer. A line that is lost
    /// before that has begun nothing: another gets the call.
    pub async fn send(&self, adapter: &Name, call: &Call, ledger: &Arc<Ledger>) -> Result<Answer, Fault> {
        // Nobody was asked, so nobody is to blame.
        chat_only(call.path)?;
        let body = Bytes::from(call.body.joined());
        let mut is_lost = false;
        for _ in 0..LINES_TRIED_MAX {
            let Some(held) = self.pick(adapter) else { break };
            #[expect(clippy::disallowed_methods, reason = "its sender has credit for so much and no more")]
            let (to, mut pieces) = mpsc::unbounded_channel();
            // Order: relaxed. A name; nothing is read because of it.
            let id = held.0.next.fetch_add(1, Ordering::Relaxed);
            if held.0.to.try_send(Work { id, body: body.clone(), to }).is_err() {
                continue;
            }
            let line = Arc::clone(&held.0);
            let mut held = Under { line, place: Some(held), id, is_over: false };
            match pieces.recv().await {
                Some(Piece::Failed(fault)) => {
                    held.end();
                    return Err(fault);
                }
                Some(first) => {
                    let body = AttachedBody { first: Some(first), pieces, taken: Taken::default(), held };
                    return retold::answer(UpstreamBody::attached(body), call.streamed, ledger).await;
                }
                // Lost before it began.
                None => is_lost = true,
            }
        }
        Err(match is_lost {
            true => Fault::upstream(Kind::Connect, Retry::Elsewhere),
            false if self.count(adapter) > 0 => BUSY,
            false => ABSENT,
        })
    }

    /// The line with the least under way, of those that take more.
    fn pick(&self, adapter: &Name) -> Option<Place> {
        let lines = self.0.get(adapter)?;
        let free = lines.iter().filter(|line| !line.to.is_closed() && line.left() > 0);
        let line = free.max_by_key(|line| line.left())?;
        // Order: relaxed, see `Line::left`.
        line.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(line)))
    }
}

impl Line {
    /// Calls it takes at once from now on.
    pub fn set_most(&self, most: u32) {
        // Order: relaxed, see `left`.
        self.most.store(most, Ordering::Relaxed);
    }

    fn left(&self) -> u32 {
        // Order: relaxed throughout. A hint for whom to ask: two callers that see the same place both get it,
        // and the adapter's window says no to the second.
        let under_way = self.under_way.load(Ordering::Relaxed);
        // Order: relaxed, see above.
        self.most.load(Ordering::Relaxed).saturating_sub(under_way)
    }
}

/// One of a line's calls.
#[derive(Debug)]
struct Place(Arc<Line>);

impl Drop for Place {
    fn drop(&mut self) {
        // Order: relaxed, see `Line::left`.
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is with a line: told to stop when nobody wants its answer any more.
#[derive(Debug)]
struct Under {
    line: Arc<Line>,
    place: Option<Place>,
    id: u64,
    is_over: bool,
}

impl Under {
    /// The answer is there, or never comes: the next call may have its place.
    fn end(&mut self) {
        self.is_over = true;
        self.place = None;
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if !self.is_over {
            // Before the adapter knows: it may have its next call at once.
            self.end();
            // A line that is gone needs no telling.
            let _ = self.line.back.send(Back::Gone { id: self.id });
        }
    }
}

/// The answer of a line, as a stream of events.
#[derive(Debug)]
pub struct AttachedBody {
    first: Option<Piece>,
    pieces: mpsc::UnboundedReceiver<Piece>,
    taken: Taken,
    held: Under,
}

/// Pieces that were taken and of which the adapter was not told: each would wake whoever carries its line.
#[derive(Debug, Default)]
struct Taken {
    mark: u64,
    pieces: usize,
    bytes: usize,
    /// Until it is told of those in any case; armed by the first of them.
    timer: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl AttachedBody {
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.held.is_over {
            return Poll::Ready(None);
        }
        let piece = match self.first.take() {
            Some(piece) => Some(piece),
            None => match self.pieces.poll_recv(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    if self.taken.poll_late(cx).is_ready() {
                        self.tell();
                    }
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(match piece {
            Some(Piece::Data(bytes, mark)) => {
                if self.taken.on_piece(mark, bytes.len()) {
                    self.tell();
                }
                Some(Ok(bytes))
            }
            Some(Piece::Last) => {
                self.held.end();
                None
            }
            Some(Piece::Failed(fault)) => {
                self.held.end();
                Some(Err(fault))
            }
            None => {
                self.held.end();
                Some(Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost)))
            }
        })
    }
}

impl AttachedBody {
    fn tell(&mut self) {
        let mark = self.taken.mark;
        self.taken = Taken { mark, timer: self.taken.timer.take(), ..Taken::default() };
        // A line that is gone has no room to give.
        let _ = self.held.line.back.send(Back::Taken { id: self.held.id, mark });
    }
}

impl Taken {
    /// True where the adapter should be told now.
    fn on_piece(&mut self, mark: u64, bytes: usize) -> bool {
        self.mark = mark;
        self.pieces += 1;
        self.bytes += bytes;
        self.pieces >= TAKEN_PIECES || self.bytes >= TAKEN_BYTES
    }

    /// Nothing else is here: ready once the first of those it was not told of was taken long ago.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pieces == 0 {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TAKEN_WAIT)));
        if !std::mem::replace(&mut self.is_armed, true) {
            timer.as_mut().reset(Instant::now() + TAKEN_WAIT);
        }
        timer.as_mut().poll(cx)
    }
}

/// It takes no more now. Says nothing about its health: a breaker that counted it would keep calls away from
/// an adapter that is ready again.
pub const BUSY: Fault = Fault { side: Side::Proxy, kind: Kind::NoPermit, retry: Retry::Elsewhere };
/// Nobody is attached; whoever attaches gets the next call.
const ABSENT: Fault = Fault { side: Side::Proxy, kind: Kind::Absent, retry: Retry::Elsewhere };
/// Taken before the adapter is told: half of what it is told of by the protocol at once,
const TAKEN_PIECES: usize = 32;
/// an eighth of a stream's credit,
const TAKEN_BYTES: usize = 32 * 1024;
/// and as long as the protocol itself waits to acknowledge.
const TAKEN_WAIT: Duration = Duration::from_millis(100);
/// Calls on their way to one line's task.
const WORK_MAX: usize = 64;
/// Lines of one adapter that are lost one after the other while a call is handed to them.
const LINES_TRIED_MAX: usize = 3;

#[cfg(test)]
#[path = "attached_tests.rs"]
mod tests;
