//! A fresh connection: name, TCP, TLS, handshake; all within one deadline.

use std::net::SocketAddr;
use std::time::Duration;

use dataplane_core::fault::{Fault, Kind, Retry};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto_core::model::Endpoint;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Unusable;
use super::pool::{Http1, Http2};
use super::server::Versions;
use super::tls::ClientSide;

#[derive(Debug)]
pub struct Connector {
    host: Box<str>,
    port: u16,
    tls: Option<(ClientSide, ServerName<'static>)>,
    versions: Versions,
}

pub enum Connected {
    Http1(Http1),
    Http2(Http2),
}

impl Connector {
    pub fn new(
        endpoint: &Endpoint,
        tls: Option<ClientSide>,
        versions: Versions,
    ) -> Result<Connector, Unusable> {
        let name = || {
            ServerName::try_from(endpoint.server_name().to_owned())
                .map_err(|_| Unusable(format!("`{}` is no name a certificate can carry", endpoint.host)))
        };
        let tls = tls.map(|side| Ok((side, name()?))).transpose()?;
        Ok(Connector { host: endpoint.host.clone(), port: endpoint.port, tls, versions })
    }

    pub async fn look_at_files(&self, adapter: &str) -> Option<bool> {
        let (side, _) = self.tls.as_ref()?;
        side.look(adapter).await
    }

    /// See [`ClientSide::age`]; without TLS nothing ages.
    pub fn age(&self) -> u64 {
        self.tls.as_ref().map_or(0, |(side, _)| side.age())
    }

    /// To this address; `None`: to whatever the system finds behind the host.
    pub async fn connect(&self, address: Option<SocketAddr>) -> Result<Connected, Fault> {
        match timeout(CONNECT_WAIT, self.open(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(Fault::upstream(Kind::ConnectTimeout, Retry::Elsewhere)),
        }
    }

    async fn open(&self, address: Option<SocketAddr>) -> Result<Connected, Fault> {
        let age = self.age();
        let unreachable = |_| Fault::upstream(Kind::Connect, Retry::Elsewhere);
        let stream = match address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((&*self.host, self.port)).await,
        };
        let stream = stream.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some((side, name)) = &self.tls else {
            return match self.versions {
                Versions::Any => http1_over(stream, age).await.map(Connected::Http1),
                Versions::Http2 => http2_over(stream, age).await.map(Connected::Http2),
            };
        };
        let connector = TlsConnector::from(side.config());
        let stream = connector.connect(name.clone(), stream).await.map_err(|error| {
            tracing::warn!(host = %self.host, %error, "TLS to an adapter failed");
            Fault::upstream(Kind::Tls, Retry::Elsewhere)
        })?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2_over(stream, age).await.map(Connected::Http2)
        } else if self.versions == Versions::Http2 {
            tracing::warn!(host = %self.host, "an adapter that needs HTTP/2 does not speak it");
            Err(Fault::upstream(Kind::Tls, Retry::Elsewhere))
        } else {
            http1_over(stream, age).await.map(Connected::Http1)
        }
    }
}

async fn http1_over<I>(io: I, age: u64) -> Result<Http1, Fault>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|_| Fault::upstream(Kind::Connect, Retry::Elsewhere))?;
    Ok(Http1::new(sender, connection, age))
}

async fn http2_over<I>(io: I, age: u64) -> Result<Http2, Fault>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PING_WAIT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|_| Fault::upstream(Kind::Connect, Retry::Elsewhere))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an adapter ended");
        }
    });
    Ok(Http2::new(sender, age))
}

/// Name, TCP and TLS together. A reachable server answers within a second even across the world.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The head of an answer, or one read of its body.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// All streams of a connection together fit its window: none can take it from the others.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Half of it bounds unread small frames before the HTTP/2 library gives up the whole connection, so it is
/// wide.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
const HTTP2_PING_WAIT: Duration = Duration::from_secs(10);
