//! A server that is asked over HTTP/1.1 or, where TLS negotiates it or nothing else will do, HTTP/2: what
//! adapters of several kinds have in common. It knows paths and bytes, and nothing of what they say.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind, Retry};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use proto_core::model::{Auth, Endpoint, Scheme, SecretRef, TlsFiles};

use super::body::RopeBody;
use super::connect::{Connected, Connector};
use super::places::{Place, Places, Taken};
use super::pool::{Found, Http2, Lease, Stream};
use super::{Answer, Unusable, UpstreamBody, Ways, tls};
use crate::serve::headers::number;
use crate::worker::Worker;

#[derive(Debug)]
pub struct Server {
    connector: Connector,
    /// Value of `host`.
    authority: HeaderValue,
    /// Before a path, as HTTP/1.1 says it, and as HTTP/2 does.
    base: [String; 2],
    credential: Option<(HeaderName, HeaderValue)>,
    places: Places,
}

/// One path of a server: as HTTP/1.1 says it, and as HTTP/2 does.
#[derive(Debug)]
pub struct Target([Uri; 2]);

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    Any,
    /// HTTP/2, also in cleartext.
    Http2,
}

impl Server {
    pub fn build(
        endpoint: &Endpoint,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        versions: Versions,
        ways: &Ways,
    ) -> Result<Server, Unusable> {
        let tls = match endpoint.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::ClientSide::open(files)?),
        };
        let authority = endpoint.authority();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = [endpoint.base_path.to_string(), format!("{scheme}://{authority}{}", endpoint.base_path)];
        Ok(Server {
            connector: Connector::new(endpoint, tls, versions)?,
            authority: shared_value(authority.into_bytes())?,
            base,
            credential: auth.map(credential).transpose()?,
            places: ways.places(endpoint),
        })
    }

    /// `path`, behind the endpoint's own. Made once, so that a request only clones it.
    pub fn target(&self, path: &str) -> Result<Target, Unusable> {
        let uri = |base: &String| {
            let text = Bytes::from_owner(format!("{base}{path}").into_bytes());
            Uri::from_maybe_shared(text)
                .map_err(|error| Unusable(format!("the endpoint makes no URL: {error}")))
        };
        Ok(Target([uri(&self.base[0])?, uri(&self.base[1])?]))
    }

    pub async fn look_at_files(&self, adapter: &str) -> Option<bool> {
        let looked = self.connector.look_at_files(adapter).await;
        if looked == Some(true) {
            self.places.retire(self.connector.age());
        }
        looked
    }

    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Sends a request and waits for the head of its answer. Where a place cannot be reached, others are
    /// tried: nothing was sent.
    pub async fn send(
        &self,
        worker: &Arc<Worker>,
        target: &Target,
        headers: HeaderMap,
        body: Rope,
    ) -> Result<Answer, Fault> {
        let mut request = Request::new(RopeBody(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        if let Some((name, value)) = &self.credential {
            request.headers_mut().insert(name, value.clone());
        }
        let mut tried: Option<Arc<Place>> = None;
        for nth in 1..=PLACES_TRIED_MAX {
            let taken = self.places.take(worker, tried.as_ref()).await?;
            // Counted here: who asks first waits for the places to be found.
            let is_last = nth >= PLACES_TRIED_MAX.min(self.places.count());
            let place = Arc::clone(taken.place());
            let found = match place.pool(worker.id) {
                Some(pool) => pool.checkout(taken, worker.id, self.connector.age()),
                None => Err(taken),
            };
            let taken = match found {
                Err(taken) => taken,
                Ok(found) => match self.send_on(found, target, request).await {
                    Ok(answer) => return Ok(answer),
                    // It had gone stale and took nothing: once more on a fresh one.
                    Err(Failed::Unsent(unsent)) => {
                        request = *unsent;
                        Taken::of(&place)
                    }
                    Err(Failed::Fault(fault)) => return Err(fault),
                },
            };
            // Boxed: a connection is made once, its future need not be part of every exchange's.
            let connected = match Box::pin(self.connector.connect(place.address)).await {
                Ok(connected) => connected,
                Err(fault) => {
                    place.shun();
                    if is_last {
                        return Err(fault);
                    }
                    tried = Some(place);
                    continue;
                }
            };
            return match self.send_on(fresh(connected, taken, worker.id), target, request).await {
                Ok(answer) => Ok(answer),
                Err(Failed::Unsent(_)) => Err(Fault::upstream(Kind::Reset, Retry::Elsewhere)),
                Err(Failed::Fault(fault)) => Err(fault),
            };
        }
        Err(Fault::upstream(Kind::Connect, Retry::Elsewhere))
    }

    async fn send_on(
        &self,
        found: Found,
        target: &Target,
        request: Request<RopeBody>,
    ) -> Result<Answer, Failed> {
        match found {
            Found::Http1(lease) => self.send_http1(lease, target, request).await,
            Found::Http2(connection, stream) => self.send_http2(connection, stream, target, request).await,
        }
    }

    async fn send_http1(
        &self,
        mut lease: Lease,
        target: &Target,
        mut request: Request<RopeBody>,
    ) -> Result<Answer, Failed> {
        *request.uri_mut() = target.0[0].clone();
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
        target: &Target,
        mut request: Request<RopeBody>,
    ) -> Result<Answer, Failed> {
        *request.uri_mut() = target.0[1].clone();
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

/// A connection just made; one that carries many is put at the disposal of others.
fn fresh(connected: Connected, taken: Taken, worker: usize) -> Found {
    match connected {
        Connected::Http1(connection) => Found::Http1(Lease::new(connection, taken, worker)),
        Connected::Http2(connection) => {
            if let Some(pool) = taken.place().pool(worker) {
                pool.share(&connection);
            }
            let stream = connection.open(taken);
            Found::Http2(connection, stream)
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

/// Addresses that cannot be reached, one after the other, for one request.
const PLACES_TRIED_MAX: usize = 3;
