//! A listener with a bound on connections, each with a bound on silence. Past the first, callers wait in the
//! kernel's queue; past the second, the connection ends, so that peers who say nothing cannot hold every
//! place.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A bound port.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
}

impl Bound {
    pub async fn new(address: SocketAddr, connections_max: usize) -> io::Result<Bound> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, address, places: Arc::new(Semaphore::new(connections_max)) })
    }

    /// With the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, once there is a place for it.
    pub async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("this semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((io, peer)) => {
                    // Small messages both ways; a failure only costs latency.
                    let _ = io.set_nodelay(true);
                    return (Connection { io, silence: Box::pin(sleep(SILENCE_MAX)), _place: place }, peer);
                }
                Err(error) => {
                    // Of one connection, or of the machine (no file descriptors left): the next try tells.
                    tracing::warn!(%error, address = %self.address, "a connection was not accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// The connections as a stream, accepted by a task that ends with the stream.
    pub fn into_stream(mut self) -> ReceiverStream<io::Result<Connection>> {
        // One: accepted while the server takes the one before.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    (connection, _) = self.accept() => {
                        if sender.send(Ok(connection)).await.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

impl axum::serve::Listener for Bound {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        Bound::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that holds its place and ends after too long a silence of the peer.
#[derive(Debug)]
pub struct Connection {
    io: TcpStream,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
            return Poll::Ready(read);
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Longer than the 40 s within which a living gRPC peer has answered a keepalive ping.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// Before accepting again after a failure: long enough not to spin where file descriptors ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;

    async fn bound(connections_max: usize) -> Bound {
        Bound::new(SocketAddr::from(([127, 0, 0, 1], 0)), connections_max).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_past_the_bound_waits_until_another_ends() {
        let mut bound = bound(1).await;
        let _first = TcpStream::connect(bound.address()).await.unwrap();
        let _second = TcpStream::connect(bound.address()).await.unwrap();
        let (taken, _) = bound.accept().await;
        // The clock is paused: it jumps past the second only when everything has come to rest.
        let waited = timeout(Duration::from_secs(1), bound.accept()).await;
        assert!(waited.is_err(), "there was no place");
        drop(taken);
        bound.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_dropped() {
        let mut bound = bound(1).await;
        let _silent = TcpStream::connect(bound.address()).await.unwrap();
        let (mut connection, _) = bound.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
