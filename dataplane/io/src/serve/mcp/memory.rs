//! The memory as tools: put, get and list, on behalf of whoever calls and with the key it showed. They are
//! there where a gateway is.

use std::sync::Arc;

use bytes::Bytes;
use dataplane_core::dialect::mcp::tools::Fixed;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fixed::{Called, Handling};
use crate::serve::memory::encoded;
use crate::upstream::memory::{Ask, Whose};

pub const PUT: Fixed = Fixed {
    name: "putMemory",
    description: "Keep a JSON object at a place, for as long as it says",
    input: concat!(
        r#"{"type":"object","properties":{"#,
        r#""namespace":{"type":"string","description":"Where: letters, digits, - and _, segments by /"},"#,
        r#""key":{"type":"string","description":"What it is found by there"},"#,
        r#""object":{"type":"object","description":"What is kept"},"#,
        r#""ttl_seconds":{"type":"integer","minimum":0,"description":"How long; 0 is for ever"}},"#,
        r#""required":["namespace","key","object"],"additionalProperties":false}"#,
    ),
    output: None,
};

pub const GET: Fixed = Fixed {
    name: "getMemory",
    description: "What is kept at a place",
    input: concat!(
        r#"{"type":"object","properties":{"namespace":{"type":"string"},"key":{"type":"string"}},"#,
        r#""required":["namespace","key"],"additionalProperties":false}"#,
    ),
    output: None,
};

pub const LIST: Fixed = Fixed {
    name: "listMemory",
    description: "The keys below a namespace, in pages",
    input: concat!(
        r#"{"type":"object","properties":{"namespace":{"type":"string"},"#,
        r#""prefix":{"type":"string","description":"Only keys that begin so"},"#,
        r#""limit":{"type":"integer","minimum":1,"maximum":100,"default":50},"#,
        r#""cursor":{"type":"string","description":"Of the answer before"}},"#,
        r#""required":["namespace"],"additionalProperties":false}"#,
    ),
    output: None,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put<'a> {
    namespace: String,
    key: String,
    #[serde(borrow)]
    object: &'a RawValue,
    ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    namespace: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    namespace: String,
    #[serde(default)]
    prefix: String,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub fn put(called: Called) -> Handling {
    Box::pin(async move {
        let Put { namespace, key, object, ttl_seconds } = arguments(&called.arguments)?;
        let ttl = ttl_seconds.map_or_else(String::new, |ttl| format!(r#","ttl_seconds":{ttl}"#));
        let body = format!(r#"{{"object":{}{ttl}}}"#, object.get());
        call(&called, Method::PUT, &place(&namespace, &key)?, body.into()).await
    })
}

pub fn get(called: Called) -> Handling {
    Box::pin(async move {
        let Get { namespace, key } = arguments(&called.arguments)?;
        call(&called, Method::GET, &place(&namespace, &key)?, Bytes::new()).await
    })
}

pub fn list(called: Called) -> Handling {
    Box::pin(async move {
        let List { namespace, prefix, limit, cursor } = arguments(&called.arguments)?;
        let mut path = format!("/v1/memory?namespace={}&prefix={}", value(&namespace), value(&prefix));
        if let Some(limit) = limit {
            path.push_str(&format!("&limit={limit}"));
        }
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={}", value(&cursor)));
        }
        call(&called, Method::GET, &path, Bytes::new()).await
    })
}

fn arguments<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("The arguments are wrong: {error}."))
}

/// Both are there, so that an item is never taken for a list.
fn place(namespace: &str, key: &str) -> Result<String, String> {
    if namespace.is_empty() || key.is_empty() {
        return Err("`namespace` and `key` must not be empty.".into());
    }
    Ok(format!("/v1/memory/{}/{}", value(namespace), value(key)))
}

/// Slashes and percent signs too: what is one argument stays one.
fn value(text: &str) -> String {
    encoded(&text.replace('%', "%25")).replace('/', "%2F")
}

async fn call(called: &Called, method: Method, path: &str, body: Bytes) -> Result<String, String> {
    let Some(memory) = &called.worker.shared.memory else {
        return Err("This server has no memory gateway. Its operator can name one.".into());
    };
    let whose =
        Whose { tenant: called.held.table.tenant(called.tenant).name.as_str(), key: called.key.clone() };
    let ask = Ask { method, path, body, bytes_max: ANSWER_BYTES_MAX, deadline: None };
    let worker = Arc::clone(&called.worker);
    let reply = memory.call(&worker, &whose, ask).await;
    let reply = reply.map_err(|fault| format!("The memory gateway: {}.", fault.code()))?;
    let text = String::from_utf8(reply.body.to_vec()).map_err(|_| "The answer is no text.".to_owned())?;
    if reply.status.is_success() { Ok(text) } else { Err(text) }
}

/// An object of the largest size, and what is said beside it.
const ANSWER_BYTES_MAX: u32 = 1024 * 1024 + 4096;
