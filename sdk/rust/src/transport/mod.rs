//! What carries sessions: WebSocket, HTTP/2, QUIC. Each makes a [`Link`] of a connection, moves frames both
//! ways, and knows nothing of what they say.

mod h2;
mod quic;
mod tls;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use proto_core::frame::Encoding;
use proto_core::model::{Endpoint, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::options::{Options, Tls, Via};
use crate::session::link::{Dial, Link};
use crate::{Failure, url};

/// Where sessions are carried to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was given, for messages.
    address: Box<str>,
    endpoint: Endpoint,
    via: Via,
    encoding: Encoding,
    key: Option<Box<str>>,
    tls: Tls,
}

/// A connection's bytes, in the clear or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Target {
    pub fn new(address: &str, options: &Options) -> Result<Target, Failure> {
        let endpoint = url::parse(address)?;
        let refuse = |why| Err(Failure::Url(address.into(), why));
        if options.via == Via::Quic && endpoint.scheme == Scheme::Http {
            return refuse("QUIC is always encrypted; use https:// and the port for TLS");
        }
        if options.key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return refuse("the key holds a character HTTP cannot carry");
        }
        Ok(Target {
            address: address.into(),
            endpoint,
            via: options.via,
            encoding: options.encoding,
            key: options.key.as_deref().map(Into::into),
            tls: options.tls.clone(),
        })
    }

    /// Makes a connection each time it is called.
    pub fn dial(self) -> Dial {
        let target = Arc::new(self);
        Arc::new(move || {
            let target = Arc::clone(&target);
            Box::pin(async move { target.connect().await })
        })
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let connecting = async {
            match self.via {
                Via::Ws => ws::connect(self).await,
                Via::H2 => h2::connect(self).await,
                Via::Quic => quic::connect(self).await,
            }
        };
        match timeout(CONNECT_WAIT, connecting).await {
            Ok(link) => link,
            Err(_) => Err(self.unreachable("no connection in time")),
        }
    }

    /// The bytes under HTTP. `alpn`: what is spoken over TLS.
    async fn stream(&self, alpn: &[u8]) -> Result<Box<dyn Stream>, Failure> {
        stream(&self.address, &self.endpoint, &self.tls, alpn).await
    }

    fn unreachable(&self, why: impl ToString) -> Failure {
        unreachable(&self.address, why)
    }
}

/// A connection to `endpoint`, in the clear or not, as its scheme says.
pub async fn stream(
    address: &str,
    endpoint: &Endpoint,
    files: &Tls,
    alpn: &[u8],
) -> Result<Box<dyn Stream>, Failure> {
    let place = (&*endpoint.host, endpoint.port);
    let stream = TcpStream::connect(place).await.map_err(|error| unreachable(address, error))?;
    // Frames are small and each is wanted at once.
    stream.set_nodelay(true).map_err(|error| unreachable(address, error))?;
    if endpoint.scheme == Scheme::Http {
        return Ok(Box::new(stream));
    }
    let connector = TlsConnector::from(Arc::new(tls::client(files, alpn)?));
    let name = tls::server_name(&endpoint.host)?;
    let stream = connector.connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| unreachable(address, error))?))
}

fn unreachable(address: &str, why: impl ToString) -> Failure {
    Failure::Unreachable { address: address.into(), why: why.to_string() }
}

/// Longer than a handshake across the world.
pub const CONNECT_WAIT: Duration = Duration::from_secs(5);
