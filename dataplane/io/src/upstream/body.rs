//! Bodies to and from adapters.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind, Retry};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::attached::AttachedBody;
use super::echo::EchoBody;
use super::pool::{Lease, Stream};
use super::retold::Retold;

/// A request's body: pieces whose length is known, so that it is sent with `content-length` in as few writes
/// as it takes.
#[derive(Debug, Default)]
pub struct RopeBody(pub Rope);

impl Body for RopeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len())
    }
}

/// An answer's body. Dropping it before its end cancels the work upstream.
#[derive(Debug)]
pub struct UpstreamBody(Source);

#[derive(Debug)]
enum Source {
    Http1 {
        incoming: Incoming,
        lease: Option<Lease>,
    },
    Http2 {
        incoming: Incoming,
        _stream: Stream,
    },
    Echo(EchoBody),
    Attached(AttachedBody),
    /// In other words than it came.
    Retold(Box<Retold>),
    /// All of it.
    Whole(Option<Bytes>),
}

/// What comes of a body.
#[derive(Debug)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl UpstreamBody {
    pub fn http1(incoming: Incoming, lease: Lease) -> UpstreamBody {
        UpstreamBody(Source::Http1 { incoming, lease: Some(lease) })
    }

    pub fn http2(incoming: Incoming, stream: Stream) -> UpstreamBody {
        UpstreamBody(Source::Http2 { incoming, _stream: stream })
    }

    pub fn echo(body: EchoBody) -> UpstreamBody {
        UpstreamBody(Source::Echo(body))
    }

    pub fn attached(body: AttachedBody) -> UpstreamBody {
        UpstreamBody(Source::Attached(body))
    }

    pub fn retold(body: Retold) -> UpstreamBody {
        UpstreamBody(Source::Retold(Box::new(body)))
    }

    pub fn whole(body: Bytes) -> UpstreamBody {
        UpstreamBody(Source::Whole(Some(body)))
    }

    /// Many streams on one connection: not reading one for long would hurt the others.
    pub fn is_shared(&self) -> bool {
        match &self.0 {
            Source::Http2 { .. } => true,
            Source::Retold(body) => body.is_shared(),
            Source::Http1 { .. } | Source::Echo(_) | Source::Attached(_) | Source::Whole(_) => false,
        }
    }

    /// Bytes to come, where the upstream said.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Source::Http1 { incoming, .. } | Source::Http2 { incoming, .. } => incoming.size_hint().exact(),
            Source::Echo(body) => body.length(),
            Source::Whole(body) => Some(body.as_ref().map_or(0, |body| body.len() as u64)),
            Source::Attached(_) | Source::Retold(_) => None,
        }
    }

    /// The next piece; `None` at a clean end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            match ready!(self.poll_piece(cx)) {
                Some(Ok(Piece::Data(data))) => return Poll::Ready(Some(Ok(data))),
                // They carry nothing a caller of ours knows.
                Some(Ok(Piece::Trailers(_))) => {}
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// The next piece, trailers included.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        let data = |data: Option<Result<Bytes, Fault>>| data.map(|data| data.map(Piece::Data));
        loop {
            let frame = match &mut self.0 {
                Source::Http1 { incoming, lease } => ready!(poll_driven(incoming, lease.as_mut(), cx)),
                Source::Http2 { incoming, .. } => ready!(Pin::new(incoming).poll_frame(cx)),
                Source::Echo(body) => return body.poll_data(cx).map(|piece| data(piece.map(Ok))),
                Source::Attached(body) => return body.poll_data(cx).map(data),
                Source::Retold(body) => return body.poll_data(cx).map(data),
                Source::Whole(body) => return Poll::Ready(data(body.take().map(Ok))),
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(Piece::Data(data)))),
                    Err(frame) => {
                        // HTTP has no other kinds of frame.
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        return Poll::Ready(Some(Ok(Piece::Trailers(trailers))));
                    }
                },
                Some(Err(_)) => {
                    return Poll::Ready(Some(Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost))));
                }
                None => {
                    if let Source::Http1 { lease, .. } = &mut self.0
                        && let Some(lease) = lease.take()
                    {
                        lease.give_back(cx);
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

/// Nothing arrives on a connection unless it is driven: ask, drive, ask again.
fn poll_driven(incoming: &mut Incoming, lease: Option<&mut Lease>, cx: &mut Context<'_>) -> Polled {
    if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) {
        return Poll::Ready(frame);
    }
    if let Some(lease) = lease {
        lease.connection().parts().1.poll(cx);
    }
    Pin::new(incoming).poll_frame(cx)
}
