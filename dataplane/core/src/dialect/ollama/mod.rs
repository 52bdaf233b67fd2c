//! Ollama's own `/api/chat`: a chat request in OpenAI's words as Ollama takes it, and the lines of its answer
//! as OpenAI's events. An answer without a stream is one such line.
//!
//! What Ollama cannot do is refused, not left out: an answer other than the one that was asked for is worse
//! than an error. Bodies are read whole here, as trees: nothing of it is on the path of a body that passes
//! through.

mod answer;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{LINE_BYTES_MAX, Lines, error_of};
pub use request::render;

/// Behind the endpoint's base path.
pub const PATH: &str = "/api/chat";
