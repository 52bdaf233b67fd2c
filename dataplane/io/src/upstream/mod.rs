//! Adapters as seen from here: a call goes in, the head of an answer and its body come out. A new kind of
//! adapter is a new `Backend`; nothing above this room knows kinds.

mod anthropic;
pub mod attached;
mod beside;
pub mod body;
mod connect;
pub mod dialled;
pub mod discover;
pub mod echo;
mod grpc;
pub mod memory;
mod ollama;
mod openai;
mod places;
mod pool;
mod retold;
mod server;
mod tls;

pub use tls::system_anchors;

use std::sync::Arc;

use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::Words;
use dataplane_core::fault::{Fault, Kind, Retry, Side};
use http::{HeaderMap, StatusCode};
use proto_core::model::{AdapterKind, Endpoint, Name, Persona};
use proto_core::units::Moment;

pub use body::UpstreamBody;

use discover::{Names, Wanted};
use places::{Found, Places};

use crate::worker::Worker;

/// The means to reach one adapter. Outlives snapshots while its kind, endpoint and credentials stay the same.
#[derive(Debug)]
pub struct Upstream {
    pub name: Name,
    kind: AdapterKind,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    OpenAi(Box<openai::OpenAi>),
    Anthropic(Box<anthropic::Anthropic>),
    Dialled(Box<dialled::Dialled>),
    Ollama(Box<ollama::Ollama>),
    Grpc(Box<grpc::Grpc>),
    /// A role over another adapter, which is the one that is sent to.
    Role,
    Echo(echo::Echo),
    Attached,
}

/// What is asked of an adapter: in OpenAI's words, or in its own where it has others that callers speak.
#[derive(Debug)]
pub struct Call {
    pub path: Path,
    /// What goes along: the caller's, stripped, plus our own; `host` and credentials are the adapter's to
    /// add.
    pub headers: HeaderMap,
    pub body: Rope,
    pub streamed: bool,
    /// When nobody wants the answer any more.
    pub deadline: Moment,
    /// Of the model, in what is learned; zero: nothing is to be learned of it.
    pub model: u64,
    /// Of the prompt in it.
    pub prompt_bytes: u64,
    /// What its answer shall be in.
    pub heard: Words,
}

/// Operations an adapter may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    ChatCompletions,
    Completions,
    Embeddings,
    Messages,
    CountTokens,
}

impl Path {
    /// Whose operation it is.
    pub fn words(self) -> Words {
        match self {
            Path::ChatCompletions | Path::Completions | Path::Embeddings => Words::OpenAi,
            Path::Messages | Path::CountTokens => Words::Anthropic,
        }
    }

    /// Behind the endpoint's base path.
    fn as_str(self) -> &'static str {
        match self {
            Path::ChatCompletions => "/chat/completions",
            Path::Completions => "/completions",
            Path::Embeddings => "/embeddings",
            Path::Messages => "/messages",
            Path::CountTokens => "/messages/count_tokens",
        }
    }
}

/// The head of an answer; its body is still to come.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: UpstreamBody,
}

/// Why an adapter cannot be reached from this machine, known before it is tried: a missing secret or file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// What an upstream is built with.
#[derive(Debug)]
pub struct Ways {
    /// Threads that will call.
    pub workers: usize,
    pub names: Arc<Names>,
}

impl Ways {
    /// Where `endpoint` is. To be called within a runtime, where its addresses are to be found.
    fn places(&self, endpoint: &Endpoint) -> Places {
        let Some(wanted) = Wanted::of(endpoint) else { return Places::one(self.workers) };
        let found = Arc::new(Found::new(self.workers));
        tokio::spawn(discover::follow(Arc::clone(&self.names), wanted, Arc::downgrade(&found)));
        Places::Several(found)
    }
}

