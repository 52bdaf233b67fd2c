//! Any OpenAI-compatible server, over HTTP/1.1 or, where TLS negotiates it, HTTP/2.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use dataplane_core::fault::{Fault, Kind, Retry};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use proto_core::model::{Auth, Endpoint, Scheme, SecretRef, TlsFiles};

use super::body::RopeBody;
use super::connect::{Connected, Connector};
use super::pool::{Found, Http2, Lease, Pool, Stream};
use super::{Answer, Call, Path, Unusable, Upstream, UpstreamBody, tls};
use crate::serve::headers::number;
use crate::worker::Worker;

#[derive(Debug)]
pub struct OpenAi {
    connector: Connector,
    /// Value of `host`.
    authority: HeaderValue,
    /// By [`Path`]: as HTTP/1.1 says it, and as HTTP/2 does.
    paths: [(Uri, Uri); Path::ALL.len()],
    credential: Option<(HeaderName, HeaderValue)>,
    /// By worker.
    pools: Box<[Pool]>,
    /// Of its adapter's pools, the first of these.
    first_pool: usize,
}

impl OpenAi {
    pub fn build(
        endpoint: &Endpoint,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        workers: usize,
    ) -> Result<OpenAi, Unusable> {
        let tls = match endpoint.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::ClientSide::open(files)?),
        };
        let authority = endpoint.authority();
        let uri = |text: String| {
            let text = Bytes::from_owner(text.into_bytes());
            Uri::from_maybe_shared(text)
                .map_err(|error| Unusable(format!("the endpoint makes no URL: {error}")))
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let both = |path: Path| {
            let base = format!("{}{}", endpoint.base_path, path.as_str());
            Ok((uri(base.clone())?, uri(format!("{scheme}://{authority}{base}"))?))
        };
        Ok(OpenAi {
            connector: Connector::new(endpoint, tls)?,
            authority: shared_value(authority.clone().into_bytes())?,
            paths: [both(Path::ALL[0])?, both(Path::ALL[1])?, both(Path::ALL[2])?],
            credential: auth.map(credential).transpose()?,
            pools: (0..workers).map(|_| Pool::new()).collect(),
            first_pool: 0,
        })
    }

    /// As one place of several that an adapter has: its pools are counted from `first`.
    pub fn with_pools_from(self, first: usize) -> OpenAi {
        OpenAi { first_pool: first, ..self }
    }

    pub async fn look_at_files(&self, adapter: &str) -> Option<bool> {
        let looked = self.connector.look_at_files(adapter).await;
        if looked == Some(true) {
            let age = self.connector.age();
            self.pools.iter().for_each(|pool| pool.retire(age));
        }
        looked
    }

    pub fn pool(&self, worker: usize) -> &Pool {
        &self.pools[worker]
    }

    pub async fn send(
        &self,
        upstream: &Arc<Upstream>,
        worker: &Arc<Worker>,
        call: Call,
    ) -> Result<Answer, Fault> {
        let path = call.path;
        let mut request = Request::new(RopeBody(call.body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = call.headers;
        if let Some((name, value)) = &self.credential {
            request.headers_mut().insert(name, value.clone());
        }
        let slot = self.first_pool + worker.id;
        if let Some(found) = self.pool(worker.id).checkout(upstream, slot, self.connector.age()) {
            match self.send_on(found, path, request).await {
                Ok(answer) => return Ok(answer),
                // It had gone stale and took nothing: once more on a fresh one.
                Err(Failed::Unsent(unsent)) => request = *unsent,
                Err(Failed::Fault(fault)) => return Err(fault),
            }
        }
        // Boxed: a connection is made once, its future need not be part of every exchange's.
        let connected = Box::pin(self.connector.connect()).await?;
        let found = match connected {
            Connected::Http1(connection) => Found::Http1(Lease::new(connection, upstream, slot)),
            Connected::Http2(connection) => {
                self.pool(worker.id).share(&connection);
                let stream = connection.open().expect("a fresh connection has room");
                Found::Http2(connection, stream)
            }
        };
        match self.send_on(found, path, request).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Unsent(_)) => Err(Fault::upstream(Kind::Reset, Retry::Elsewhere)),
            Err(Failed::Fault(fault)) => Err(fault),
        }
    }

    async fn send_on(&self, found: Found, path: Path, request: Request<RopeBody>) -> Result<Answer, Failed> {
        match found {
            Found::Http1(lease) => self.send_http1(lease, path, request).await,
            Found::Http2(connection, stream) => self.send_http2(connection, stream, path, request).await,
        }
    }

    async fn send_http1(
        &self,
        mut lease: Lease,
        path: Path,
        mut request: Request<RopeBody>,
    ) -> Result<Answer, Failed> {
        *request.uri_mut() = self.paths[path as usize].0.clone();
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, self.authority.clone());
        let length = request.body().0.len();
        let stated =
            request.headers().get(CONTENT_LENGTH).and_then(|stated| stated.to_str().ok()?.parse().ok());
        if stated != Some(length) {
            request.headers_mut().insert(CONTENT_LENGTH, number(length));
        }
        let connection = lease.connection();
        if !poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
            return Err(Failed::Unsent(Box::new(request)));
        }
        let (sender, driver) = connection.parts();
        let mut sending = pin!(sender.try_send_request(request));
        let sent = poll_fn(|cx| {
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            driver.poll(cx);
            sending.as_mut().poll(cx)
        });
        match sent.await {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let body = UpstreamBody::http1(incoming, lease);
                Ok(Answer { status: head.status, headers: head.headers, body })
            }
            Err(mut error) => Err(failed(error.take_message(), error.error())),
        }
    }

    async fn send_http2(
        &self,
        mut connection: Http2,
        stream: Stream,
        path: Path,
        mut request: Request<RopeBody>,
    ) -> Result<Answer, Failed> {
        *request.uri_mut() = self.paths[path as usize].1.clone();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(HOST);
        request.headers_mut().remove(CONTENT_LENGTH);
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let body = UpstreamBody::http2(incoming, stream);
                Ok(Answer { status: head.status, headers: head.headers, body })
            }
            Err(mut error) => Err(failed(error.take_message(), error.error())),
        }
    }
}

