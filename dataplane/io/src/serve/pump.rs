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
use dataplane_core::fault::{Fault, Kind};
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::answer::{Trailers, cost_trailer};
use crate::drain::Phase;
use crate::relay::{Cut, Relay};
use crate::words::Telling;
use crate::worker::Worker;

/// The client's end.
pub struct Pumped {
    pieces: mpsc::Receiver<Piece>,
    /// Room taken by the piece handed out last; freed when the next is asked for.
    taken: Option<OwnedSemaphorePermit>,
    is_cut: bool,
    is_over: bool,
}

/// The task's end.
pub struct Pump {
    pieces: mpsc::Sender<Piece>,
    room: Arc<Semaphore>,
    worker: Arc<Worker>,
}

enum Piece {
    Data(Bytes, OwnedSemaphorePermit),
    Trailers(HeaderMap),
    /// Complete: without it the end is a cut.
    End,
}

/// The client is gone, or too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Both ends.
pub fn channel(worker: &Arc<Worker>) -> (Pump, Pumped) {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
    let pump = Pump { pieces: sender, room, worker: Arc::clone(worker) };
    (pump, Pumped { pieces: receiver, taken: None, is_cut: false, is_over: false })
}

impl Pump {
    /// Hands one piece over; waits while the buffer is full.
    pub async fn send(&self, mut piece: Bytes) -> Result<(), Gone> {
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(PIECE_BYTES_MAX));
            let bytes = u32::try_from(part.len()).expect("a part is at most 64 KiB");
            let sent = timeout(STALL_WAIT, async {
                let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Gone)?;
                self.pieces.send(Piece::Data(part, room)).await.map_err(|_| Gone)
            });
            match sent.await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    self.worker.tally.clients_too_slow.one();
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }

    /// Hands over what need not wait: dropped where there is no room.
    pub fn try_send(&self, piece: Bytes) {
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            let _ = self.pieces.try_send(Piece::Data(piece, room));
        }
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
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.taken = None;
        match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(bytes, room)) => {
                self.taken = Some(room);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
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
