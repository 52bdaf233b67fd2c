//! `atp.adapter.v1.AdapterService` as an adapter: a call is one stream of an HTTP/2 connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::grpc::{self, Pieces, Status};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind, Retry};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proto_core::model::{Auth, Endpoint, Name, TlsFiles};

use super::beside::Beside;
use super::retold::{self, Retold, Words, status_of};
use super::server::{Server, Target, Versions};
use super::{Answer, Call, Unusable, UpstreamBody, Ways, chat_only};
use crate::clock;
use crate::worker::Worker;

#[derive(Debug)]
pub struct Grpc {
    pub server: Arc<Server>,
    stream: Target,
    beside: Arc<Beside>,
}

impl Grpc {
    pub fn build(
        endpoint: &Endpoint,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        ways: &Ways,
    ) -> Result<Grpc, Unusable> {
        let server = Arc::new(Server::build(endpoint, auth, files, Versions::Http2, ways)?);
        let stream = server.target(grpc::STREAM)?;
        let beside = Arc::new(Beside::of(&server)?);
        Ok(Grpc { server, stream, beside })
    }

    pub fn health(&self) -> Option<(f64, f64)> {
        self.beside.health()
    }

    pub async fn send(&self, adapter: &Name, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        chat_only(call.path)?;
        let chunks = retold::chunks(worker, adapter.as_str());
        let prompt = grpc::prompt(&call.body.joined())?;
        self.beside.ask(&self.server, worker, &call, &prompt);
        let frame = grpc::stream(&format!("{:016x}", worker.random()), prompt);
        let left = clock::instant(call.deadline).saturating_duration_since(tokio::time::Instant::now());
        let headers = headers(&call.headers, left);
        let body = Rope::from(Bytes::from(frame));
        let answer = self.server.send(worker, &self.stream, headers, body).await?;
        if let Some(status) = status_of(&answer.headers) {
            return refused(status, &answer.headers);
        }
        if answer.status != StatusCode::OK {
            // No gRPC at all: some server between, whose status is all there is.
            let code = answer.status.as_u16();
            let kind = Kind::Status { code, retry_after_s: None };
            return Err(Fault::of_status(code, None).unwrap_or(Fault::upstream(kind, Retry::Never)));
        }
        let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
        if !answer.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost));
        }
        let words = Words::Grpc { pieces: Pieces::new(chunks), status: None };
        let body = UpstreamBody::retold(Retold::new(answer.body, words));
        retold::answer(body, call.streamed, &worker.ledger).await
    }
}

/// What goes along with a call: of the caller's, only what names the request.
pub fn headers(of_caller: &HeaderMap, left: Duration) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("atp"));
    for name in ["traceparent", "tracestate", "x-request-id"] {
        if let Some(value) = of_caller.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    // At most eight digits (gRPC over HTTP/2, "Requests").
    let millis = left.as_millis().clamp(1, 99_999_999);
    let timeout = HeaderValue::from_maybe_shared(Bytes::from(format!("{millis}m")));
    headers.insert("grpc-timeout", timeout.expect("digits and a letter"));
    headers
}

/// A call that ended before it began. What is the caller's own doing is told in the adapter's words.
fn refused(status: Status, headers: &HeaderMap) -> Result<Answer, Fault> {
    let fault = match grpc::fault(status) {
        // A stream without a piece and without an error is no answer.
        None => return Err(Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost)),
        Some(fault) => fault,
    };
    match (fault.kind, fault.retry) {
        (Kind::Status { code: code @ 400..=499, .. }, Retry::Never) => {
            let message = headers.get("grpc-message").map(|value| grpc::message(value.as_bytes()));
            let status = StatusCode::from_u16(code).expect("a code of the table");
            Ok(retold::refusal(status, message.as_deref().unwrap_or("the adapter refused the request")))
        }
        _ => Err(fault),
    }
}
