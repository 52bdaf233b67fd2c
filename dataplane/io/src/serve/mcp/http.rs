//! MCP over Streamable HTTP: each message a POST, each answer JSON or a stream of events; GET is a stream of
//! changes, in the revisions that have it.

use std::sync::Arc;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::dialect::mcp::Revision;
use dataplane_core::dialect::mcp::answer;
use dataplane_core::dialect::mcp::checks::{self, Headers};
use dataplane_core::dialect::mcp::request::{Asked, Meta, ToolCall};
use dataplane_core::dialect::mcp::rpc::{self, Code, Id, Message, Refusal};
use dataplane_core::fault::Fault;
use dataplane_core::table::TenantId;
use dataplane_core::trace::Context;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use proto_core::frame::Text;
use proto_core::units::Moment;

use super::call::{self, Running, Whose};
use super::calls::{self, Name};
use super::fixed::{Called, Handler};
use super::listen;
use super::listing::{self, Target};
use crate::admission::{envelope, may_begin};
use crate::serve::Peer;
use crate::serve::answer::AnswerBody;
use crate::serve::headers::{X_ACCEL_BUFFERING, X_REQUEST_ID, number};
use crate::serve::http::{Arrived, held, identify, is_of_another_origin};
use crate::serve::intake;
use crate::serve::memory;
use crate::serve::pump;
use crate::served::Hold;
use crate::trace;
use crate::words::{Dialect, Telling};

/// What an answer counts as, where its status says less: a tool that failed is a result.
#[derive(Debug, Clone, Copy)]
pub struct Counted(pub u16);

/// Answers one request to `/mcp`. `authority`: as the request's target has it, where it does.
pub async fn serve(arrived: Arrived, is_get: bool, authority: Option<&str>) -> Response<AnswerBody> {
    let peer = Arc::clone(&arrived.peer);
    let request_id = arrived.request_id.clone();
    let mut response = if is_of_another_origin(&arrived.headers, authority) {
        let what = "A page of another origin (the `origin` header) may not call this server.";
        refused(StatusCode::FORBIDDEN, None, &Refusal::new(Code::Request, what), None)
    } else {
        let taken = Box::pin(take(arrived, is_get)).await;
        taken.unwrap_or_else(|fault| faulted(&peer, &request_id, fault))
    };
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    response
}

async fn take(arrived: Arrived, is_get: bool) -> Result<Response<AnswerBody>, Fault> {
    let Arrived { peer, headers, body, at, request_id, .. } = arrived;
    let held = held(&peer)?;
    let tenant = identify(&held.table, &headers, &peer)?;
    if is_get {
        return get(&peer, &headers);
    }
    let envelope = envelope(&headers)?;
    may_begin(&peer.worker, &held, tenant, &envelope)?;
    let (body, _debt) = intake::whole(&peer, &headers, body).await?;
    let post = Post { peer: &peer, headers: &headers, held: &held, tenant, request_id, envelope, at };
    Box::pin(post.message(&body)).await
}

