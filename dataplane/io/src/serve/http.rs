//! One request: what it asks for, who asks, and which room answers.

use std::sync::Arc;

use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::{Table, TenantId};
use dataplane_state::tally::Operation;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use proto_core::units::Moment;
use sha2::{Digest, Sha256};

use super::answer::{AnswerBody, refusal};
use super::arriving::Arriving;
use super::atp::{h2, ws};
use super::headers::{X_API_KEY, request_id};
use super::{Peer, ask, completions, count, health, mcp, memory, models};
use crate::admin::is_foreign;
use crate::callers::Asker;
use crate::clock;
use crate::drain::Phase;
use crate::served::Hold;
use crate::trace::{self, Trace};
use crate::upstream::Path;
use crate::words::{Dialect, Telling};

/// A request whose head is understood.
pub struct Arrived {
    pub peer: Arc<Peer>,
    pub headers: HeaderMap,
    pub body: Arriving,
    pub at: Moment,
    pub request_id: HeaderValue,
    /// Where it is traced.
    pub trace: Option<Trace>,
}

/// Answers one request; never fails, a fault is an answer.
pub async fn serve(peer: Arc<Peer>, request: Request<Arriving>) -> Response<AnswerBody> {
    let at = clock::now();
    let serving = peer.stage.on_head();
    let (mut head, body) = request.into_parts();
    let on_upgrade = head.extensions.remove::<OnUpgrade>();
    let worker = &peer.worker;
    worker.tally.requests_started.one();
    let request_id = request_id(&head.headers, worker);
    let is_addressed = is_addressed(&peer, head.version, &head.headers);
    let protocol = head.extensions.remove::<Protocol>();
    if !worker.shared.config.hosts.is_empty() {
        name_host(&mut head.headers, &head.uri);
    }
    let (operation, door) = match is_addressed {
        true if head.method == Method::CONNECT => tunnelling(protocol.as_ref(), head.uri.path()),
        true if ws::is_wanted(&head.headers) => upgrading(&head.method, head.uri.path()),
        true => door(&head.method, head.uri.path()),
        false => {
            (Operation::Other, Door::Wrong(Fault::client(Kind::InvalidField("host", "there, and once"))))
        }
    };
    let trace = match door {
        Door::Completions(_) | Door::Ask => worker.trace(|| trace::parent(&head.headers), operation, at),
        _ => None,
    };
    let arrived = Arrived { peer: Arc::clone(&peer), headers: head.headers, body, at, request_id, trace };
    let unanswered = Unanswered(Some(&peer));
    let mut response = if arrived.headers.len() > HEADERS_MAX {
        too_many_headers()
    } else {
        open(door, arrived, &head.uri, on_upgrade).await
    };
    unanswered.on_answered();
    let counted = response.extensions_mut().remove::<mcp::Counted>();
    let status = counted.map_or(response.status().as_u16(), |mcp::Counted(status)| status);
    peer.worker.tally.answered(operation, status);
    peer.stage.on_body();
    let may_stay = peer.worker.ledger.level().may_keep_alive() && !peer.worker.shared.is_past(Phase::Leaving);
    let is_upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    let ends = !is_upgraded && (!may_stay || !is_addressed);
    if ends && !peer.is_h2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| body.on(&peer, serving))
}

/// Counts a request whose client went away before its answer began: then this is dropped with the future.
struct Unanswered<'a>(Option<&'a Peer>);

impl Unanswered<'_> {
    fn on_answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(peer) = self.0 {
            peer.worker.tally.cancelled.one();
            peer.worker.tally.error(Fault::client(Kind::ClientGone));
        }
    }
}

