//! A connection that ends once its peer's certificate is trusted no more: taken back, or its authority gone.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::IntCounter;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Loaded;
use crate::listen::Connection;

/// One connection behind TLS.
pub struct Watched {
    io: TlsStream<Connection>,
    /// `None` for a peer that showed no certificate.
    lost: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Watched {
    /// `trust`: of the moment the handshake began, see [`Loaded::trust`]; `retired` counts its early end.
    pub fn new(
        io: TlsStream<Connection>,
        trust: u64,
        changes: watch::Receiver<Arc<Loaded>>,
        retired: IntCounter,
    ) -> Watched {
        let chain = io.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let watching = |chain| Box::pin(lost(chain, trust, changes, retired)) as Pin<Box<_>>;
        Watched { io, lost: chain.map(|chain| watching(chain) as _) }
    }
}

/// Until the chain is trusted no more. One that only grows old is not looked at again: it was good when its
/// holder came.
async fn lost(
    chain: Vec<CertificateDer<'static>>,
    mut trust: u64,
    mut changes: watch::Receiver<Arc<Loaded>>,
    retired: IntCounter,
) {
    loop {
        let Ok(loaded) = changes.wait_for(|loaded| loaded.trust != trust).await.map(|now| Arc::clone(&now))
        else {
            // The control plane stops, and every connection with it.
            return std::future::pending().await;
        };
        trust = loaded.trust;
        // Not all connections at once: each look is worth half a handshake.
        sleep(SPREAD.mul_f64(RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64)).await;
        if is_lost(&loaded, &chain) {
            retired.inc();
            return;
        }
    }
}

fn is_lost(loaded: &Loaded, chain: &[CertificateDer<'static>]) -> bool {
    let Some((own, between)) = chain.split_first() else { return false };
    // Certificates are asked for no more: this one says nothing any more, and tokens say who calls.
    let Some(verifier) = &loaded.verifier else { return true };
    match verifier.verify_client_cert(own, between, UnixTime::now()) {
        Ok(_) => false,
        Err(Error::InvalidCertificate(error)) => {
            !matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })
        }
        Err(_) => true,
    }
}

impl Connected for Watched {
    type ConnectInfo = <TlsStream<Connection> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(lost) = &mut this.lost
            && lost.as_mut().poll(cx).is_ready()
        {
            this.lost = None;
            tracing::info!("a connection ends: its certificate is trusted no more");
            let what = "the certificate is trusted no more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, what)));
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
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

/// Within which connections look whether they are still trusted.
const SPREAD: Duration = Duration::from_secs(5);
