//! A session over HTTP/2: `POST /atp/v1/session`, both bodies at once; each frame behind its length, in the
//! encoding that the content type names.

use dataplane_state::pipe;
use std::sync::Arc;

use bytes::Bytes;
use dataplane_core::fault::{Fault, Kind};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use proto_core::frame::Encoding;
use tokio::time::timeout;

use super::conversation;
use super::cutter::{Begun, Cutter};
use super::link::{Inbound, Out, branch};
use super::opening::Caller;
use super::told;
use crate::serve::Peer;
use crate::serve::answer::AnswerBody;
use crate::serve::arriving::Arriving;
use crate::serve::guard::HEAD_WAIT;

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
    let Some(begun) = peer.stage.begun_bytes().map(|bytes| Begun::of(&peer.worker, bytes)) else {
        return Err(Fault::proxy(Kind::Internal));
    };
    let (out, told) = told::channel(peer.stage.unsent(), &peer.worker.ledger);
    tokio::spawn(carry(caller, body, Cutter::new(&begun), out, encoding));
    let mut response = Response::new(AnswerBody::told(told));
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn carry(caller: Caller, mut body: Arriving, mut cutter: Cutter, out: Out, encoding: Encoding) {
    // The first frame says which session it is.
    let Some(inbound) = begin(caller, &mut body, &mut cutter, out, encoding).await else { return };
    read(body, cutter, inbound, encoding).await;
}

/// The session of the first frame; `None` where there is no such frame.
async fn begin(
    caller: Caller,
    body: &mut Arriving,
    cutter: &mut Cutter,
    out: Out,
    encoding: Encoding,
) -> Option<pipe::Sender<Inbound>> {
    // On the heap: for all its life the task would carry the room for what it does once.
    let first = Box::pin(timeout(HEAD_WAIT, next(body, cutter))).await.ok()??;
    match encoding.decode(&first) {
        Ok(frame) => {
            let (link, inbound) = branch(encoding, out);
            tokio::spawn(conversation::run(caller, frame, link));
            Some(inbound)
        }
        Err(malformed) => {
            tracing::debug!(%malformed, "a session began with what is no frame");
            None
        }
    }
}

/// Until the client ends its side, or the session is over.
async fn read(mut body: Arriving, mut cutter: Cutter, mut to: pipe::Sender<Inbound>, encoding: Encoding) {
    loop {
        let message = tokio::select! {
            message = next(&mut body, &mut cutter) => message,
            // A client that leaves its side open is not waited for.
            () = to.closed() => None,
        };
        let Some(message) = message else { return };
        let inbound = match encoding.decode(&message) {
            Ok(frame) => Inbound::Frame(Box::new(frame)),
            Err(malformed) => Inbound::Malformed(malformed),
        };
        if to.send(inbound).await.is_err() {
            return;
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