async fn open(
    door: Door,
    arrived: Arrived,
    uri: &Uri,
    on_upgrade: Option<OnUpgrade>,
) -> Response<AnswerBody> {
    let path = uri.path();
    let target = ws::Target { path, query: uri.query() };
    match door {
        Door::WebSocket => {
            let telling = Telling::new(Dialect::OpenAi, &arrived.request_id).about_path(path);
            let wanted = on_upgrade.filter(|_| ws::is_wanted(&arrived.headers));
            let what = "websocket over HTTP/1.1; over HTTP/2 an extended CONNECT";
            let wanted = wanted.ok_or(Fault::client(Kind::InvalidField("upgrade", what)));
            let upgraded =
                wanted.and_then(|wanted| ws::upgrade(&arrived.peer, &arrived.headers, target, wanted));
            upgraded.unwrap_or_else(|fault| refused(&arrived.peer, &telling, fault))
        }
        Door::Tunnel => {
            let telling = Telling::new(Dialect::OpenAi, &arrived.request_id).about_path(path);
            let wanted = on_upgrade.ok_or(Fault::client(Kind::InvalidField(":protocol", "over HTTP/2")));
            let connected =
                wanted.and_then(|wanted| ws::connect(&arrived.peer, &arrived.headers, target, wanted));
            connected.unwrap_or_else(|fault| refused(&arrived.peer, &telling, fault))
        }
        Door::Session => {
            let telling = Telling::new(Dialect::OpenAi, &arrived.request_id).about_path(path);
            let opened = h2::open(&arrived.peer, &arrived.headers, arrived.body);
            opened.unwrap_or_else(|fault| refused(&arrived.peer, &telling, fault))
        }
        Door::Completions(upstream) => completions::serve(arrived, upstream).await,
        Door::CountTokens => count::serve(arrived).await,
        Door::Ask => ask::serve(arrived).await,
        Door::Mcp { is_get } => mcp::serve(arrived, is_get, uri.authority().map(Authority::as_str)).await,
        Door::Models => models::list(&arrived),
        Door::Model => models::one(&arrived, path.strip_prefix(MODEL_PREFIX).unwrap_or_default()),
        Door::Health(health::What::Metrics) if !arrived.peer.worker.shared.config.shows_metrics => {
            let telling = Telling::new(Dialect::OpenAi, &arrived.request_id).about_path(path);
            refused(&arrived.peer, &telling, Fault::client(Kind::PathUnknown))
        }
        Door::Health(health::What::Adapters) if !arrived.peer.worker.shared.config.shows_adapters => {
            let telling = Telling::new(Dialect::OpenAi, &arrived.request_id).about_path(path);
            refused(&arrived.peer, &telling, Fault::client(Kind::PathUnknown))
        }
        Door::MemoryPut => memory::serve(&arrived, uri).await,
        Door::Health(what) => health::answer(&arrived.peer.worker.shared, what).await,
        Door::Wrong(fault) => {
            let telling = Telling::new(dialect(path), &arrived.request_id).about_path(path);
            refused(&arrived.peer, &telling, fault)
        }
        Door::Elsewhere(methods) => {
            let telling = Telling::new(dialect(path), &arrived.request_id).about_path(path);
            let mut response = refused(&arrived.peer, &telling, Fault::client(Kind::MethodNotAllowed));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            response
        }
    }
}

/// In whose shape those are told who ask for nothing there is.
fn dialect(path: &str) -> Dialect {
    if path.starts_with("/v1/messages") { Dialect::Anthropic } else { Dialect::OpenAi }
}

/// A request over HTTP/1.1 without a host, or with two, is none (RFC 9112 §3.2): they are how two proxies are
/// made to read one request differently.
fn is_addressed(peer: &Peer, version: Version, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().take(2).count();
    peer.is_h2 || hosts == 1 || (hosts == 0 && version == Version::HTTP_10)
}

/// Over HTTP/2 and HTTP/3 the host stands in the request's target.
fn name_host(headers: &mut HeaderMap, uri: &Uri) {
    let authority = uri.authority().filter(|_| !headers.contains_key(HOST));
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        headers.insert(HOST, host);
    }
}

/// What CONNECT may ask for: a WebSocket on a stream of HTTP/2 (RFC 8441). Nobody is connected to elsewhere.
fn tunnelling(protocol: Option<&Protocol>, path: &str) -> (Operation, Door) {
    let door = match (protocol.map(Protocol::as_str), path) {
        (Some("websocket"), "/ws" | "/" | "/mcp") => Door::Tunnel,
        (Some("websocket"), _) => Door::Wrong(Fault::client(Kind::PathUnknown)),
        (Some(_), _) => Door::Wrong(Fault::client(Kind::InvalidField(":protocol", "websocket"))),
        (None, _) => return door(&Method::CONNECT, path),
    };
    (Operation::Other, door)
}

