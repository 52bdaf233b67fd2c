//! Anthropic's Messages. A caller that speaks them gets what comes as it is, any other gets it told in
//! OpenAI's words; what is asked is in Messages' words already.

use std::sync::Arc;

use dataplane_core::dialect::words::{Retelling, Words};
use dataplane_core::fault::Fault;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use proto_core::model::{Auth, Endpoint, TlsFiles};

use super::retold::{self, Retold};
use super::server::{Server, Target, Versions};
use super::{Answer, Call, Path, Unusable, UpstreamBody, Ways, chat_only};
use crate::clock;
use crate::serve::headers::ANTHROPIC_VERSION;
use crate::worker::Worker;

#[derive(Debug)]
pub struct Anthropic {
    pub server: Server,
    messages: Target,
    count_tokens: Target,
}

impl Anthropic {
    pub fn build(
        endpoint: &Endpoint,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        ways: &Ways,
    ) -> Result<Anthropic, Unusable> {
        let server = Server::build(endpoint, auth, files, Versions::Any, ways)?;
        // Anthropic's clients know an address without `/v1`, others with it: both do.
        let version = if endpoint.base_path.ends_with("/v1") { "" } else { "/v1" };
        let target = |path: Path| server.target(&format!("{version}{}", path.as_str()));
        let (messages, count_tokens) = (target(Path::Messages)?, target(Path::CountTokens)?);
        Ok(Anthropic { server, messages, count_tokens })
    }

    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        let Call { path, mut headers, body, heard, .. } = call;
        let target = match path {
            Path::Messages => &self.messages,
            Path::CountTokens => &self.count_tokens,
            path => chat_only(path).map(|()| &self.messages)?,
        };
        headers.entry(ANTHROPIC_VERSION).or_insert(VERSION);
        let answer = self.server.send(worker, target, headers, body).await?;
        if heard == Words::Anthropic {
            return Ok(answer);
        }
        let Answer { status, mut headers, body } = answer;
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let retelling = Retelling::new(Words::Anthropic, kind, clock::unix_seconds());
        headers.remove(CONTENT_LENGTH);
        // Its name for the request is not ours.
        headers.remove(REQUEST_ID);
        let body = UpstreamBody::retold(Retold::new(body, retold::Words::Spoken(retelling)));
        Ok(Answer { status, headers, body })
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// The only one there is, of whoever names none.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
