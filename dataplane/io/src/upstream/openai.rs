//! Any OpenAI-compatible server: the words of the path itself, so bytes pass through.

use std::sync::Arc;

use dataplane_core::fault::Fault;
use proto_core::model::{Auth, Endpoint, TlsFiles};

use super::server::{Server, Target, Versions};
use super::{Answer, Call, Path, Unusable, Ways};
use crate::worker::Worker;

#[derive(Debug)]
pub struct OpenAi {
    pub server: Server,
    /// By [`Path`].
    targets: [Target; Path::ALL.len()],
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
        let targets = [target(Path::ALL[0])?, target(Path::ALL[1])?, target(Path::ALL[2])?];
        Ok(OpenAi { server, targets })
    }

    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        let target = &self.targets[call.path as usize];
        self.server.send(worker, target, call.headers, call.body).await
    }
}