/// Where WebSockets are served: the path of sessions, and those that existing clients dial.
fn upgrading(method: &Method, path: &str) -> (Operation, Door) {
    match path {
        "/ws" | "/" | "/mcp" if *method == Method::GET => (Operation::Other, Door::WebSocket),
        _ => door(method, path),
    }
}

enum Door {
    WebSocket,
    Tunnel,
    Session,
    Completions(Path),
    CountTokens,
    Ask,
    Mcp {
        is_get: bool,
    },
    Models,
    Model,
    MemoryPut,
    Health(health::What),
    Wrong(Fault),
    /// There is a door, for this method.
    Elsewhere(&'static str),
}

fn door(method: &Method, path: &str) -> (Operation, Door) {
    if path == "/mcp" {
        return match *method {
            Method::POST => (Operation::Mcp, Door::Mcp { is_get: false }),
            Method::GET => (Operation::Mcp, Door::Mcp { is_get: true }),
            _ => (Operation::Mcp, Door::Elsewhere("GET, POST")),
        };
    }
    let (wanted, operation, door) = match path {
        "/v1/chat/completions" => (Method::POST, Operation::Chat, Door::Completions(Path::ChatCompletions)),
        "/v1/completions" => (Method::POST, Operation::Completions, Door::Completions(Path::Completions)),
        "/v1/embeddings" => (Method::POST, Operation::Embeddings, Door::Completions(Path::Embeddings)),
        "/v1/messages" => (Method::POST, Operation::Chat, Door::Completions(Path::Messages)),
        "/v1/messages/count_tokens" => (Method::POST, Operation::Other, Door::CountTokens),
        "/v1/ask" => (Method::POST, Operation::Ask, Door::Ask),
        "/atp/v1/session" => (Method::POST, Operation::Other, Door::Session),
        "/ws" => (Method::GET, Operation::Other, Door::WebSocket),
        "/v1/models" => (Method::GET, Operation::Models, Door::Models),
        "/mem/put" => (Method::GET, Operation::Other, Door::MemoryPut),
        "/healthz" => (Method::GET, Operation::Other, Door::Health(health::What::Health)),
        "/readyz" => (Method::GET, Operation::Other, Door::Health(health::What::Ready)),
        "/metrics" => (Method::GET, Operation::Other, Door::Health(health::What::Metrics)),
        "/adapters/health" => (Method::GET, Operation::Other, Door::Health(health::What::Adapters)),
        _ if path.starts_with(MODEL_PREFIX) => (Method::GET, Operation::Models, Door::Model),
        _ => return (Operation::Other, Door::Wrong(Fault::client(Kind::PathUnknown))),
    };
    let is_right = *method == wanted || (wanted == Method::GET && *method == Method::HEAD);
    let door = match is_right {
        true => door,
        false if wanted == Method::POST => Door::Elsewhere("POST"),
        false => Door::Elsewhere("GET, HEAD"),
    };
    (operation, door)
}

/// Who makes a request. Where callers may ask so often only, this counts it.
pub fn identify(table: &Table, headers: &HeaderMap, peer: &Peer) -> Result<TenantId, Fault> {
    let (found, key) = who(table, headers, peer);
    if let Some(callers) = &peer.worker.shared.callers {
        let named = peer.verified.as_ref().map(|verified| Asker::Named(&verified.name));
        let known = key.as_ref().map(Asker::Key).or(named).filter(|_| found.is_ok() && table.wants_keys());
        callers.on_request(known.unwrap_or(Asker::At(peer.address)), clock::now())?;
    }
    // Last: it is told to those who may ask.
    let tenant = found?;
    peer.worker.shared.mark.check(headers)?;
    Ok(tenant)
}

/// Who calls, without counting it.
pub fn known(table: &Table, headers: &HeaderMap, peer: &Peer) -> Result<TenantId, Fault> {
    who(table, headers, peer).0
}

/// By a verified certificate and by the key sent along, and that key's hash. Hashed only where anybody has
/// one.
fn who(table: &Table, headers: &HeaderMap, peer: &Peer) -> (Result<TenantId, Fault>, Option<[u8; 32]>) {
    if !table.wants_keys() {
        // Whoever is on this machine is served without a key; a page in its browser is somebody else.
        if is_foreign(headers) {
            return (Err(Fault::client(Kind::Foreign)), None);
        }
        return (caller(table, peer, None), None);
    }
    let mut bearers = headers.get_all(AUTHORIZATION).iter();
    let key = match (bearers.next(), bearers.next()) {
        // Two credentials are an attempt to be two callers.
        (Some(_), Some(_)) => return (Err(Fault::client(Kind::KeyUnknown)), None),
        (Some(value), None) => {
            let value = value.as_bytes();
            let is_bearer = value.len() > 7 && value[..7].eq_ignore_ascii_case(b"bearer ");
            Some(if is_bearer { value[7..].trim_ascii() } else { value })
        }
        (None, _) => headers.get(X_API_KEY).map(HeaderValue::as_bytes),
    };
    let hash = key.filter(|key| !key.is_empty()).map(|key| <[u8; 32]>::from(Sha256::digest(key)));
    // Who needs no key may still be a page in somebody's browser.
    let found = caller(table, peer, hash.as_ref());
    let is_anybody = found.is_ok() && hash.is_none() && peer.identity().is_none();
    let is_elsewhere = || match peer.is_loopback {
        true => is_foreign(headers),
        false => is_of_another_name(headers, peer),
    };
    if is_anybody && (is_of_another_origin(headers, None) || is_elsewhere()) {
        return (Err(Fault::client(Kind::Foreign)), None);
    }
    (found, hash)
}

/// A browser names the page that calls; one that is not of this very server has no business here, whatever
/// key it has got hold of. On loopback any port of this machine is its own
/// ([`is_foreign`] judges those).
pub fn is_of_another_origin(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).or(authority);
    let is_same = origin.split_once("://").is_some_and(|(_, of)| Some(of) == host);
    !is_same && is_foreign(headers)
}