/// A stream of changes, where the caller's revision has one and it wants events.
fn get(peer: &Arc<Peer>, headers: &HeaderMap) -> Result<Response<AnswerBody>, Fault> {
    let revision = headers.get(REVISION).and_then(|value| Revision::find(value.to_str().ok()?));
    if !wants_events(headers) || revision.is_some_and(Revision::is_stateless) {
        let mut response = Response::new(AnswerBody::text("MCP is spoken here: POST a message.\n"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(response);
    }
    listen::serve(peer, headers, None, true)
}

/// One message.
struct Post<'p> {
    peer: &'p Arc<Peer>,
    headers: &'p HeaderMap,
    held: &'p Hold,
    tenant: TenantId,
    request_id: HeaderValue,
    envelope: Envelope<'p>,
    at: Moment,
}

impl Post<'_> {
    async fn message(&self, body: &Bytes) -> Result<Response<AnswerBody>, Fault> {
        match rpc::read(body) {
            Err((refusal, id)) => Ok(refused(StatusCode::BAD_REQUEST, id, &refusal, None)),
            Ok(Message::Response) => Ok(accepted()),
            Ok(Message::Notification { method, params }) => {
                if let (Asked::Cancelled { request }, Some(session)) =
                    (Asked::noted(&method, params), self.session())
                {
                    self.peer.worker.shared.calls.cancel(&self.name(session, request));
                }
                Ok(accepted())
            }
            Ok(Message::Request { id, method, params }) => match Meta::of(params) {
                Ok(meta) => self.request(id, &method, params, &meta).await,
                Err(refusal) => Ok(refused(StatusCode::BAD_REQUEST, Some(id), &refusal, None)),
            },
        }
    }

    async fn request<'m>(
        &self,
        id: Id<'m>,
        method: &str,
        params: Option<&'m serde_json::value::RawValue>,
        meta: &Meta<'m>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let value = |name: HeaderName| self.headers.get(name).map(HeaderValue::as_bytes);
        let said = Headers { revision: value(REVISION), method: value(METHOD), name: value(NAME) };
        let bad = |refusal: &Refusal| {
            let header = said.revision.and_then(|value| std::str::from_utf8(value).ok());
            refused(StatusCode::BAD_REQUEST, Some(id), refusal, meta.revision.as_deref().or(header))
        };
        let revision = match checks::revision(&said, meta) {
            Ok(revision) => revision,
            Err(refusal) => return Ok(bad(&refusal)),
        };
        let asked = Asked::read(revision, method, params, meta);
        if revision.is_stateless() {
            let tool = asked.as_ref().ok().and_then(|asked| match asked {
                Asked::CallTool(call) => Some(&*call.name),
                _ => None,
            });
            if let Err(refusal) = checks::names(&said, method, tool) {
                return Ok(bad(&refusal));
            }
        }
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => {
                let is_unknown = refusal.code == Code::Method && revision.is_stateless();
                let status = if is_unknown { StatusCode::NOT_FOUND } else { StatusCode::OK };
                return Ok(refused(status, Some(id), &refusal, None));
            }
        };
        self.asked(id, revision, asked).await
    }

    async fn asked(
        &self,
        id: Id<'_>,
        revision: Revision,
        asked: Asked<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let mut out = Vec::new();
        match asked {
            Asked::Initialize { revision } => {
                answer::initialized(id, &revision, &mut out);
                let mut response = json(StatusCode::OK, out);
                // Without chance a session has no name: its calls cannot be cancelled by name.
                let session = calls::session().and_then(|session| HeaderValue::try_from(session).ok());
                session.map(|session| response.headers_mut().insert(SESSION, session));
                return Ok(response);
            }
            Asked::Discover => answer::discovered(id, revision, &mut out),
            Asked::Ping => answer::empty(id, revision, &mut out),
            Asked::ListTools { cursor } => {
                let listing = listing::listing(&self.peer.worker.shared, self.held);
                if let Err(refusal) = answer::listed(id, revision, &listing, cursor.as_deref(), &mut out) {
                    return Ok(refused(StatusCode::OK, Some(id), &refusal, None));
                }
            }
            Asked::Listen { tools } => return listen::serve(self.peer, self.headers, Some(id), tools),
            Asked::CallTool(tool) => return Ok(Box::pin(self.call(id, revision, tool)).await),
            // Notifications, which are no requests.
            Asked::Cancelled { .. } | Asked::Noted => return Ok(accepted()),
        }
        Ok(json(StatusCode::OK, out))
    }

    async fn call(&self, id: Id<'_>, revision: Revision, tool: ToolCall<'_>) -> Response<AnswerBody> {
        let Some(target) = listing::find(self.held, &tool.name) else {
            let unknown = Refusal::new(Code::Params, "There is no tool of this name; see tools/list.");
            return refused(StatusCode::OK, Some(id), &unknown, None);
        };
        let completion = match (&target, listing::completion(&target, tool.arguments)) {
            (Target::Fixed(handler), _) => return self.handled(id, revision, handler, &tool).await,
            (_, Some(Ok(completion))) => completion,
            (_, wrong) => {
                let wrong = wrong.and_then(Result::err).unwrap_or_default();
                return failed(id, revision, &wrong);
            }
        };
        let under_way = match self.session().filter(|_| !revision.is_stateless()) {
            None => None,
            Some(session) => match self.peer.worker.shared.calls.begin(self.name(session, id)) {
                Some(under_way) => Some(under_way),
                None => {
                    let what = "A call with this id is under way, or too many are. Use another id, or wait.";
                    return refused(StatusCode::OK, Some(id), &Refusal::new(Code::Request, what), None);
                }
            },
        };
        let running = Running::start(call::job(self.whose(tool.parent), &completion), under_way);
        match tool.progress.filter(|_| wants_events(self.headers)) {
            Some(progress) => self.streamed(running, id, progress, revision),
            None => {
                let (out, status) = call::whole(running, id, revision).await;
                let mut response = json(StatusCode::OK, out);
                response.extensions_mut().insert(Counted(status));
                response
            }
        }
    }

    async fn handled(
        &self,
        id: Id<'_>,
        revision: Revision,
        handler: &Handler,
        tool: &ToolCall<'_>,
    ) -> Response<AnswerBody> {
        let handled = (handler.handle)(Called {
            worker: Arc::clone(&self.peer.worker),
            held: Arc::clone(self.held),
            tenant: self.tenant,
            key: memory::key(self.headers),
            arguments: tool.arguments.map_or("{}", |arguments| arguments.get()).into(),
            request_id: self.request_id.clone(),
        });
        match handled.await {
            Ok(object) => {
                let mut out = Vec::new();
                answer::handled(id, revision, &object, &mut out);
                json(StatusCode::OK, out)
            }
            Err(wrong) => failed(id, revision, &wrong),
        }
    }

    fn streamed(
        &self,
        running: Running,
        id: Id<'_>,
        progress: Id<'_>,
        revision: Revision,
    ) -> Response<AnswerBody> {
        let worker = Arc::clone(&self.peer.worker);
        let (pump, pumped) = pump::channel(&worker, &self.peer.stage);
        let names = (id.as_json().into(), progress.as_json().into());
        tokio::spawn(call::streamed(running, worker, pump, names, revision));
        events(AnswerBody::pumped(pumped))
    }

    /// `parent`: as its message says, which is nearer to whoever calls than the headers are.
    fn whose(&self, parent: Option<Context>) -> Whose {
        let Envelope { deadline, tokens, picodollars, parallel, session, qos } = self.envelope;
        Whose {
            worker: Arc::clone(&self.peer.worker),
            held: Arc::clone(self.held),
            tenant: self.tenant,
            run: session.map(Text::from),
            qos,
            deadline,
            envelope: Envelope { deadline, tokens, picodollars, parallel, session: None, qos },
            operation: None,
            request_id: self.request_id.clone(),
            parent: parent.or_else(|| trace::parent(self.headers)),
            at: self.at,
        }
    }

    /// As `initialize` named it, or whatever its caller calls it: it opens nothing.
    fn session(&self) -> Option<&str> {
        let name = self.headers.get(SESSION)?.to_str().ok()?;
        (1..=SESSION_CHARS_MAX).contains(&name.len()).then_some(name)
    }

    fn name(&self, session: &str, request: Id<'_>) -> Name {
        Name {
            tenant: self.held.table.tenant(self.tenant).hash,
            session: session.into(),
            request: request.as_json().into(),
        }
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains("text/event-stream"))
}

