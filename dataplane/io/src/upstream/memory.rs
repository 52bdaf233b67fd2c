//! The memory gateway as seen from here: small calls over connections that are kept, each on behalf of one
//! caller. The caller's own key goes along, so the gateway finds out by itself whose memory it is; and what
//! it found is compared with who the caller is here. Nobody's key opens somebody else's memory on the way.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crossbeam_queue::ArrayQueue;
use dataplane_core::fault::{Fault, Kind};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use proto_core::model::{Endpoint, PUBLIC, Scheme};
use proto_core::units::Moment;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::body::RopeBody;
use super::connect::{Connected, Connector};
use super::server::Versions;
use super::{Unusable, tls};
use crate::clock;
use crate::serve::headers::number;
use crate::worker::Worker;

/// The means to reach it.
pub struct Memory {
    connector: Connector,
    authority: HeaderValue,
    /// `http://host:port` and the path before those of the gateway.
    origin: Box<str>,
    base: Box<str>,
    /// By worker.
    idle: Box<[ArrayQueue<(Connected, Moment)>]>,
    /// Calls that each worker may begin yet. Only ever tried, so nobody waits in it.
    places: Box<[Semaphore]>,
}

/// On whose behalf.
#[derive(Debug, Clone)]
pub struct Whose<'a> {
    /// As the data plane knows it.
    pub tenant: &'a str,
    /// What the caller sent; a `Bearer` value.
    pub key: Option<HeaderValue>,
}

/// One call.
#[derive(Debug)]
pub struct Ask<'a> {
    pub method: Method,
    /// Path and query, encoded.
    pub path: &'a str,
    /// JSON, or nothing.
    pub body: Bytes,
    /// Of the answer; a longer one is a fault.
    pub bytes_max: u32,
    /// Of whoever waits for it.
    pub deadline: Option<Moment>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Miss {
    Away,
    /// It is longer than asked for.
    Long,
}

/// What it said.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Memory {
    /// `workers`: threads that will call.
    pub fn build(endpoint: &Endpoint, workers: usize) -> Result<Memory, Unusable> {
        let (tls, scheme) = match endpoint.scheme {
            Scheme::Http => (None, "http"),
            Scheme::Https => (Some(tls::ClientSide::open(None)?), "https"),
        };
        let authority = endpoint.authority();
        let origin = format!("{scheme}://{authority}").into();
        let authority = HeaderValue::try_from(authority)
            .map_err(|_| Unusable("the memory gateway's address makes no header".into()))?;
        let idle = (0..workers).map(|_| ArrayQueue::new(IDLE_MAX)).collect();
        let places = (0..workers).map(|_| Semaphore::new(CALLS_MAX)).collect();
        let (connector, base) = (Connector::new(endpoint, tls, Versions::Any)?, endpoint.base_path.clone());
        Ok(Memory { connector, authority, origin, base, idle, places })
    }

    /// Makes one call. A status that is no success is a reply like any other, but those that say the gateway
    /// does not know the caller.
    ///
    /// # Errors
    /// [`Kind::MemoryAway`] where there is no answer, or [`CALLS_MAX`] are waited for;
    /// [`Kind::DeadlineExceeded`] where the caller's own time is over, [`Kind::MemoryRefused`] where the
    /// answer is for another caller.
    pub async fn call(&self, worker: &Worker, whose: &Whose<'_>, ask: Ask<'_>) -> Result<Reply, Fault> {
        let Ok(_place) = self.places[worker.id].try_acquire() else {
            worker.tally.memory_refusals.one();
            return Err(Fault::proxy(Kind::MemoryAway));
        };
        worker.tally.memory_calls.one();
        let left = ask.deadline.map(|deadline| deadline - clock::now());
        let is_callers = left.is_some_and(|left| left < CALL_WAIT);
        let wait = left.unwrap_or(CALL_WAIT).min(CALL_WAIT);
        let answered = timeout(wait, self.answered(worker, whose, &ask)).await;
        let outcome = match answered {
            Ok(Ok((head, body))) => {
                checked(head.status, &head.headers, whose).map(|status| Reply { status, body })
            }
            Ok(Err(Miss::Long)) => Err(Fault::client(Kind::ContextTooLarge { limit: ask.bytes_max })),
            Err(_) if is_callers => Err(Fault::proxy(Kind::DeadlineExceeded)),
            Ok(Err(Miss::Away)) | Err(_) => Err(Fault::proxy(Kind::MemoryAway)),
        };
        outcome.inspect_err(|_| worker.tally.memory_failures.one())
    }

    /// On a connection that is kept, and once more on a fresh one: every call says the same when it is said
    /// twice.
    async fn answered(&self, worker: &Worker, whose: &Whose<'_>, ask: &Ask<'_>) -> Result<Told, Miss> {
        let idle = &self.idle[worker.id];
        while let Some((mut connection, since)) = idle.pop() {
            if clock::now() - since >= IDLE_WAIT || !is_usable(&mut connection).await {
                continue;
            }
            let request = self.request(whose, ask, &connection).ok_or(Miss::Away)?;
            match send(&mut connection, request, ask.bytes_max).await {
                Err(Miss::Away) => {}
                Err(Miss::Long) => return Err(Miss::Long),
                Ok(told) => {
                    let _ = idle.push((connection, clock::now()));
                    return Ok(told);
                }
            }
        }
        let mut connection = Box::pin(self.connector.connect(None)).await.map_err(|_| Miss::Away)?;
        let request = self.request(whose, ask, &connection).ok_or(Miss::Away)?;
        let told = send(&mut connection, request, ask.bytes_max).await?;
        // A full queue drops it, which closes it.
        let _ = idle.push((connection, clock::now()));
        Ok(told)
    }

    fn request(&self, whose: &Whose<'_>, ask: &Ask<'_>, over: &Connected) -> Option<Request<RopeBody>> {
        let mut body = RopeBody::default();
        let length = ask.body.len() as u64;
        if length > 0 {
            body.0.push(ask.body.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = ask.method.clone();
        let path = format!("{}{}", self.base, ask.path);
        let is_http2 = matches!(over, Connected::Http2(_));
        let uri = if is_http2 { format!("{}{path}", self.origin) } else { path };
        *request.uri_mut() = Uri::try_from(uri).ok()?;
        let headers = request.headers_mut();
        if is_http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            headers.insert(HOST, self.authority.clone());
            headers.insert(CONTENT_LENGTH, number(length));
        }
        let headers = request.headers_mut();
        headers.insert(X_TENANT_ID, HeaderValue::try_from(whose.tenant).ok()?);
        if let Some(key) = &whose.key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        Some(request)
    }
}

