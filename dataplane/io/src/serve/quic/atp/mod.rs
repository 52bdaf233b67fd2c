//! A session over QUIC (`atp/1`): the client's first stream carries what is said of the session itself, each
//! further one a stream of the session, so that one whose reader is slow, or whose packets are lost, delays
//! no other. The first byte of each, from whoever opened it, names the encoding; behind it frames follow,
//! each behind its length.
//!
//! ```text
//! stream 0 ◀─▶ reader, writer ─┐
//! stream 4 ◀─▶ reader, writer ─┼─▶ Link ◀─▶ Conversation
//! stream 8 ◀─▶ reader, writer ─┘
//! ```
//!
//! What is said of a stream goes where it was heard of; of one that was not, to a stream opened for it: work
//! for adapters, and what a peer that came back has not acknowledged. What is left to say of one that has
//! ended goes where the session's own frames do.

mod reading;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use dataplane_state::ledger::Ledger;
use proto_core::frame::{Encoding, Text};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::reading::{Ended, Of, Reader, Reading};
use self::writing::{Unsaid, Way};
use super::connection::Guest;
use crate::drain::LAST_WORDS;
use crate::serve::Peer;
use crate::serve::atp::Caller;
use crate::serve::atp::conversation;
use crate::serve::atp::link::{Inbound, OUTBOUND_MAX, Outbound, Plug, link};
use crate::serve::guard::{HEAD_WAIT, Stage};