/// Where its names are said, a request that calls this data plane otherwise comes from a page whose owner has
/// bound their name to its address. Addresses need no saying: no such page is found by one.
fn is_of_another_name(headers: &HeaderMap, peer: &Peer) -> bool {
    let hosts = &peer.worker.shared.config.hosts;
    let Some(host) = headers.get(HOST).filter(|_| !hosts.is_empty()) else { return false };
    !host.to_str().is_ok_and(|host| is_listed(hosts, host))
}

fn is_listed(hosts: &[Box<str>], host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let name = name.strip_suffix('.').unwrap_or(name);
    address.is_ok() || name == "localhost" || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn caller(table: &Table, peer: &Peer, key: Option<&[u8; 32]>) -> Result<TenantId, Fault> {
    match peer.identity() {
        Some(identity) => table.identify_verified(identity, key, peer.is_loopback),
        None => table.identify(key, peer.is_loopback),
    }
}

/// What is served now, or why nothing is.
pub fn held(peer: &Peer) -> Result<Hold, Fault> {
    if peer.worker.shared.is_past(Phase::Closing) {
        return Err(Fault::proxy(Kind::Draining));
    }
    peer.worker.shared.tables.load().ok_or(Fault::proxy(Kind::NotReady))
}

/// A fault as an answer, and counted.
pub fn refused(peer: &Peer, telling: &Telling, fault: Fault) -> Response<AnswerBody> {
    peer.worker.tally.error(fault);
    refusal(telling, fault)
}

fn too_many_headers() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text("at most 64 headers are taken\n"));
    *response.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

const MODEL_PREFIX: &str = "/v1/models/";
/// Common clients send fifteen.
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_said_are_known_with_and_without_a_port_and_addresses_always() {
        let hosts = ["router".into(), "Router.example.com".into()];
        for ours in [
            "router",
            "ROUTER:7443",
            "router.example.com.",
            "10.0.0.1:7443",
            "[fe80::1]:7443",
            "localhost:80",
        ] {
            assert!(is_listed(&hosts, ours), "{ours}");
        }
        for other in ["evil.example", "router.evil.example:7443", "example.com", "", ":7443", "1.2.3.4.evil"]
        {
            assert!(!is_listed(&hosts, other), "{other}");
        }
    }
}
