//! Adapters as seen from here: a call goes in, the head of an answer and its body come out. A new kind of
//! adapter is a new `Backend`; nothing above this room knows kinds.

pub mod attached;
pub mod body;
mod connect;
pub mod dialled;
pub mod echo;
mod openai;
mod pool;
mod tls;

pub use tls::system_anchors;

use std::sync::Arc;

use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::Fault;
use http::{HeaderMap, StatusCode};
use proto_core::model::{AdapterKind, Name};

pub use body::UpstreamBody;

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
    Dialled(Box<dialled::Dialled>),
    Echo(echo::Echo),
    Attached,
}

/// What is asked of an adapter, in OpenAI's words.
#[derive(Debug)]
pub struct Call {
    pub path: Path,
    /// What goes along: the caller's, stripped, plus our own; `host` and credentials are the adapter's to
    /// add.
    pub headers: HeaderMap,
    pub body: Rope,
    pub streamed: bool,
}

/// Operations an adapter may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    ChatCompletions,
    Completions,
    Embeddings,
}

impl Path {
    const ALL: [Path; 3] = [Path::ChatCompletions, Path::Completions, Path::Embeddings];

    /// Behind the endpoint's base path.
    fn as_str(self) -> &'static str {
        match self {
            Path::ChatCompletions => "/chat/completions",
            Path::Completions => "/completions",
            Path::Embeddings => "/embeddings",
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

impl Upstream {
    /// Reads secrets and certificates. `workers`: threads that will call.
    pub fn build(name: &Name, kind: &AdapterKind, workers: usize) -> Result<Upstream, Unusable> {
        let backend = match kind {
            AdapterKind::OpenAi { endpoint, auth, tls } => {
                let openai = openai::OpenAi::build(endpoint, auth.as_ref(), tls.as_ref(), workers)?;
                Backend::OpenAi(Box::new(openai))
            }
            AdapterKind::Dialled { endpoints, lease, auth, tls } => {
                let (auth, tls) = (auth.as_ref(), tls.as_ref());
                let dialled = dialled::Dialled::build(endpoints, auth, tls, *lease, workers)?;
                Backend::Dialled(Box::new(dialled))
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
            Backend::OpenAi(openai) => openai.look_at_files(self.name.as_str()).await,
            Backend::Dialled(dialled) => dialled.look_at_files(self.name.as_str()).await,
            Backend::Echo(_) | Backend::Attached => None,
        }
    }

    /// Sends a call and waits for the head of its answer. Deadlines are the caller's: dropping the future
    /// cancels.
    pub async fn send(self: &Arc<Upstream>, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        match &self.backend {
            Backend::OpenAi(openai) => openai.send(self, worker, call).await,
            Backend::Dialled(dialled) => dialled.send(self, worker, call).await,
            Backend::Echo(echo) => Ok(echo.answer(call)),
            Backend::Attached => worker.shared.lines.send(&self.name, &call).await,
        }
    }

    /// Its places, where it says itself at which of them it is.
    pub fn dialled(&self) -> Option<&dialled::Dialled> {
        match &self.backend {
            Backend::Dialled(dialled) => Some(dialled),
            Backend::OpenAi(_) | Backend::Echo(_) | Backend::Attached => None,
        }
    }

    /// The pools of an adapter that has connections. `slot`: the worker's, of each place.
    fn pool(&self, slot: usize) -> Option<&pool::Pool> {
        match &self.backend {
            Backend::OpenAi(openai) => Some(openai.pool(slot)),
            Backend::Dialled(dialled) => Some(dialled.pool(slot)),
            Backend::Echo(_) | Backend::Attached => None,
        }
    }
}