/// Carries one connection's session to the end of either.
pub async fn serve(guest: Guest) {
    let connection = guest.connection.clone();
    let Ok(Some((first, reader, send))) = timeout(HEAD_WAIT, begin(&guest)).await else {
        return connection.close(NO_SESSION, b"a session begins with a frame on the first stream");
    };
    let peer = Arc::new(Peer {
        worker: Arc::clone(&guest.worker),
        stage: Arc::new(Stage::new(true)),
        is_loopback: guest.is_loopback,
        is_h2: true,
        verified: guest.verified.clone(),
        opened: None,
    });
    let encoding = reader.encoding();
    let (link, Plug { inbound, out }) = link(encoding);
    let caller = Caller { peer, headers: Arc::default() };
    let session = first.session_id.clone();
    tokio::spawn(conversation::run(caller, first, link));
    let (arrivals_to, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let mut carried = Carried {
        connection: connection.clone(),
        encoding,
        session,
        ways: HashMap::new(),
        tasks: JoinSet::new(),
        held_bytes: Arc::default(),
        ledger: Arc::clone(&guest.worker.ledger),
        inbound,
        arrivals_to,
    };
    let control = carried.control(reader, send);
    carried.run(control, &guest, arrivals, out).await;
}

/// The first frame, and the stream it came on.
async fn begin(guest: &Guest) -> Option<(proto_core::frame::Frame, Reader, SendStream)> {
    let (send, receive) = guest.connection.accept_bi().await.ok()?;
    let mut reader = Reader::begin(receive, &guest.worker.ledger).await?;
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
    ways: HashMap<Text, Way>,
    /// Readers and writers.
    tasks: JoinSet<()>,
    /// Said, by the session, and not written.
    held_bytes: Arc<AtomicUsize>,
    /// For what has come of frames that are not whole.
    ledger: Arc<Ledger>,
    inbound: mpsc::Sender<Inbound>,
    arrivals_to: mpsc::Sender<Arrival>,
}

impl Carried {
    /// What the session itself is told, and says.
    fn control(&mut self, mut reader: Reader, send: SendStream) -> Way {
        let (reading, ended) = oneshot::channel();
        let (inbound, connection) = (self.inbound.clone(), self.connection.clone());
        self.tasks.spawn(async move {
            reader.read(&inbound).await;
            if reader.is_reset() {
                connection.close(NO_SESSION, b"the session's own stream was broken");
            }
            drop::<Reading>(reading);
        });
        Way::new(&mut self.tasks, &self.held_bytes, send, ended, None)
    }

    async fn run(
        mut self,
        control: Way,
        guest: &Guest,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut out: mpsc::Receiver<Outbound>,
    ) {
        let closing = async {
            guest.closing().await;
            // The session says its last words by itself.
            sleep(LAST_WORDS).await;
        };
        tokio::pin!(closing);
        loop {
            tokio::select! {
                biased;
                // Before what is said of it: its first frame is handed on only behind this.
                Some(arrival) = arrivals.recv() => self.on_arrival(arrival),
                outbound = out.recv() => match outbound {
                    Some(outbound) => {
                        if !self.say_all(&control, outbound, &mut out) {
                            return self.connection.close(TOO_SLOW, b"what is sent is not read");
                        }
                    }
                    None => break,
                },
                accepted = self.connection.accept_bi() => match accepted {
                    Ok((send, receive)) => self.listen(send, receive),
                    // Lost. The session learns it from its readers' ends, and waits for a peer with a token.
                    Err(_) => return,
                },
                Some(_) = self.tasks.join_next() => {}
                () = &mut closing => return self.connection.close(ENDED, b"closing"),
            }
        }
        // Over: what it said last is on its way.
        let Carried { connection, ways, tasks: _tasks, .. } = self;
        let written = async {
            control.finish().await;
            for way in ways.into_values() {
                way.finish().await;
            }
        };
        let _ = timeout(LAST_WORDS, written).await;
        connection.close(ENDED, b"");
    }

    /// A stream that the peer opened. What it is of says its first frame.
    fn listen(&mut self, send: SendStream, receive: RecvStream) {
        let (inbound, arrivals) = (self.inbound.clone(), self.arrivals_to.clone());
        let (encoding, session) = (self.encoding, self.session.clone());
        let ledger = Arc::clone(&self.ledger);
        self.tasks.spawn(reading::stream(encoding, session, send, receive, inbound, arrivals, ledger));
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let Arrival { of, send, ended } = arrival;
        if self.ways.len() >= WAYS_MAX {
            self.ways.retain(|_, way| !way.is_over());
        }
        let stream = of.stream.clone();
        let way = Way::new(&mut self.tasks, &self.held_bytes, send, ended, Some(of));
        self.ways.insert(stream, way);
    }

    /// The first, and what else is there by now. False as [`Carried::say`] is.
    fn say_all(&mut self, control: &Way, first: Outbound, out: &mut mpsc::Receiver<Outbound>) -> bool {
        let mut next = Some(first);
        // As many as the queue holds: what arrives has its turn then.
        for _ in 0..OUTBOUND_MAX {
            let Some(outbound) = next.take().or_else(|| out.try_recv().ok()) else { break };
            if !self.say(control, outbound) {
                return false;
            }
        }
        true
    }

    /// False where the peer leaves more unread than a session may have to say.
    fn say(&mut self, control: &Way, outbound: Outbound) -> bool {
        let Some(stream) = outbound.stream.clone() else { return control.say(outbound).is_ok() };
        if let Some(way) = self.ways.get(&stream) {
            return match way.say(outbound) {
                Ok(()) => true,
                Err(Unsaid::TooMuch) => false,
                Err(Unsaid::Over(unsaid)) => control.say(unsaid).is_ok(),
            };
        }
        let (session, ledger) = (self.session.clone(), Arc::clone(&self.ledger));
        let of = Of { session, stream: stream.clone(), inbound: self.inbound.clone(), ledger };
        let way = Way::open(&mut self.tasks, &self.held_bytes, &self.connection, self.encoding, of);
        let is_said = way.say(outbound).is_ok();
        self.ways.insert(stream, way);
        is_said
    }
}

/// Those that have ended among them: one that has is remembered for a while, since its last acknowledgement
/// need not open it again.
const WAYS_MAX: usize = 2048;
/// Streams heard of and not yet noted.
const ARRIVALS_MAX: usize = 64;
const ENDED: VarInt = VarInt::from_u32(0);
const NO_SESSION: VarInt = VarInt::from_u32(3);
const TOO_SLOW: VarInt = VarInt::from_u32(4);
