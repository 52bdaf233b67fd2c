//! Tools for agents at `/mcp`: MCP over Streamable HTTP, and the older protocol of tools over WebSocket.
//!
//! ```text
//! POST /mcp ─▶ http ─▶ call ──Job──▶ the same exchange as everything else
//! GET  /mcp ─▶ listen (a stream of changes)      ▲
//! WebSocket ─▶ socket (a task, its calls beside each other) ──Job──┘
//! ```
//!
//! What tools there are follows from what is served now ([`listing()`]); nothing of that is kept. Sessions of
//! the earlier revisions are a name only, which any data plane takes; what they have under way is found by
//! it where they want to cancel it.

mod call;
mod calls;
mod fixed;
mod http;
mod listen;
mod listeners;
mod listing;
mod memory;
mod room;
pub mod socket;

pub use self::calls::Calls;
pub use self::http::{Counted, serve};
pub use self::listeners::Listeners;
pub use self::listing::listing;

use std::sync::Arc;

use crate::worker::Worker;

/// Counts something that speaks MCP for as long as it lives.
struct Live(Arc<Worker>);

impl Live {
    fn new(worker: &Arc<Worker>) -> Live {
        worker.tally.mcp_opened.one();
        Live(Arc::clone(worker))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.tally.mcp_closed.one();
    }
}
