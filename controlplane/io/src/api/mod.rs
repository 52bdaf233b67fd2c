//! The operators' services, `atp.admin.v1`: requests to intents, outcomes to messages. Decides nothing
//! itself.

pub mod operations;
pub mod resources;
mod watch;
mod wire;

/// Bytes of one request of an operator: documents far beyond what people write, and what others may send
/// unseen.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
