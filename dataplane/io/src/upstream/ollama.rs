//! Ollama's own API. Its address is the endpoint's, else what `OLLAMA_BASE_URL` says, else where Ollama
//! listens by default.

use std::future::poll_fn;
use std::sync::Arc;

use dataplane_core::dialect::ollama::{self, Lines};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::Fault;
use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_TYPE};
use proto_core::model::{Auth, Endpoint, TlsFiles};

use super::retold::{self, Retold, Words};
use super::server::{Server, Target, Versions};
use super::{Answer, Call, Unusable, UpstreamBody, Ways, chat_only};
use crate::worker::Worker;

#[derive(Debug)]
pub struct Ollama {
    pub server: Server,
    chat: Target,
}

impl Ollama {
    pub fn build(
        endpoint: Option<&Endpoint>,
        auth: Option<&Auth>,
        files: Option<&TlsFiles>,
        ways: &Ways,
    ) -> Result<Ollama, Unusable> {
        let of_environment = match endpoint {
            Some(_) => None,
            None => Some(named(std::env::var(BASE_URL).ok().as_deref())?),
        };
        let endpoint = endpoint.or(of_environment.as_ref()).expect("one of both is there");
        let server = Server::build(endpoint, auth, files, Versions::Any, ways)?;
        let chat = server.target(ollama::PATH)?;
        Ok(Ollama { server, chat })
    }

    pub async fn send(&self, worker: &Arc<Worker>, call: Call) -> Result<Answer, Fault> {
        chat_only(call.path)?;
        let told = ollama::render(&call.body.joined())?;
        let mut headers = call.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(ACCEPT);
        let body = Rope::from(bytes::Bytes::from(told));
        let answer = self.server.send(worker, &self.chat, headers, body).await?;
        if !answer.status.is_success() {
            return Ok(refused(answer).await);
        }
        let lines = Words::Ollama(Lines::new(retold::chunks(worker, "")));
        retold::answer(UpstreamBody::retold(Retold::new(answer.body, lines)), call.streamed, &worker.ledger)
            .await
    }
}

/// A refusal keeps its status and its headers, which say when to come back; its text is told as ours.
async fn refused(mut answer: Answer) -> Answer {
    let mut text = Vec::new();
    while let Some(Ok(piece)) = poll_fn(|cx| answer.body.poll_data(cx)).await {
        text.extend_from_slice(&piece);
        if text.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    let told = retold::refusal(answer.status, &ollama::error_of(&text));
    let mut headers = answer.headers;
    headers.extend(told.headers);
    headers.remove(http::header::CONTENT_LENGTH);
    Answer { headers, ..told }
}

/// Some name the root, some one of the two APIs below it.
fn named(base: Option<&str>) -> Result<Endpoint, Unusable> {
    let base = base.filter(|base| !base.is_empty()).unwrap_or(DEFAULT).trim_end_matches('/');
    let root = base.strip_suffix("/api").or(base.strip_suffix("/v1")).unwrap_or(base);
    Endpoint::parse(root).map_err(|why| Unusable(format!("{BASE_URL}: {why}")))
}

const BASE_URL: &str = "OLLAMA_BASE_URL";
const DEFAULT: &str = "http://127.0.0.1:11434";
/// Of a refusal's text.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_root_or_one_of_the_apis_below_it() {
        let of = |base: Option<&str>| named(base).map(|endpoint| (endpoint.authority(), endpoint.base_path));
        let default = ("127.0.0.1:11434".to_owned(), Box::from(""));
        for base in [None, Some(""), Some("http://127.0.0.1:11434/"), Some("http://127.0.0.1:11434/v1/")] {
            assert_eq!(of(base).unwrap(), default, "{base:?}");
        }
        assert_eq!(of(Some("https://o.example/x/api")).unwrap(), ("o.example".to_owned(), Box::from("/x")));
        let wrong = of(Some("localhost:11434")).unwrap_err().to_string();
        assert!(wrong.starts_with("OLLAMA_BASE_URL: an endpoint starts with"), "{wrong}");
    }
}