/// Whether the gateway takes the caller for whom it is here. Who is nobody in particular here is whoever its
/// key says there.
fn checked(status: StatusCode, headers: &HeaderMap, whose: &Whose<'_>) -> Result<StatusCode, Fault> {
    let tenant = headers.get(X_TENANT_ID).map(HeaderValue::as_bytes);
    let is_same = whose.tenant == PUBLIC || tenant == Some(whose.tenant.as_bytes());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::proxy(Kind::MemoryRefused)),
        // A refusal names no tenant, and hands nothing out.
        status if status.is_success() && !is_same => Err(Fault::proxy(Kind::MemoryRefused)),
        status if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE => {
            Err(Fault::proxy(Kind::MemoryAway))
        }
        status => Ok(status),
    }
}

type Told = (http::response::Parts, Bytes);

async fn is_usable(connection: &mut Connected) -> bool {
    match connection {
        Connected::Http1(connection) => poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await,
        Connected::Http2(connection) => !connection.sender.is_closed(),
    }
}

async fn send(connection: &mut Connected, request: Request<RopeBody>, bytes_max: u32) -> Result<Told, Miss> {
    match connection {
        Connected::Http1(connection) => {
            let (sender, driver) = connection.parts();
            let mut whole = pin!(collect(sender.send_request(request), bytes_max));
            // Nothing arrives on such a connection unless it is driven: ask, drive, ask again.
            poll_fn(|cx| {
                if let Poll::Ready(told) = whole.as_mut().poll(cx) {
                    return Poll::Ready(told);
                }
                driver.poll(cx);
                whole.as_mut().poll(cx)
            })
            .await
        }
        Connected::Http2(connection) => collect(connection.sender.send_request(request), bytes_max).await,
    }
}

async fn collect(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    bytes_max: u32,
) -> Result<Told, Miss> {
    let (head, mut incoming) = response.await.map_err(|_| Miss::Away)?.into_parts();
    let mut body = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(|_| Miss::Away)?.into_data() else { continue };
        if body.len() + piece.len() > bytes_max as usize {
            return Err(Miss::Long);
        }
        body.extend_from_slice(&piece);
    }
    Ok((head, body.freeze()))
}

const X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
/// A call in all, connecting included: a gateway that works answers in a few milliseconds, and somebody
/// waits.
pub const CALL_WAIT: Duration = Duration::from_secs(2);
/// Calls of one worker at once, each with a connection and an answer of up to a megabyte. A gateway that
/// works answers in a few milliseconds, so that many at once mean that it does not; nobody is to wait behind
/// them.
pub const CALLS_MAX: usize = 256;
/// Connections kept for one worker.
const IDLE_MAX: usize = 2;
/// Shorter than the gateway keeps one that is idle.
const IDLE_WAIT: Duration = Duration::from_secs(60);
