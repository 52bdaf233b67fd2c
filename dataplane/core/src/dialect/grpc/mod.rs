//! `atp.adapter.v1.AdapterService` as the data plane speaks it: messages in their frames, what a stream of
//! chunks says in OpenAI's events, and what a status means. No library of gRPC stands in between: a call is
//! one HTTP/2 stream of the same pool as every other, and dropping it cancels it.

mod answer;
mod request;
mod status;
#[cfg(test)]
mod tests;

pub use answer::Pieces;
pub use request::{Estimate, estimate, framed, health, health_of, prompt, stream};
pub use status::{Status, fault, http_status, message};

/// The three calls, as paths.
pub const STREAM: &str = "/atp.adapter.v1.AdapterService/Stream";
pub const ESTIMATE: &str = "/atp.adapter.v1.AdapterService/Estimate";
pub const HEALTH: &str = "/atp.adapter.v1.AdapterService/Health";

/// Of one message, either way: as gRPC's own libraries take them unless told otherwise.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
