//! What goes back to a client: an answer's body in its forms, and a fault in the caller's words.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::Peer;
use super::atp::Told;
use super::guard::Serving;
use super::headers::{REQUEST_ID, X_ATP_COST, X_ATP_LOOP, X_REQUEST_ID, number};
use super::pump::Pumped;
use super::unsent::{Parcel, Share};
use crate::relay::{Cut, Relay};
use crate::words::{Dialect, Telling};

/// A body on its way out.
pub struct AnswerBody {
    form: Form,
    /// Ends with the answer, so that the connection waits for the next request.
    serving: Option<Serving>,
    /// What of a whole answer is not handed over.
    share: Option<Share>,
}

#[expect(clippy::large_enum_variant, reason = "one a connection, in a box that hyper keeps")]
enum Form {
    Whole(Rope),
    /// Read from upstream as the client takes it: one HTTP/1.1 connection each way.
    Relayed {
        relay: Box<Relay>,
        telling: Box<Telling>,
        trailers: Trailers,
    },
    /// Read from upstream by a task, since somebody else shares its connection.
    Pumped(Pumped),
    /// What a session says.
    Told(Box<Told>),
}

/// The cost of a stream is known when it is over; it goes into a trailer where the client takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    Unwanted,
    Due,
}

impl AnswerBody {
    pub fn whole(rope: Rope) -> AnswerBody {
        AnswerBody::of(Form::Whole(rope))
    }

    pub fn text(text: impl Into<Bytes>) -> AnswerBody {
        AnswerBody::whole(Rope::from(text.into()))
    }

    pub fn relayed(relay: Relay, telling: Telling, trailers: Trailers) -> AnswerBody {
        let form = Form::Relayed { relay: Box::new(relay), telling: Box::new(telling), trailers };
        AnswerBody::of(form)
    }

    pub fn pumped(pumped: Pumped) -> AnswerBody {
        AnswerBody::of(Form::Pumped(pumped))
    }

    pub fn told(told: Told) -> AnswerBody {
        AnswerBody::of(Form::Told(Box::new(told)))
    }

    /// The request it answers ends when this body is done or dropped.
    pub fn on(mut self, peer: &Peer, serving: Serving) -> AnswerBody {
        self.serving = Some(serving);
        if let Form::Whole(rope) = &self.form {
            self.share = Some(Share::new(peer.stage.unsent(), &peer.worker.ledger, rope.len()));
        }
        self
    }

    fn of(form: Form) -> AnswerBody {
        AnswerBody { form, serving: None, share: None }
    }
}

impl Body for AnswerBody {
    type Data = Parcel;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Parcel>, Cut>>> {
        let this = self.get_mut();
        match &mut this.form {
            Form::Whole(rope) => Poll::Ready(rope.pop_front().map(|bytes| {
                let share = this.share.as_mut().map(|share| share.split(bytes.len() as u64));
                Ok(Frame::data(Parcel { bytes, share }))
            })),
            Form::Pumped(pumped) => pumped.poll_frame(cx),
            Form::Told(told) => told.poll_frame(cx),
            Form::Relayed { relay, telling, trailers } => {
                match std::task::ready!(relay.poll_piece(cx, |fault| telling.event(fault))) {
                    Some(piece) => {
                        let parcel = |bytes| Frame::data(Parcel { bytes, share: None });
                        Poll::Ready(Some(piece.map(parcel)))
                    }
                    None if *trailers == Trailers::Due => {
                        *trailers = Trailers::Unwanted;
                        let cost = relay.charge().cost().as_usd_micros_ceil();
                        Poll::Ready(Some(Ok(Frame::trailers(cost_trailer(cost)))))
                    }
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.form, Form::Whole(rope) if rope.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.form {
            Form::Whole(rope) => SizeHint::with_exact(rope.len()),
            _ => SizeHint::default(),
        }
    }
}

pub fn cost_trailer(usd_micros: u64) -> HeaderMap {
    HeaderMap::from_iter([(X_ATP_COST, number(usd_micros))])
}

/// A fault, as this caller's dialect says it.
pub fn refusal(telling: &Telling, fault: Fault) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(telling.body(fault)));
    let status = StatusCode::from_u16(telling.status(fault)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_REQUEST_ID, telling.request_id().clone());
    if telling.dialect == Dialect::Anthropic {
        headers.insert(REQUEST_ID, telling.request_id().clone());
    }
    if let Some(seconds) = fault.retry_after_s() {
        headers.insert(RETRY_AFTER, number(u64::from(seconds)));
    }
    if matches!(fault.kind, Kind::Loop) {
        headers.insert(X_ATP_LOOP, HeaderValue::from_static("1"));
    }
    response
}
