//! Frames on their way into one stream of a connection: as fast as the peer takes that one, whatever it does
//! with the others.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_core::frame::Encoding;
use proto_core::session::prefixed;
use quinn::{Connection, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::reading::{Ended, Of, Reader, Reading};
use crate::serve::atp::link::Outbound;

/// Where what is said of a stream goes.
pub struct Way {
    /// Has no bound of its own: what all of a connection hold is counted, see [`UNREAD_BYTES_MAX`].
    frames: mpsc::UnboundedSender<Outbound>,
    held_bytes: Arc<AtomicUsize>,
    /// Ends when all is written that will be.
    written: oneshot::Receiver<Infallible>,
}

/// Why something cannot be said here.
#[derive(Debug)]
pub enum Unsaid {
    /// The stream is over; it may be said on another.
    Over(Outbound),
    /// The peer reads nothing, and goes on making us speak.
    TooMuch,
}

impl Way {
    /// On a stream that is there. `of`: which of the session's it is; `None` for the session's own.
    pub fn new(
        tasks: &mut JoinSet<()>,
        held_bytes: &Arc<AtomicUsize>,
        send: SendStream,
        ended: Ended,
        of: Option<Of>,
    ) -> Way {
        let (way, queue) = Way::of(held_bytes);
        tasks.spawn(queue.write(send, ended, of));
        way
    }

    /// On a stream to be opened, which also listens there: for a stream of the session that the peer has
    /// opened none for.
    pub fn open(
        tasks: &mut JoinSet<()>,
        held_bytes: &Arc<AtomicUsize>,
        connection: &Connection,
        encoding: Encoding,
        of: Of,
    ) -> Way {
        let (way, queue) = Way::of(held_bytes);
        let connection = connection.clone();
        tasks.spawn(async move {
            // Waits while the peer allows no more streams.
            let Ok((mut send, receive)) = connection.open_bi().await else { return };
            if send.write_all(&[encoding.byte()]).await.is_err() {
                return;
            }
            let (reading, ended) = oneshot::channel();
            let heard = of.clone();
            let listening = async move {
                Reader::of(receive, encoding, &heard.ledger).read_stream(&heard).await;
                drop::<Reading>(reading);
            };
            tokio::join!(listening, queue.write(send, ended, Some(of)));
        });
        way
    }

    fn of(held_bytes: &Arc<AtomicUsize>) -> (Way, Queue) {
        #[expect(clippy::disallowed_methods, reason = "bounded by what all of them hold")]
        let (frames, receiver) = mpsc::unbounded_channel();
        let (writing, written) = oneshot::channel();
        let queue = Queue { frames: receiver, held_bytes: Arc::clone(held_bytes), _writing: writing };
        (Way { frames, held_bytes: Arc::clone(held_bytes), written }, queue)
    }

    pub fn say(&self, outbound: Outbound) -> Result<(), Unsaid> {
        let bytes = weight(&outbound);
        // Order: relaxed, here and below: a count of one thread's tasks.
        if self.held_bytes.load(Ordering::Relaxed) + bytes > UNREAD_BYTES_MAX {
            return Err(Unsaid::TooMuch);
        }
        self.frames.send(outbound).map_err(|unsent| Unsaid::Over(unsent.0))?;
        // Order: relaxed, see above.
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub fn is_over(&self) -> bool {
        self.frames.is_closed()
    }

    /// Nothing more comes: until what was said is taken.
    pub async fn finish(self) {
        let Way { frames, written, .. } = self;
        drop(frames);
        let _ = written.await;
    }
}

/// The other end of a way.
struct Queue {
    frames: mpsc::UnboundedReceiver<Outbound>,
    held_bytes: Arc<AtomicUsize>,
    _writing: oneshot::Sender<Infallible>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    /// Takes nothing more; what is left goes unsaid.
    fn close(&mut self) {
        self.frames.close();
        while let Ok(unsaid) = self.frames.try_recv() {
            self.on_taken(&unsaid);
        }
    }

    async fn write(mut self, mut send: SendStream, mut ended: Ended, of: Option<Of>) {
        let stopped = send.stopped();
        tokio::pin!(stopped);
        let mut chunks = Vec::new();
        let (mut is_last, mut is_alone) = (false, false);
        let is_refused = loop {
            let next = tokio::select! {
                biased;
                next = self.frames.recv() => next,
                // The peer wants no more.
                _ = &mut stopped => break true,
                // Its last word may still be acknowledged here.
                _ = &mut ended, if is_last && !is_alone => {
                    is_alone = true;
                    self.frames.try_recv().ok()
                }
                () = sleep(LINGER), if is_last => None,
            };
            let Some(next) = next else { break false };
            is_last |= self.gather(next, &mut chunks);
            match timeout(TAKES_WAIT, send.write_all_chunks(&mut chunks)).await {
                Ok(Ok(())) => chunks.clear(),
                Ok(Err(_)) => break true,
                Err(_) => {
                    let _ = send.reset(NOT_READ);
                    break true;
                }
            }
        };
        self.close();
        if is_refused {
            if let Some(of) = of.filter(|_| !is_last) {
                of.reset().await;
            }
        } else if send.finish().is_ok() {
            // A connection that closes takes along what is not taken.
            let _ = timeout(LINGER, stopped).await;
        }
    }

    fn on_taken(&self, outbound: &Outbound) {
        // Order: relaxed, see `Way::say`.
        self.held_bytes.fetch_sub(weight(outbound), Ordering::Relaxed);
    }

    /// What there is, small frames together; true where the last of the stream is among it.
    fn gather(&mut self, first: Outbound, chunks: &mut Vec<Bytes>) -> bool {
        let (mut small, mut bytes, mut is_last) = (BytesMut::new(), 0, false);
        let mut next = Some(first);
        while let Some(outbound) = next {
            self.on_taken(&outbound);
            is_last |= outbound.is_last;
            let message = outbound.message;
            bytes += message.len();
            small.extend_from_slice(&prefixed(&message));
            if message.len() < ALONE_BYTES_MIN {
                small.extend_from_slice(&message);
            } else {
                chunks.push(small.split().freeze());
                chunks.push(message);
            }
            next = if bytes < BATCH_BYTES { self.frames.try_recv().ok() } else { None };
        }
        if !small.is_empty() {
            chunks.push(small.freeze());
        }
        is_last
    }
}

fn weight(outbound: &Outbound) -> usize {
    outbound.message.len() + OVERHEAD_BYTES
}

/// Of a connection, said and not written: a session's credit, and as much again for what frames add to it.
/// The session stops before; who comes here makes us answer and reads nothing.
const UNREAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Of a frame in a queue.
const OVERHEAD_BYTES: usize = 64;
/// Written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// Long enough not to be copied.
const ALONE_BYTES_MIN: usize = 2048;
/// For what follows the last message: acknowledgements of what the peer said last.
const LINGER: Duration = Duration::from_secs(5);
/// For one batch: as long as an answer's client has over HTTP/2.
const TAKES_WAIT: Duration = Duration::from_secs(30);
const NOT_READ: VarInt = VarInt::from_u32(7);
