//! One connection, from its handshake to its end, on the worker it was given to.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::counts::Refused;
use super::settings;
use crate::drain::Phase;
use crate::listen::{Busy, may_open};
use crate::serve::Opened;
use crate::tls::{ServerSide, Verified};
use crate::worker::Worker;

/// Where connections come in.
pub struct Door {
    pub worker: Arc<Worker>,
    pub tls: Arc<ServerSide>,
    pub is_loopback: bool,
}

/// A connection whose handshake is over, and who is at its other end.
pub struct Guest {
    pub worker: Arc<Worker>,
    pub connection: Connection,
    pub verified: Option<Arc<Verified>>,
    pub is_loopback: bool,
}

/// Serves one connection to its end. `place`: held while the handshake is under way.
pub async fn serve(door: Door, incoming: Incoming, place: OwnedSemaphorePermit, busy: Busy) {
    let worker = Arc::clone(&door.worker);
    if !may_open(&worker) {
        worker.tally.connections_refused.one();
        worker.shared.quic.on_refused(Refused::Full);
        incoming.refuse();
        return;
    }
    worker.tally.connections_opened.one();
    let opened = Opened::new(&worker, busy);
    let guest = shake_hands(door, incoming).await;
    drop(place);
    if let Some(guest) = guest {
        match guest.protocol().as_deref() {
            #[cfg(feature = "http3")]
            Some(settings::HTTP3) => super::h3::serve(guest).await,
            Some(settings::ATP) => super::atp::serve(guest).await,
            _ => guest.connection.close(NOT_SPOKEN, b"nothing is spoken under this protocol's name"),
        }
    }
    drop(opened);
}

async fn shake_hands(door: Door, incoming: Incoming) -> Option<Guest> {
    let Door { worker, tls, is_loopback } = door;
    // From here on the connection is driven by this worker's runtime.
    let connecting = incoming.accept().ok()?;
    let connection = match timeout(HANDSHAKE_WAIT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a QUIC handshake failed");
            return None;
        }
        Err(_) => {
            worker.tally.connections_cut_slow.one();
            return None;
        }
    };
    let chain =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    // Whether a session was resumed cannot be asked, so the certificate is looked at again.
    match tls.verify(chain.as_ref().map(|chain| chain.as_slice()), true) {
        Ok(verified) => {
            if verified.is_some() {
                settings::trust(&connection);
            }
            Some(Guest { worker, connection, verified, is_loopback })
        }
        Err(error) => {
            tracing::debug!(%error, "a session was resumed with a certificate that is good no more");
            connection.close(NOT_TRUSTED, b"the certificate is good no more");
            None
        }
    }
}

impl Guest {
    fn protocol(&self) -> Option<Vec<u8>> {
        self.connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
    }

    /// Until nothing new should begin: this data plane leaves, or its peer is trusted no more. A session of
    /// ATP looks for the first by itself.
    #[cfg(feature = "http3")]
    pub async fn leaving(&self) {
        let mut phases = self.worker.shared.phases();
        tokio::select! {
            // A sender that is gone means the process is ending: the same.
            _ = phases.wait_for(|phase| *phase >= Phase::Draining) => {}
            () = self.retired() => {}
        }
    }

    /// Until what there is has to end.
    pub async fn closing(&self) {
        let mut phases = self.worker.shared.phases();
        tokio::select! {
            // A sender that is gone means the process is ending: the same.
            _ = phases.wait_for(|phase| *phase >= Phase::Closing) => {}
            () = async { self.retired().await; sleep(RETIRED_WAIT).await } => {}
        }
    }

    async fn retired(&self) {
        match &self.verified {
            Some(verified) => verified.retired().await,
            None => std::future::pending().await,
        }
    }
}

/// From the proof of an address to the last flight of a handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// For requests under way of a peer that is trusted no more, within the half minute it is gone in.
const RETIRED_WAIT: Duration = Duration::from_secs(15);
const NOT_SPOKEN: VarInt = VarInt::from_u32(1);
const NOT_TRUSTED: VarInt = VarInt::from_u32(2);
