//! Any OpenAI-compatible server: the words of the path itself, so bytes pass through.

use std::sync::Arc;

use dataplane_core::fault::{Fault, Kind, Retry};
use proto_core::model::{Auth, Endpoint, TlsFiles};

use super::server::{Server, Target, Versions};
use super::{Answer, Call, Path, Unusable, Ways};
use crate::worker::Worker;

#[derive(Debug)]
pub struct OpenAi {
    pub server: Server,
    /// By [`Path`], those of its own.
    targets: [Target; PATHS.len()],
}

impl OpenAi {
    pub fn build(
        endpoint: &Endpoint,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        ways: &Ways,
    ) -> Result<OpenAi, Unusable> {
        let server = Server::build(endpoint, auth, files, Versions::Any, ways)?;
        let target = |path: Path| server.target(path.as_str());
        let targets = [target(PATHS[0])?, target(PATHS[1])?, target(PATHS[2])?];
        Ok(OpenAi { server, targets })
    }

    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        let refused = Fault::upstream(Kind::Refused, Retry::Elsewhere);
        let target = self.targets.get(call.path as usize).ok_or(refused)?;
        self.server.send(worker, target, call.headers, call.body).await
    }
}

const PATHS: [Path; 3] = [Path::ChatCompletions, Path::Completions, Path::Embeddings];
