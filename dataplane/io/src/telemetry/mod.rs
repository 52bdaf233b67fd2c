//! What people and machines are told about this data plane: logs and metrics. Never a prompt, never a key.

mod admission;
pub mod logs;
pub mod metrics;
mod sessions;
mod tls;
