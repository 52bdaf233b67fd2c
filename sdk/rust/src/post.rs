//! One POST over HTTP, in the clear or behind TLS, on a connection of its own, and its answer line by line.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::options::Tls;
use crate::transport::{CONNECT_WAIT, stream};
use crate::{Failure, url};

/// What is sent.
pub(crate) struct Post<'p> {
    /// `http://host:port` or `https://host:port`, perhaps with a path of its own.
    pub address: &'p str,
    /// Used where the address says `https`.
    pub tls: &'p Tls,
    /// After the address's own.
    pub path: &'p str,
    pub key: Option<&'p str>,
    pub accept: &'static str,
    /// Beside these.
    pub headers: &'p [(&'static str, &'p str)],
    pub body: Vec<u8>,
}

/// An answer with a status of success, on its way.
#[derive(Debug)]
pub(crate) struct Lines {
    pub headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    /// The connection; ends with this value.
    driver: tokio::task::JoinHandle<()>,
}

impl Post<'_> {
    /// # Errors
    /// Nobody there, or a refusal: then with what it said.
    pub async fn send(self) -> Result<Lines, Failure> {
        let endpoint = url::parse(self.address)?;
        let unreachable = |why: String| Failure::Unreachable { address: self.address.into(), why };
        let connecting = timeout(CONNECT_WAIT, stream(self.address, &endpoint, self.tls, HTTP1));
        let stream = connecting.await.map_err(|_| unreachable("no connection in time".into()))??;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
        let driver = tokio::spawn(async move {
            // How it ends shows at the body.
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{}", endpoint.base_path, self.path))
            .header(HOST, endpoint.authority())
            .header(ACCEPT, self.accept)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(self.body))).map_err(|_| {
            Failure::Url(self.address.into(), "the path or the key holds a character HTTP cannot carry")
        })?;
        let response =
            within(sender.send_request(request)).await?.map_err(|error| Failure::Broken(chain(&error)))?;
        let (head, body) = response.into_parts();
        let mut lines = Lines { headers: head.headers, body, buffer: BytesMut::new(), driver };
        if head.status.is_success() { Ok(lines) } else { Err(lines.refusal(head.status.as_u16()).await) }
    }
}

impl Lines {
    /// The next line without its end; what stands behind the last end is a line too. `None`: it is over.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::Garbled("a line is longer than 16 MiB".into()));
            }
            match within(self.body.frame()).await? {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure::Broken(chain(&error))),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(self.buffer.split().freeze())),
            }
        }
    }

    async fn refusal(&mut self, status: u16) -> Failure {
        while let Ok(Some(Ok(frame))) = within(self.body.frame()).await {
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
            if self.buffer.len() > REFUSAL_BYTES_MAX {
                break;
            }
        }
        Failure::Rejected { status, said: String::from_utf8_lossy(&self.buffer).into_owned() }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(SILENCE_MAX, work).await.map_err(|_| Failure::Timeout(SILENCE_MAX.as_secs()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// In ALPN's words (RFC 7301 section 6).
const HTTP1: &[u8] = b"http/1.1";
/// Longer than a data plane waits for a first token by default.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