/// A stream of events, whatever fills it.
pub fn events(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn json(status: StatusCode, out: Vec<u8>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(out));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// To a notification: nothing to say.
fn accepted() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(""));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn refused(
    status: StatusCode,
    id: Option<Id<'_>>,
    refusal: &Refusal,
    asked: Option<&str>,
) -> Response<AnswerBody> {
    let mut out = Vec::new();
    answer::refused(id, refusal, asked, &mut out);
    let mut response = json(status, out);
    if status.is_success() {
        response.extensions_mut().insert(Counted(400));
    }
    response
}

fn failed(id: Id<'_>, revision: Revision, wrong: &str) -> Response<AnswerBody> {
    let mut out = Vec::new();
    answer::failed(id, revision, wrong, None, &mut out);
    let mut response = json(StatusCode::OK, out);
    response.extensions_mut().insert(Counted(400));
    response
}

/// What no tool is to blame for: who calls, from where, how much.
fn faulted(peer: &Peer, request_id: &HeaderValue, fault: Fault) -> Response<AnswerBody> {
    peer.worker.tally.error(fault);
    let reason = Telling::new(Dialect::OpenAi, request_id).about_path("/mcp").reason(fault);
    let mut out = Vec::new();
    answer::faulted(None, fault, &reason, &mut out);
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, out);
    if let Some(seconds) = fault.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, number(u64::from(seconds)));
    }
    response
}

const REVISION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Of a session's name: twice what this server gives out.
const SESSION_CHARS_MAX: usize = 64;
