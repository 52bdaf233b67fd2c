//! Tools that are there whatever is configured, each with who handles its calls. One more is one more line of
//! [`TOOLS`].

use std::pin::Pin;
use std::sync::Arc;

use dataplane_core::dialect::mcp::tools::Fixed;
use dataplane_core::dialect::models::{Listed, write_list};
use dataplane_core::table::TenantId;
use http::HeaderValue;

use super::memory;
use crate::served::Hold;
use crate::worker::Worker;

/// A tool and its handler.
pub struct Handler {
    pub tool: Fixed,
    pub handle: fn(Called) -> Handling,
    /// There is such a tool only where a memory gateway is.
    pub needs_memory: bool,
}

/// One call.
#[expect(dead_code, reason = "each handler reads what it needs of it")]
pub struct Called {
    pub worker: Arc<Worker>,
    pub held: Hold,
    /// Whose call it is. Tools must not show one tenant what is another's.
    pub tenant: TenantId,
    /// What it showed, for the memory gateway.
    pub key: Option<HeaderValue>,
    /// A JSON object, unread.
    pub arguments: Box<str>,
    pub request_id: HeaderValue,
}

/// A JSON object; or what is wrong, in words for who called.
pub type Handling = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// In the order they are listed.
pub const TOOLS: &[Handler] = &[
    Handler { tool: MODELS, handle: models, needs_memory: false },
    Handler { tool: memory::PUT, handle: memory::put, needs_memory: true },
    Handler { tool: memory::GET, handle: memory::get, needs_memory: true },
    Handler { tool: memory::LIST, handle: memory::list, needs_memory: true },
];

const MODELS: Fixed = Fixed {
    name: "models.list",
    description: "Every name that `model` of route.complete may be",
    input: r#"{"type":"object","additionalProperties":false}"#,
    output: None,
};

fn models(called: Called) -> Handling {
    let listed = called.held.table.listed(called.tenant);
    let mut out = Vec::new();
    write_list(listed.map(|(id, owned_by)| Listed { id, owned_by }), &mut out);
    let told = String::from_utf8(out).map_err(|_| "The list of models is no text.".to_owned());
    Box::pin(std::future::ready(told))
}
