//! A session over QUIC (`atp/1`): the client's first stream carries what is said of the session itself, each
//! further one a stream of the session, so that one whose reader is slow, or whose packets are lost, delays
//! no other. The first byte of each, from whoever opened it, names the encoding; behind it frames follow,
//! each behind its length.
//!
//! ```text
//! stream 0 ◀─▶ reader ─┐
//! stream 4 ◀─▶ reader ─┼─▶ Link ◀─▶ Conversation
//! stream 8 ◀─▶ reader ─┘     │
//!     ▲                      │
//!     └──────── Ways ◀───────┘
//! ```
//!
//! What is said of a stream goes where it was heard of; of one that was not, to a stream opened for it: work
//! for adapters, and what a peer that came back has not acknowledged. What is left to say of one that has
//! ended goes where the session's own frames do.

mod reading;
mod writing;

use std::sync::Arc;

use dataplane_state::pipe;
use proto_core::frame::{Encoding, Frame, Text};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::reading::{Ended, Of, Reader, Reading};
use self::writing::{Happened, Ways};
use super::connection::Guest;
use crate::drain::LAST_WORDS;
use crate::serve::Peer;
use crate::serve::atp::Caller;
use crate::serve::atp::conversation;
use crate::serve::atp::cutter::Begun;
use crate::serve::atp::link::{Inbound, OUTBOUND_MAX, Owed, Plug, link};
use crate::serve::guard::{HEAD_WAIT, Stage};

