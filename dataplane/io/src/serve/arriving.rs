//! A request's body as it arrives, whichever protocol carries it. Never keeps what it has handed out.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use dataplane_core::fault::{Fault, Kind};
use hyper::body::{Body, Incoming};

/// Not read yet.
pub enum Arriving {
    /// Over HTTP/1.1 and HTTP/2.
    Hyper(Incoming),
    #[cfg(feature = "http3")]
    Http3(Box<super::quic::h3::Body>),
}

impl Arriving {
    /// The next piece; `None` at the end.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Fault>> {
        match self {
            Arriving::Hyper(body) => loop {
                match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
                    // Trailers say nothing that is asked for.
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => return Some(Ok(data)),
                        Err(_) => continue,
                    },
                    Err(error) => return Some(Err(unread(&error))),
                }
            },
            #[cfg(feature = "http3")]
            Arriving::Http3(body) => body.piece().await,
        }
    }
}

/// Why a body could not be read on: chunks that are none (the HTTP/1.1 decoder says so by these two kinds),
/// else the client went away.
fn unread(error: &hyper::Error) -> Fault {
    let decoder = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let kind = decoder.map(io::Error::kind);
    if matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) {
        return Fault::client(Kind::InvalidField(
            "transfer-encoding",
            "chunks as RFC 9112 section 7.1 has them",
        ));
    }
    Fault::client(Kind::ClientGone)
}