impl Upstream {
    /// Reads secrets and certificates. Where addresses are to be found, the looking begins.
    pub fn build(name: &Name, kind: &AdapterKind, ways: &Ways) -> Result<Upstream, Unusable> {
        let backend = match kind {
            AdapterKind::OpenAi { endpoint, auth, tls } => {
                let openai = openai::OpenAi::build(endpoint, auth.as_ref(), tls.as_ref(), ways)?;
                Backend::OpenAi(Box::new(openai))
            }
            AdapterKind::Dialled { endpoints, lease, auth, tls } => {
                let (auth, tls) = (auth.as_ref(), tls.as_ref());
                let dialled = dialled::Dialled::build(endpoints, auth, tls, *lease, ways)?;
                Backend::Dialled(Box::new(dialled))
            }
            AdapterKind::Anthropic { endpoint, auth, tls } => {
                let anthropic = anthropic::Anthropic::build(endpoint, auth.as_ref(), tls.as_ref(), ways)?;
                Backend::Anthropic(Box::new(anthropic))
            }
            AdapterKind::Ollama { endpoint, auth, tls } => {
                let ollama = ollama::Ollama::build(endpoint.as_ref(), auth.as_ref(), tls.as_ref(), ways)?;
                Backend::Ollama(Box::new(ollama))
            }
            AdapterKind::Grpc { endpoint, auth, tls } => {
                let grpc = grpc::Grpc::build(endpoint, auth.as_ref(), tls.as_ref(), ways)?;
                Backend::Grpc(Box::new(grpc))
            }
            AdapterKind::Persona(Persona { over: Some(_), .. }) => Backend::Role,
            AdapterKind::Persona(_) => {
                let endpoint = persona_endpoint(std::env::var(PERSONA_ENDPOINT).ok().as_deref())?;
                Backend::OpenAi(Box::new(openai::OpenAi::build(&endpoint, None, None, ways)?))
            }
            AdapterKind::Echo(speed) => Backend::Echo(echo::Echo::new(*speed)),
            AdapterKind::Attached => Backend::Attached,
        };
        Ok(Upstream { name: name.clone(), kind: kind.clone(), backend })
    }

    pub fn kind(&self) -> &AdapterKind {
        &self.kind
    }

    /// Whether this serves what `kind` declares, connections and all.
    pub fn is(&self, kind: &AdapterKind) -> bool {
        self.kind == *kind
    }

    /// Takes its changed certificates into use, for connections to come; whether it could, where there was a
    /// change.
    pub async fn look_at_files(&self) -> Option<bool> {
        match &self.backend {
            Backend::Dialled(dialled) => dialled.look_at_files(self.name.as_str()).await,
            _ => self.server()?.look_at_files(self.name.as_str()).await,
        }
    }

    /// Sends a call and waits for the head of its answer. Deadlines are the caller's: dropping the future
    /// cancels.
    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        match &self.backend {
            Backend::OpenAi(openai) => openai.send(worker, call).await,
            Backend::Anthropic(anthropic) => anthropic.send(worker, call).await,
            Backend::Ollama(ollama) => ollama.send(worker, call).await,
            Backend::Grpc(grpc) => grpc.send(&self.name, worker, call).await,
            Backend::Role => Err(Fault::proxy(Kind::Internal)),
            Backend::Dialled(dialled) => dialled.send(worker, call).await,
            Backend::Echo(echo) => Ok(echo.answer(call)),
            Backend::Attached => worker.shared.lines.send(&self.name, &call, &worker.ledger).await,
        }
    }

    /// Its places, where it says itself at which of them it is.
    pub fn dialled(&self) -> Option<&dialled::Dialled> {
        match &self.backend {
            Backend::Dialled(dialled) => Some(dialled),
            _ => None,
        }
    }

    /// How it says it feels, for kinds that say: the 95th percentile in milliseconds, the share of failures.
    pub fn health(&self) -> Option<(f64, f64)> {
        match &self.backend {
            Backend::Grpc(grpc) => grpc.health(),
            _ => None,
        }
    }

    /// Addresses it has now, for kinds that connect.
    pub fn addresses(&self) -> Option<usize> {
        Some(self.server()?.places().count())
    }

    /// What is connected to, for kinds that connect to one endpoint.
    fn server(&self) -> Option<&server::Server> {
        match &self.backend {
            Backend::OpenAi(openai) => Some(&openai.server),
            Backend::Anthropic(anthropic) => Some(&anthropic.server),
            Backend::Ollama(ollama) => Some(&ollama.server),
            Backend::Grpc(grpc) => Some(&*grpc.server),
            Backend::Role | Backend::Dialled(_) | Backend::Echo(_) | Backend::Attached => None,
        }
    }
}

/// Says no, before anything is sent, to what an adapter that only chats is not for.
fn chat_only(path: Path) -> Result<(), Fault> {
    const WHAT: &str = "one whose adapter does more than chat: this kind of adapter has no such operation";
    match path {
        Path::ChatCompletions => Ok(()),
        Path::Completions | Path::Embeddings | Path::Messages | Path::CountTokens => {
            let kind = Kind::InvalidField("model", WHAT);
            Err(Fault { side: Side::Client, kind, retry: Retry::Elsewhere })
        }
    }
}

/// Of a persona that stands over no adapter: any OpenAI-compatible server.
fn persona_endpoint(url: Option<&str>) -> Result<Endpoint, Unusable> {
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        let what = format!("the persona stands over no adapter, and {PERSONA_ENDPOINT} is not set");
        return Err(Unusable(what));
    };
    Endpoint::parse(url).map_err(|why| Unusable(format!("{PERSONA_ENDPOINT}: {why}")))
}

const PERSONA_ENDPOINT: &str = "PERSONA_MODEL_ENDPOINT";
