//! HTTP/3 for what is served over HTTP: the same doors, the same answers. Each request is a task; its answer
//! waits for its own stream only.

mod answer;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use crossbeam_queue::ArrayQueue;
use dataplane_core::fault::{Fault, Kind};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use self::transport::{Accepted, Fed, Reading, Transport};
use super::connection::Guest;
use crate::drain::LAST_WORDS;
use crate::serve::Peer;
use crate::serve::arriving::Arriving;
use crate::serve::guard::{HEAD_WAIT, Stage};
use crate::serve::http;
use crate::serve::unsent::Parcel;

/// Serves one connection to its end.
pub async fn serve(guest: Guest) {
    let (transport, accepted) = Transport::new(guest.connection.clone());
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEAD_BYTES).send_grease(false);
    let protocol = match builder.build::<_, Parcel>(transport).await {
        Ok(protocol) => protocol,
        Err(error) => return tracing::debug!(%error, "HTTP/3 did not begin"),
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
    let mut served = Served { protocol, accepted, peer, requests: JoinSet::new() };
    if !served.until_leaving(&guest).await {
        return;
    }
    // GOAWAY: those under way go on, others are told that nothing became of them.
    if served.protocol.shutdown(0).await.is_ok() {
        served.until_done(&guest).await;
        // What was written last is on its way, and the connection's end would overtake it.
        let _ = timeout(PARTING, guest.connection.closed()).await;
    }
}

/// A connection under way.
struct Served {
    protocol: h3::server::Connection<Transport, Parcel>,
    accepted: Arc<ArrayQueue<Accepted>>,
    peer: Arc<Peer>,
    requests: JoinSet<()>,
}

impl Served {
    /// Whether the connection is there still.
    async fn until_leaving(&mut self, guest: &Guest) -> bool {
        let leaving = guest.leaving();
        tokio::pin!(leaving);
        let mut looks = interval(LOOK_EVERY);
        let mut idle_looks = 0;
        loop {
            tokio::select! {
                request = self.protocol.accept() => {
                    idle_looks = 0;
                    if !self.on_request(request) {
                        return false;
                    }
                }
                Some(_) = self.requests.join_next() => {}
                _ = looks.tick() => {
                    idle_looks = if self.requests.is_empty() { idle_looks + 1 } else { 0 };
                    if idle_looks > IDLE_LOOKS {
                        return true;
                    }
                }
                () = &mut leaving => return true,
            }
        }
    }

    async fn until_done(&mut self, guest: &Guest) {
        let ending = async {
            guest.closing().await;
            // Relays notice by themselves, and say why they end.
            sleep(LAST_WORDS).await;
        };
        tokio::pin!(ending);
        while !self.requests.is_empty() {
            tokio::select! {
                // One may have been on its way already.
                request = self.protocol.accept() => if !self.on_request(request) {
                    return;
                },
                _ = self.requests.join_next() => {}
                () = &mut ending => return,
            }
        }
    }

    /// False at the connection's end.
    fn on_request(
        &mut self,
        request: Result<Option<RequestResolver<Transport, Parcel>>, h3::error::ConnectionError>,
    ) -> bool {
        match request {
            Ok(Some(request)) => {
                let accepted = self.accepted.pop().expect("left with the stream that was accepted last");
                self.requests.spawn(one(Arc::clone(&self.peer), request, accepted));
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "an HTTP/3 connection ended");
                false
            }
        }
    }
}

async fn one(peer: Arc<Peer>, resolver: RequestResolver<Transport, Parcel>, accepted: Accepted) {
    let Accepted { stopped, fed } = accepted;
    let (request, stream) = match timeout(HEAD_WAIT, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => return tracing::debug!(%error, "a request over HTTP/3 is none"),
        Err(_) => return peer.worker.tally.connections_cut_slow.one(),
    };
    let (sending, receiving) = stream.split();
    let is_head = request.method() == ::http::Method::HEAD;
    let body = Body { stream: receiving, fed };
    let request = request.map(|()| Arriving::Http3(Box::new(body)));
    tokio::pin!(stopped);
    let response = tokio::select! {
        biased;
        response = http::serve(Arc::clone(&peer), request) => response,
        // Dropped with the request: whoever works for it is told.
        _ = &mut stopped => return,
    };
    answer::send(&peer.worker, sending, stopped, response, is_head).await;
}

/// A request's body.
pub struct Body {
    stream: RequestStream<Reading, Parcel>,
    fed: Arc<Fed>,
}

impl Body {
    /// The next piece; `None` at the end.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Fault>> {
        match self.stream.recv_data().await {
            Ok(Some(mut piece)) => {
                let bytes = piece.remaining();
                self.fed.on_handed_on(bytes);
                Some(Ok(piece.copy_to_bytes(bytes)))
            }
            Ok(None) => None,
            Err(error) => Some(Err(unread(&error))),
        }
    }
}

impl Drop for Body {
    /// What is not read need not be sent (RFC 9114 section 4.1).
    fn drop(&mut self) {
        self.stream.stop_sending(Code::H3_NO_ERROR);
    }
}

/// Why a body could not be read on.
fn unread(error: &StreamError) -> Fault {
    tracing::debug!(%error, "a body over HTTP/3 broke off");
    Fault::client(Kind::ClientGone)
}

/// Of a request, as over HTTP/2.
const HEAD_BYTES: u64 = 16 * 1024;
/// Between looks whether anything is asked for,
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// and how many of them find nothing: five minutes, longer than clients' own pools keep a connection.
const IDLE_LOOKS: u32 = 10;
/// For a client that closes by itself once it knows that nothing more comes.
const PARTING: Duration = Duration::from_millis(500);
