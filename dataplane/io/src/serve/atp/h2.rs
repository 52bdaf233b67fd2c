//! A session over HTTP/2: `POST /atp/v1/session`, both bodies at once; each frame behind its length, in the
//! encoding that the content type names.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dataplane_core::fault::{Fault, Kind};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use proto_core::frame::{Encoding, Frame};
use proto_core::session::prefixed;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::conversation;
use super::cutter::Cutter;
use super::link::{Inbound, Outbound, Plug, link};
use super::opening::Caller;
use crate::serve::Peer;
use crate::serve::answer::AnswerBody;
use crate::serve::arriving::Arriving;
use crate::serve::guard::HEAD_WAIT;
use crate::serve::pump::{self, Pump};

/// Opens the way; the session itself is refused or granted in frames.
pub fn open(peer: &Arc<Peer>, headers: &HeaderMap, body: Arriving) -> Result<Response<AnswerBody>, Fault> {
    if !peer.is_h2 {
        return Err(Fault::client(Kind::InvalidField("protocol", "HTTP/2; over HTTP/1.1 there is /ws")));
    }
    let named = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let named = named.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let encoding = Encoding::ALL.into_iter().find(|encoding| encoding.content_type().as_bytes() == named);
    let Some(encoding) = encoding else {
        let types = "application/atp+json, application/atp+cbor or application/atp+bin";
        return Err(Fault::client(Kind::InvalidField("content-type", types)));
    };
    let caller = Caller { peer: Arc::clone(peer), headers: Arc::new(super::credentials(headers)) };
    caller.check()?;
    let (pump, pumped) = pump::channel(&peer.worker, &peer.stage);
    tokio::spawn(carry(caller, body, pump, encoding));
    let mut response = Response::new(AnswerBody::pumped(pumped));
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn carry(caller: Caller, mut body: Arriving, pump: Pump, encoding: Encoding) {
    let mut cutter = Cutter::new(&caller.peer.worker.ledger);
    // The first frame says which session it is.
    let first = match timeout(HEAD_WAIT, next(&mut body, &mut cutter)).await {
        Ok(Some(message)) => encoding.decode(&message),
        Ok(None) | Err(_) => return,
    };
    let first: Frame = match first {
        Ok(frame) => frame,
        Err(malformed) => {
            tracing::debug!(%malformed, "a session began with what is no frame");
            return;
        }
    };
    let (link, Plug { inbound, out }) = link(encoding);
    tokio::spawn(conversation::run(caller, first, link));
    tokio::select! {
        () = read(body, cutter, inbound, encoding) => {}
        () = write(pump, out) => {}
    }
}

/// Until the client ends its side, or the session is over.
async fn read(mut body: Arriving, mut cutter: Cutter, to: mpsc::Sender<Inbound>, encoding: Encoding) {
    while let Some(message) = next(&mut body, &mut cutter).await {
        let inbound = match encoding.decode(&message) {
            Ok(frame) => Inbound::Frame(Box::new(frame)),
            Err(malformed) => Inbound::Malformed(malformed),
        };
        if to.send(inbound).await.is_err() {
            // Over. What it had to say is being written.
            std::future::pending::<()>().await;
        }
    }
}

/// The next message, whole; `None` where there is none, or where its length is none.
async fn next(body: &mut Arriving, cutter: &mut Cutter) -> Option<Bytes> {
    loop {
        match cutter.poll() {
            Ok(Some(message)) => return Some(message),
            Ok(None) => cutter.on_bytes(body.piece().await?.ok()?),
            Err(uncut) => {
                tracing::debug!(%uncut, "a session cannot be read on");
                return None;
            }
        }
    }
}

/// Small frames that are there together leave together: a client's library charges for each small piece.
async fn write(pump: Pump, mut out: mpsc::Receiver<Outbound>) {
    let mut batch = BytesMut::new();
    while let Some(first) = out.recv().await {
        let mut next = Some(first);
        while let Some(outbound) = next {
            batch.extend_from_slice(&prefixed(&outbound.message));
            if outbound.message.len() > ALONE_BYTES_MIN {
                // Long enough not to be copied.
                if pump.send(batch.split().freeze()).await.is_err()
                    || pump.send(outbound.message).await.is_err()
                {
                    return;
                }
            } else {
                batch.extend_from_slice(&outbound.message);
            }
            next = if batch.len() < BATCH_BYTES { out.try_recv().ok() } else { None };
        }
        if pump.send(batch.split().freeze()).await.is_err() {
            return;
        }
    }
    pump.finish(None).await;
}

const BATCH_BYTES: usize = 16 * 1024;
const ALONE_BYTES_MIN: usize = 4096;