enum Failed {
    /// Nothing was sent; here it is again.
    Unsent(Box<Request<RopeBody>>),
    Fault(Fault),
}

fn failed(unsent: Option<Request<RopeBody>>, error: &hyper::Error) -> Failed {
    if let Some(request) = unsent {
        return Failed::Unsent(Box::new(request));
    }
    let reason = source::<h2::Error>(error).and_then(h2::Error::reason);
    let fault = if reason == Some(h2::Reason::REFUSED_STREAM) {
        Fault::upstream(Kind::Refused, Retry::Elsewhere)
    } else if error.is_parse() {
        Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost)
    } else {
        Fault::upstream(Kind::Reset, Retry::ElsewhereAtCost)
    };
    Failed::Fault(fault)
}

fn source<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn credential(auth: &Auth) -> Result<(HeaderName, HeaderValue), Unusable> {
    let (name, mut value) = match auth {
        Auth::Bearer(secret) => {
            (AUTHORIZATION, shared_value(format!("Bearer {}", read(secret)?).into_bytes())?)
        }
        Auth::Header { name, value } => {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Unusable(format!("`{name}` is no header name")))?;
            (name, shared_value(read(value)?.into_bytes())?)
        }
    };
    value.set_sensitive(true);
    Ok((name, value))
}

fn read(secret: &SecretRef) -> Result<String, Unusable> {
    let found = match secret {
        SecretRef::Env(name) => std::env::var(&**name).map_err(|_| {
            Unusable(format!("the environment variable {name} is not set on this data plane"))
        })?,
        SecretRef::File(path) => std::fs::read_to_string(&**path)
            .map_err(|error| Unusable(format!("the secret file {path} cannot be read: {error}")))?,
    };
    let trimmed = found.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err(Unusable("the secret is empty".into()));
    }
    Ok(trimmed.into())
}

/// Shared, so that clones do not allocate. The error never shows the value: it may be a secret.
fn shared_value(bytes: Vec<u8>) -> Result<HeaderValue, Unusable> {
    HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| Unusable("the value holds a character that headers cannot carry".into()))
}
