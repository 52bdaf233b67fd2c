//! An adapter that asks a model server which speaks OpenAI's API, next to it and perhaps out of the data
//! plane's reach. Chunks of the answer are passed on as they came.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request as HttpRequest, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto_core::frame::Code;
use proto_core::model::Endpoint;
use proto_core::session::Refusal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Reply, Request, Usage};
use crate::options::Tls;
use crate::transport::{CONNECT_WAIT, stream};
use crate::{Failure, url};

/// A model server.
#[derive(Debug, Clone)]
pub struct ModelServer {
    address: Box<str>,
    endpoint: Endpoint,
    key: Option<Box<str>>,
    /// The name it has for the model; `None`: as it is asked for.
    model: Option<Box<str>>,
    tls: Tls,
}

impl ModelServer {
    /// `address`: its API's root, as `http://127.0.0.1:11434/v1`.
    ///
    /// # Errors
    /// Where that is no address.
    pub fn new(address: &str) -> Result<ModelServer, Failure> {
        let endpoint = url::parse(address)?;
        Ok(ModelServer { address: address.into(), endpoint, key: None, model: None, tls: Tls::default() })
    }

    pub fn with_key(self, key: Option<&str>) -> ModelServer {
        ModelServer { key: key.map(Into::into), ..self }
    }

    pub fn with_model(self, model: Option<&str>) -> ModelServer {
        ModelServer { model: model.map(Into::into), ..self }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// What the server refused, or how it failed.
    pub async fn answer(&self, request: Request, reply: Reply) -> Result<Usage, Refusal> {
        let connecting = stream(&self.address, &self.endpoint, &self.tls, b"http/1.1");
        let stream = match timeout(CONNECT_WAIT, connecting).await {
            Ok(stream) => stream.map_err(down)?,
            Err(_) => return Err(down("no connection in time")),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(down)?;
        let connection = tokio::spawn(connection);
        // Dropped with this future, too: a request nobody waits for is cancelled at the server.
        let _guard = Abort(connection.abort_handle());
        let request = self.request(request.body)?;
        let response = within(sender.send_request(request)).await?.map_err(down)?;
        if response.status().is_success() {
            relay(response, &reply).await
        } else {
            Err(refusal(response).await)
        }
    }

    fn request(&self, mut body: Value) -> Result<HttpRequest<Full<Bytes>>, Refusal> {
        let Some(fields) = body.as_object_mut() else {
            return Err(Refusal::new(Code::BadInput, "a chat completion is an object"));
        };
        if let Some(model) = &self.model {
            fields.insert("model".into(), json!(model));
        }
        fields.insert("stream".into(), json!(true));
        fields.insert("stream_options".into(), json!({"include_usage": true}));
        let mut request = HttpRequest::builder()
            .method(Method::POST)
            .uri(format!("{}/chat/completions", self.endpoint.base_path))
            .header(HOST, self.endpoint.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        request.body(Full::new(Bytes::from(body.to_string()))).map_err(down)
    }
}

/// Passes the events of a stream on until its end.
async fn relay(response: Response<Incoming>, reply: &Reply) -> Result<Usage, Refusal> {
    let mut body = response.into_body();
    let mut events = Events::default();
    let mut usage = Usage::default();
    while let Some(frame) = within(body.frame()).await? {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        events.on_bytes(&data)?;
        while let Some(event) = events.next() {
            if event.as_ref() == b"[DONE]" {
                return Ok(usage);
            }
            let chunk: Value = serde_json::from_slice(&event).map_err(broken)?;
            if let Some(error) = chunk.get("error") {
                return Err(broken(error));
            }
            let counted = |key: &str| chunk["usage"][key].as_u64();
            usage.tokens_in = counted("prompt_tokens").unwrap_or(usage.tokens_in);
            usage.tokens_out = counted("completion_tokens").unwrap_or(usage.tokens_out);
            // An event that only counts is not part of the answer.
            let is_empty = chunk["choices"].as_array().is_some_and(Vec::is_empty);
            if !is_empty && reply.chunk(&chunk).await.is_err() {
                return Ok(usage);
            }
        }
    }
    Err(broken("the stream ended without [DONE]"))
}

async fn refusal(response: Response<Incoming>) -> Refusal {
    let status = response.status().as_u16();
    let retry_after_ms = retry_after(response.headers());
    let said = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let said = match timeout(SILENCE_MAX, said).await {
        Ok(Ok(said)) => String::from_utf8_lossy(&said.to_bytes()).into_owned(),
        _ => String::new(),
    };
    let code = match status {
        401 | 403 => Code::Sec,
        408 | 504 => Code::Timeout,
        429 => Code::WindowAgent,
        503 | 529 => Code::AgentDown,
        400..500 => Code::BadInput,
        _ => Code::Adapter,
    };
    Refusal {
        code,
        reason: format!("the model server said {status}: {said}").into(),
        retry_after_ms,
        resume_token: None,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(seconds.saturating_mul(1000))
}

/// Cuts a stream of server-sent events into their data (WHATWG HTML, §9.2); all else in it is passed over.
#[derive(Default)]
struct Events {
    held: BytesMut,
}

impl Events {
    fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.held.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(broken("an event is longer than 1 MiB"));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next line that has some.
    fn next(&mut self) -> Option<Bytes> {
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = self.held.split_to(end).freeze();
            self.held.advance(1);
            if let Some(data) = line.strip_prefix(b"data:") {
                return Some(line.slice_ref(data.trim_ascii()));
            }
        }
        None
    }
}

/// Ends the connection with its request.
struct Abort(tokio::task::AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Refusal> {
    timeout(SILENCE_MAX, work).await.map_err(|_| Refusal::new(Code::Timeout, "the model server is silent"))
}

/// Nothing was begun there.
fn down(why: impl ToString) -> Refusal {
    let reason = format!("the model server cannot be reached: {}", why.to_string());
    Refusal { code: Code::AgentDown, reason: reason.into(), retry_after_ms: None, resume_token: None }
}

fn broken(why: impl ToString) -> Refusal {
    let reason = format!("the model server's answer broke off: {}", why.to_string());
    Refusal { code: Code::Adapter, reason: reason.into(), retry_after_ms: None, resume_token: None }
}

/// Longer than a large model thinks before its first token.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const EVENT_BYTES_MAX: usize = 1 << 20;
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_they_are_cut() {
        let stream = b": hi\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:{\"b\":2}\n\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                events.on_bytes(part).unwrap();
                found.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(found, [&b"{\"a\":1}"[..], b"{\"b\":2}", b"[DONE]"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_without_end_is_not_kept() {
        let mut events = Events::default();
        assert!(events.on_bytes(&vec![b'a'; EVENT_BYTES_MAX]).is_ok());
        assert_eq!(events.on_bytes(b"a").unwrap_err().code, Code::Adapter);
    }

    #[test]
    fn the_request_is_streamed_and_names_the_servers_model() {
        let server = ModelServer::new("http://127.0.0.1:1/v1").unwrap().with_model(Some("own"));
        let request = server.request(json!({"model": "asked", "messages": []})).unwrap();
        assert_eq!(request.uri(), "/v1/chat/completions");
        assert_eq!(request.headers()[HOST], "127.0.0.1:1");
        assert!(server.request(json!([])).is_err());
    }
}
