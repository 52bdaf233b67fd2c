//! Reads an answer from upstream in a task of its own, into a bounded buffer, for a client that takes it from
//! there.
//!
//! Used where somebody else shares a connection: an upstream HTTP/2 connection that is not read hurts every
//! stream on it, and a client's HTTP/2 stream is not polled while its window is closed, so no deadline of its
//! answer would be looked at. A client that leaves the buffer full for [`STALL_WAIT`] is cut.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_queue::SegQueue;
use dataplane_core::fault::{Fault, Kind};
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::answer::{Trailers, cost_trailer};
use super::guard::Stage;
use super::unsent::{Parcel, Share, Unsent};
use crate::drain::Phase;
use crate::relay::{Cut, Relay};
use crate::words::Telling;
use crate::worker::Worker;

/// The client's end.
pub struct Pumped {
    pieces: mpsc::Receiver<Piece>,
    buffer: Arc<SegQueue<Held>>,
    /// Room taken by the piece handed out last; freed when the next is asked for.
    taken: Option<OwnedSemaphorePermit>,
    is_cut: bool,
    is_over: bool,
}

/// The task's end.
pub struct Pump {
    pieces: mpsc::Sender<Piece>,
    buffer: Arc<SegQueue<Held>>,
    room: Arc<Semaphore>,
    worker: Arc<Worker>,
    unsent: Option<Arc<Unsent>>,
}

enum Piece {
    /// The next of the buffer.
    Data,
    Trailers(HeaderMap),
    /// Complete: without it the end is a cut.
    End,
}

/// In the buffer, where both ends reach it: nobody polls the end of a client whose window is closed, so it is
/// the other that frees what was held for one that is given up.
enum Held {
    Data(Parcel, OwnedSemaphorePermit),
    /// The rest was given up. Still owes a byte, so that a connection that takes nothing is seen as such.
    Cut(#[expect(dead_code, reason = "held for what it owes")] Share),
}

/// The client is gone, or too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Both ends, for a client's connection at `stage`.
pub fn channel(worker: &Arc<Worker>, stage: &Stage) -> (Pump, Pumped) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
    let unsent = stage.unsent().cloned();
    let buffer = Arc::new(SegQueue::new());
    let held = Arc::clone(&buffer);
    let pump = Pump { pieces: sender, buffer, room, worker: Arc::clone(worker), unsent };
    (pump, Pumped { pieces: receiver, buffer: held, taken: None, is_cut: false, is_over: false })
}

impl Pump {
    /// Hands one piece over; waits while the buffer is full.
    pub async fn send(&self, mut piece: Bytes) -> Result<(), Gone> {
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(PIECE_BYTES_MAX));
            let bytes = u32::try_from(part.len()).expect("a part is at most 64 KiB");
            let patience = self.worker.ledger.level().patience(STALL_WAIT);
            let sent = timeout(patience, async {
                let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Gone)?;
                let place = self.pieces.reserve().await.map_err(|_| Gone)?;
                self.put(part, room, place);
                Ok(())
            });
            match sent.await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    self.worker.tally.clients_too_slow.one();
                    self.give_up();
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }

    /// Hands over what need not wait: dropped where there is no room.
    pub fn try_send(&self, piece: Bytes) {
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes)
            && let Ok(place) = self.pieces.try_reserve()
        {
            self.put(piece, room, place);
        }
    }

    fn put(&self, bytes: Bytes, room: OwnedSemaphorePermit, place: mpsc::Permit<'_, Piece>) {
        let share = Some(self.share(bytes.len() as u64));
        self.buffer.push(Held::Data(Parcel { bytes, share }, room));
        place.send(Piece::Data);
    }

    /// Frees what the client did not take. Where it comes back for it, it finds the cut.
    fn give_up(&self) {
        while self.buffer.pop().is_some() {}
        self.buffer.push(Held::Cut(self.share(1)));
    }

    fn share(&self, bytes: u64) -> Share {
        Share::new(self.unsent.as_ref(), &self.worker.ledger, bytes)
    }

    /// The answer is complete.
    pub async fn finish(self, trailers: Option<HeaderMap>) {
        if let Some(trailers) = trailers {
            // A client that is gone needs no trailers.
            let _ = timeout(STALL_WAIT, self.pieces.send(Piece::Trailers(trailers))).await;
        }
        let _ = timeout(STALL_WAIT, self.pieces.send(Piece::End)).await;
    }

    /// Until the client goes away.
    pub async fn gone(&self) {
        self.pieces.closed().await;
    }

    /// Until this data plane is out of time.
    pub async fn closing(&self) {
        let mut phases = self.worker.shared.phases();
        // A sender that is gone means the process is ending: the same.
        let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
    }
}

impl Pumped {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Parcel>, Cut>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.taken = None;
        match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data) => match self.buffer.pop() {
                Some(Held::Data(parcel, room)) => {
                    self.taken = Some(room);
                    Poll::Ready(Some(Ok(Frame::data(parcel))))
                }
                Some(Held::Cut(_)) | None => {
                    self.is_over = true;
                    Poll::Ready(Some(Err(Cut(Fault::client(Kind::SlowClient)))))
                }
            },
            Some(Piece::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Piece::End) => {
                self.is_over = true;
                Poll::Ready(None)
            }
            None if self.is_cut => {
                self.is_over = true;
                Poll::Ready(Some(Err(Cut(Fault::client(Kind::SlowClient)))))
            }
            None => {
                // Once more around: a reset overtakes what was not written yet, and that may be the error.
                self.is_cut = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Relays until the end of either side.
pub async fn run(pump: Pump, mut relay: Relay, telling: Telling, trailers: Trailers) {
    loop {
        let piece = tokio::select! {
            biased;
            piece = poll_fn(|cx| relay.poll_piece(cx, |fault| telling.event(fault))) => piece,
            () = pump.gone() => return,
            // Wakes the relay, which then sees it and says so.
            () = pump.closing(), if !pump.worker.shared.is_past(Phase::Closing) => continue,
        };
        match piece {
            Some(Ok(piece)) => {
                if pump.send(piece).await.is_err() {
                    return;
                }
            }
            // Dropping the pump without an end is the cut.
            Some(Err(_)) => return,
            None => break,
        }
    }
    let due = (trailers == Trailers::Due).then(|| cost_trailer(relay.charge().cost().as_usd_micros_ceil()));
    pump.finish(due).await;
}

/// Held for one client: a few seconds of a fast model.
const BUFFER_BYTES: u32 = 256 * 1024;
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Many pieces are one token.
const PIECES_MAX: usize = 1024;
/// A full buffer that does not move.
const STALL_WAIT: Duration = Duration::from_secs(10);