/// Carries one connection's session to the end of either.
pub async fn serve(guest: Guest) {
    let connection = guest.connection.clone();
    let begun = Begun::of(&guest.worker, &Arc::default());
    let Ok(Some((first, reader, send))) = timeout(HEAD_WAIT, begin(&guest, &begun)).await else {
        return connection.close(NO_SESSION, b"a session begins with a frame on the first stream");
    };
    let peer = Arc::new(Peer {
        worker: Arc::clone(&guest.worker),
        stage: Arc::new(Stage::new(true)),
        is_loopback: guest.is_loopback,
        address: guest.connection.remote_address().ip(),
        is_h2: true,
        verified: guest.verified.clone(),
        opened: None,
    });
    let encoding = reader.encoding();
    let (link, Plug { inbound, out }) = link(encoding, &guest.worker.ledger);
    let caller = Caller { peer, headers: Arc::default() };
    // A name of its own: the frame's would keep all of the frame.
    let session = Text::from(first.session_id.as_str());
    tokio::spawn(conversation::run(caller, *first, link));
    let (arrivals_to, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let mut carried = Carried {
        ways: Ways::new(connection.clone(), encoding),
        connection,
        encoding,
        session,
        tasks: JoinSet::new(),
        begun,
        inbound,
        arrivals_to,
    };
    carried.control(reader, send);
    carried.run(&guest, arrivals, out).await;
}

/// The first frame, and the stream it came on.
async fn begin(guest: &Guest, begun: &Begun) -> Option<(Box<Frame>, Reader, SendStream)> {
    let (send, receive) = guest.connection.accept_bi().await.ok()?;
    let mut reader = Reader::begin(receive, begun).await?;
    match reader.next().await? {
        Ok(frame) => Some((frame, reader, send)),
        Err(malformed) => {
            tracing::debug!(%malformed, "a session began with what is no frame");
            None
        }
    }
}

/// A stream of the session was heard of, on a stream of the connection.
pub struct Arrival {
    of: Of,
    send: SendStream,
    ended: Ended,
}

/// One connection with one session on it.
struct Carried {
    connection: Connection,
    encoding: Encoding,
    session: Text,
    /// Where what is said of each stream goes.
    ways: Ways,
    /// Readers, and what waits for the peer.
    tasks: JoinSet<Happened>,
    /// For what has come of frames that are not whole.
    begun: Begun,
    inbound: mpsc::Sender<Inbound>,
    arrivals_to: mpsc::Sender<Box<Arrival>>,
}

impl Carried {
    /// What the session itself is told, and says.
    fn control(&mut self, mut reader: Reader, send: SendStream) {
        let (reading, ended) = oneshot::channel();
        let (inbound, connection) = (self.inbound.clone(), self.connection.clone());
        self.tasks.spawn(async move {
            reader.read(&inbound).await;
            if reader.is_reset() {
                connection.close(NO_SESSION, b"the session's own stream was broken");
            }
            drop::<Reading>(reading);
            Happened::Nothing
        });
        self.ways.join(&mut self.tasks, send, ended, None);
    }

    async fn run(
        mut self,
        guest: &Guest,
        mut arrivals: mpsc::Receiver<Box<Arrival>>,
        mut out: pipe::Receiver<Owed>,
    ) {
        let closing = async {
            guest.closing().await;
            // The session says its last words by itself.
            sleep(LAST_WORDS).await;
        };
        tokio::pin!(closing);
        let connection = self.connection.clone();
        let accepting = connection.accept_bi();
        tokio::pin!(accepting);
        loop {
            tokio::select! {
                biased;
                // Before what is said of it: its first frame is handed on only behind this.
                Some(arrival) = arrivals.recv() => {
                    let Arrival { of, send, ended } = *arrival;
                    self.ways.join(&mut self.tasks, send, ended, Some(of));
                    self.ways.write(&mut self.tasks).await;
                }
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(happened) = ended {
                        self.ways.on_happened(&mut self.tasks, happened).await;
                    }
                }
                outbound = out.recv() => match outbound {
                    Some(outbound) => {
                        if !self.say_all(outbound, &mut out).await {
                            return self.connection.close(TOO_SLOW, b"what is sent is not read");
                        }
                    }
                    None => break,
                },
                accepted = &mut accepting => match accepted {
                    Ok((send, receive)) => {
                        self.listen(send, receive);
                        accepting.set(connection.accept_bi());
                    }
                    // Lost. The session learns it from its readers' ends, and waits for a peer with a token.
                    Err(_) => return,
                },
                () = &mut closing => return self.connection.close(ENDED, b"closing"),
            }
        }
        // Over: what it said last is on its way.
        let _ = timeout(LAST_WORDS, self.ways.finish(self.tasks)).await;
        connection.close(ENDED, b"");
    }

    /// A stream that the peer opened. What it is of says its first frame.
    fn listen(&mut self, send: SendStream, receive: RecvStream) {
        let (inbound, arrivals) = (self.inbound.clone(), self.arrivals_to.clone());
        let (encoding, session) = (self.encoding, self.session.clone());
        let begun = self.begun.clone();
        let reading = reading::stream(encoding, session, send, receive, inbound, arrivals, begun);
        self.tasks.spawn(async move {
            reading.await;
            Happened::Nothing
        });
    }

    /// The first, and what else is there by now. False where the peer leaves more unread than a session may
    /// have to say.
    async fn say_all(&mut self, first: Owed, out: &mut pipe::Receiver<Owed>) -> bool {
        let Carried { ways, tasks, session, inbound, begun, .. } = self;
        let mut next = Some(first);
        // As many as the queue holds: what arrives has its turn then.
        for _ in 0..OUTBOUND_MAX {
            let Some(Owed { outbound, share }) = next.take().or_else(|| out.try_recv()) else { break };
            let of = |stream| Of {
                session: session.clone(),
                stream,
                inbound: inbound.clone(),
                begun: begun.clone(),
            };
            if ways.say(tasks, outbound, of).is_err() {
                return false;
            }
            // From here on it is bounded by what a session may leave unread.
            drop(share);
        }
        ways.write(tasks).await;
        true
    }
}

/// Streams heard of and not yet noted.
const ARRIVALS_MAX: usize = 64;
const ENDED: VarInt = VarInt::from_u32(0);
const NO_SESSION: VarInt = VarInt::from_u32(3);
const TOO_SLOW: VarInt = VarInt::from_u32(4);
