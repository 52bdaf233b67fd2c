//! What requests want of the memory gateway: the items that an ask names, and the one demonstration that
//! existing deployments check their wiring with.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use dataplane_core::admit::pressure::Level;
use dataplane_core::dialect::ask::context::{self, Context};
use dataplane_core::fault::{Fault, Kind};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use proto_core::units::Moment;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::AnswerBody;
use super::headers::X_API_KEY;
use super::http::{Arrived, held, identify, refused};
use super::intake::Intake;
use crate::admission::{envelope, may_begin};
use crate::clock;
use crate::upstream::memory::{Ask, Memory, Whose};
use crate::words::{Dialect, Telling};
use crate::worker::Worker;

/// What an ask gets of what it named.
#[derive(Debug, Default)]
pub struct Fetched {
    /// As it stands inside the quotes of a JSON string, before the prompt.
    pub text: Bytes,
    used: usize,
    missing: Vec<String>,
    is_asked_for: bool,
}

impl Fetched {
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// Appends the line that says what was found, where something was asked for.
    pub fn tell(&self, out: &mut Vec<u8>) {
        if self.is_asked_for {
            context::event(self.used, &self.missing, out);
        }
    }
}

/// On whose behalf: the tenant, with the key it sent.
fn whose<'a>(headers: &HeaderMap, tenant: &'a str) -> Whose<'a> {
    Whose { tenant, key: key(headers) }
}

/// The key a caller sent, as the gateway wants it.
pub fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(AUTHORIZATION).or_else(|| headers.get(X_API_KEY));
    key.and_then(|value| {
        let value = value.as_bytes();
        let is_bearer = value.len() > 7 && value[..7].eq_ignore_ascii_case(b"bearer ");
        let key = if is_bearer { value[7..].trim_ascii() } else { value };
        let mut key = HeaderValue::from_bytes(&[b"Bearer ", key].concat()).ok()?;
        key.set_sensitive(true);
        Some(key)
    })
}

/// Fetches what `context_refs` names, in its order; nothing where it names nothing, or no gateway is set up.
/// `debt` grows by it. `deadline`: of the ask; what is fetched takes of its time.
///
/// # Errors
/// What stands there is no list of places, is larger than [`CONTEXT_BYTES_MAX`], or the gateway gave no
/// answer: an answer of the model without what it was to be about would be a wrong one.
pub async fn fetch(
    worker: &Worker,
    (headers, tenant): (&HeaderMap, &str),
    Intake { head, body, debt }: &mut Intake,
    deadline: Moment,
) -> Result<Fetched, Fault> {
    let Some(memory) = &worker.shared.memory else { return Ok(Fetched::default()) };
    let refs = context::refs(body, head)?;
    if refs.is_empty() {
        return Ok(Fetched::default());
    }
    let whose = &whose(headers, tenant);
    let mut gets: Vec<Getting<'_>> = Vec::with_capacity(refs.len());
    for place in &refs {
        gets.push(Box::pin(get(memory, worker, whose, place, deadline)));
    }
    let mut values = stream::iter(gets).buffered(TOGETHER_MAX);
    let mut text = Context::default();
    let mut fetched = Fetched { is_asked_for: true, ..Fetched::default() };
    let mut places = refs.iter();
    while let Some(value) = values.try_next().await? {
        let place = places.next().expect("each place has one outcome");
        match value.as_deref().and_then(object) {
            Some(object) => {
                text.add(place, object);
                fetched.used += 1;
            }
            None => fetched.missing.push(place.clone()),
        }
        if text.bytes() > u64::from(CONTEXT_BYTES_MAX) {
            return Err(too_large());
        }
    }
    if !debt.try_grow(text.bytes()) {
        return Err(Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() }));
    }
    fetched.text = text.finish();
    Ok(fetched)
}

type Getting<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Fault>> + Send + 'a>>;

/// What is at a place; `None`: nothing.
async fn get(
    memory: &Memory,
    worker: &Worker,
    whose: &Whose<'_>,
    place: &str,
    deadline: Moment,
) -> Result<Option<Bytes>, Fault> {
    let path = format!("/v1/memory/{}", encoded(place));
    let bytes_max = CONTEXT_BYTES_MAX + AROUND_BYTES_MAX;
    let deadline = Some(deadline);
    let ask = Ask { method: Method::GET, path: &path, body: Bytes::new(), bytes_max, deadline };
    let reply = memory.call(worker, whose, ask).await?;
    match reply.status.as_u16() {
        200 => Ok(Some(reply.body)),
        // It is no place there.
        400 | 404 => Ok(None),
        _ => Err(Fault::proxy(Kind::MemoryAway)),
    }
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// The value of an item; `None`: the answer says that there is none.
fn object(answer: &[u8]) -> Option<&str> {
    serde_json::from_slice::<Item<'_>>(answer).ok()?.object.map(RawValue::get)
}

fn too_large() -> Fault {
    Fault::client(Kind::ContextTooLarge { limit: CONTEXT_BYTES_MAX })
}

/// A place as a path says it. Percent signs stay: a caller may have written `%2F`.
pub fn encoded(place: &str) -> String {
    let mut out = String::with_capacity(place.len());
    for byte in place.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'%' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `GET /mem/put`: puts one small item, and says how that went.
pub async fn serve(arrived: &Arrived, uri: &Uri) -> Response<AnswerBody> {
    let telling = Telling::new(Dialect::Ask, &arrived.request_id).about_path(uri.path());
    let told = demonstrate(arrived, uri).await;
    told.unwrap_or_else(|fault| refused(&arrived.peer, &telling, fault))
}

async fn demonstrate(arrived: &Arrived, uri: &Uri) -> Result<Response<AnswerBody>, Fault> {
    let worker = &arrived.peer.worker;
    let held = held(&arrived.peer)?;
    let tenant = identify(&held.table, &arrived.headers, &arrived.peer)?;
    may_begin(worker, &held, tenant, &envelope(&arrived.headers)?)?;
    let text = match &worker.shared.memory {
        Some(memory) if worker.shared.config.memory.has_demonstration => {
            let query = uri.query().unwrap_or_default();
            let (namespace, key) = (value(query, "ns", "tenant/acme"), value(query, "key", "demo"));
            let path = format!("/v1/memory/{namespace}/{key}");
            let object = serde_json::json!({"object": {"type": "demo", "at": clock::unix_seconds()}});
            let whose = whose(&arrived.headers, held.table.tenant(tenant).name.as_str());
            let body = object.to_string().into();
            let bytes_max = AROUND_BYTES_MAX;
            let ask = Ask { method: Method::PUT, path: &path, body, bytes_max, deadline: None };
            match memory.call(worker, &whose, ask).await {
                Ok(reply) if reply.status.is_success() => format!("ok: {}\n", reply.status),
                Ok(reply) => format!("error: the memory gateway answered {}\n", reply.status),
                Err(fault) => format!("error: {}\n", fault.code()),
            }
        }
        _ => "memory wiring disabled\n".into(),
    };
    let mut response = Response::new(AnswerBody::text(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// A value of a query as a path says it.
fn value(query: &str, name: &str, default: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    encoded(pairs.find(|(known, _)| *known == name).map_or(default, |(_, value)| value))
}

/// Of all items of an ask together: a long context of a small model.
pub const CONTEXT_BYTES_MAX: u32 = 256 * 1024;
/// What an answer says beside an item's value.
const AROUND_BYTES_MAX: u32 = 4096;
/// Items fetched at once for one ask.
const TOGETHER_MAX: usize = 4;
