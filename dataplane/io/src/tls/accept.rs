//! A handshake over TCP: within its time, its bytes and its place, or not at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{Error, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::ServerSide;
use super::verify::{Verified, reason};

/// A connection behind TLS.
pub type Secured = TlsStream<Bounded>;

/// Makes the handshake; `None` where it fails, which is counted.
pub async fn accept(side: &Arc<ServerSide>, stream: TcpStream) -> Option<(Secured, Option<Arc<Verified>>)> {
    let counts = &side.counts;
    let Ok(_place) = side.places.try_acquire() else {
        counts.on_refused("crowded");
        return None;
    };
    let stream = Bounded { io: stream, left: Some(HANDSHAKE_BYTES_MAX) };
    let trust = side.trust();
    let mut stream = match timeout(HANDSHAKE_WAIT, TlsAcceptor::from(side.tcp()).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            on_failed(side, &error);
            return None;
        }
        Err(_) => {
            counts.on_refused("slow");
            return None;
        }
    };
    let (io, session) = stream.get_mut();
    io.left = None;
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    // Who is trusted may have changed meanwhile: nobody looks at this connection for that change again.
    let is_unjudged = is_resumed || side.trust() != trust;
    match side.verify(session.peer_certificates(), is_unjudged) {
        Ok(verified) => {
            counts.on_handshake(is_resumed);
            Some((stream, verified))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection was made with a certificate that is good no more");
            None
        }
    }
}

fn on_failed(side: &ServerSide, error: &io::Error) {
    tracing::debug!(%error, "a TLS handshake failed");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        // Counted where it was judged.
        Some(Error::InvalidCertificate(_)) => {}
        Some(error) => side.counts.on_refused(reason(error)),
        None => side.counts.on_refused("other"),
    }
}

/// A socket that gives so many bytes and no more, until it is told that its peer is known.
#[derive(Debug)]
pub struct Bounded {
    io: TcpStream,
    left: Option<usize>,
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(left) = &mut this.left else { return Pin::new(&mut this.io).poll_read(cx, buf) };
        if *left == 0 {
            let what = "more bytes than a handshake has";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        // Unfilled memory is lent as a buffer of its own, with an end.
        let most = buf.remaining().min(*left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        let read = Pin::new(&mut this.io).poll_read(cx, &mut part);
        let taken = part.filled().len();
        *left -= taken;
        buf.advance(taken);
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// From the first byte of a connection to the last of its handshake: three ways around the world are one
/// second.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// A greeting with a post-quantum key share is 2 KiB, a chain of certificates a few more.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;
