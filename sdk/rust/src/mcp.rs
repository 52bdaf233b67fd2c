//! Tools of a server that speaks MCP over Streamable HTTP, a data plane's or another: listed and called, each
//! request by itself (revision 2026-07-28).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::options::Tls;
use crate::post::{Lines, Post};

/// A server, and who calls it.
#[derive(Debug, Clone)]
pub struct Mcp {
    /// `http://host:port` or `https://host:port`, or with the path of the server where that is not `/mcp`.
    pub url: String,
    pub key: Option<String>,
    /// Whom to trust over HTTPS.
    pub tls: Tls,
}

impl Mcp {
    /// All tools, as the server describes them.
    ///
    /// # Errors
    /// Nobody there, a refusal, or an answer that is none.
    pub async fn tools(&self) -> Result<Vec<Value>, Failure> {
        let mut tools = Vec::new();
        let mut cursor = Value::Null;
        for _ in 0..PAGES_MAX {
            let params = if cursor.is_null() { Map::new() } else { object(json!({ "cursor": cursor })) };
            let mut page = self.request("tools/list", None, params, |_| {}).await?;
            match page["tools"].take() {
                Value::Array(more) => tools.extend(more),
                _ => return Err(Failure::Garbled("a list of tools without `tools`".into())),
            }
            cursor = page["nextCursor"].take();
            if cursor.is_null() {
                return Ok(tools);
            }
        }
        Err(Failure::Garbled(format!("more than {PAGES_MAX} pages of tools")))
    }

    /// Calls one; `on_progress` hears what comes before the result, as the server words it.
    ///
    /// # Errors
    /// As [`Mcp::tools`]. A tool that failed is a result, whose `isError` says so.
    pub async fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        on_progress: impl FnMut(&str),
    ) -> Result<Value, Failure> {
        let params = json!({ "name": name, "arguments": arguments, "_meta": { "progressToken": 1 } });
        self.request("tools/call", Some(name), object(params), on_progress).await
    }

    async fn request(
        &self,
        method: &str,
        name: Option<&str>,
        mut params: Map<String, Value>,
        mut on_progress: impl FnMut(&str),
    ) -> Result<Value, Failure> {
        let meta = params.entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = REVISION.into();
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let client = json!({ "name": "atp", "version": env!("CARGO_PKG_VERSION") });
        meta["io.modelcontextprotocol/clientInfo"] = client;
        let body = json!({ "jsonrpc": "2.0", "id": ID, "method": method, "params": params });
        let mut headers = vec![("mcp-protocol-version", REVISION), ("mcp-method", method)];
        headers.extend(name.map(|name| ("mcp-name", name)));
        let post = Post {
            address: &self.url,
            path: if self.has_path() { "" } else { "/mcp" },
            tls: &self.tls,
            key: self.key.as_deref(),
            accept: "application/json, text/event-stream",
            headers: &headers,
            body: body.to_string().into_bytes(),
        };
        let mut lines = post.send().await?;
        let kind = lines.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.starts_with("text/event-stream");
        while let Some(message) = next(&mut lines, is_stream).await? {
            let mut message: Value =
                serde_json::from_slice(&message).map_err(|error| Failure::Garbled(error.to_string()))?;
            if message["id"] != ID {
                if let Some(text) = message["params"]["message"].as_str() {
                    on_progress(text);
                }
                continue;
            }
            return match message["error"]["message"].as_str() {
                Some(said) => Err(Failure::Rejected { status: 200, said: said.into() }),
                None => Ok(message["result"].take()),
            };
        }
        Err(Failure::Broken("it ended without a result".into()))
    }

    fn has_path(&self) -> bool {
        let rest = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        rest.split_once('/').is_some_and(|(_, path)| !path.is_empty())
    }
}

/// The next message: the data of an event, or the whole answer.
async fn next(lines: &mut Lines, is_stream: bool) -> Result<Option<Bytes>, Failure> {
    let mut whole = Vec::new();
    while let Some(line) = lines.next().await? {
        if !is_stream {
            whole.extend_from_slice(&line);
            whole.push(b'\n');
        } else if let Some(data) = line.strip_prefix(b"data:") {
            return Ok(Some(line.slice_ref(data.trim_ascii())));
        }
    }
    Ok(Some(whole.into()).filter(|whole: &Bytes| !whole.is_empty()))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

const REVISION: &str = "2026-07-28";
/// One request a connection.
const ID: u64 = 1;
/// Of a list of tools: a server that always has one more must not keep us.
const PAGES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_at_mcp_unless_its_address_has_a_path() {
        let has_path = |url: &str| Mcp { url: url.into(), key: None, tls: Tls::default() }.has_path();
        assert!(!has_path("http://a:1") && !has_path("http://a:1/"));
        assert!(has_path("http://a:1/mcp") && has_path("http://a/tools/mcp"));
    }
}
