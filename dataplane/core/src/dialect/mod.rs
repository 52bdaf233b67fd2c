//! Bytes to meaning and back: what a caller's body asks for, what an upstream's stream says, and how either
//! is written in the other's words.
//!
//! Rooms, in the order a request meets them: [`scan`] (what routing needs of a body, while it arrives),
//! [`splice`] (the body as the upstream shall see it), [`sse`] and [`openai`] (the answer, event by event),
//! [`words`] (who speaks what, and where two that differ meet), [`anthropic`] (Messages, to and from there),
//! [`ask`] (`/v1/ask` in and out), [`atp`] (what streams of sessions carry), [`mcp`] (tools, for agents),
//! [`models`] (`GET /v1/models`), [`errors`] (a fault as each dialect says it).
//!
//! Where caller and adapter speak the same, bodies are never copied whole, never parsed into trees, never
//! written again: everything reads slices and hands out slices. Only translation reads whole. Nothing here
//! knows an adapter, a socket or the time.

pub mod anthropic;
pub mod ask;
pub mod atp;
pub mod errors;
pub mod grpc;
pub(crate) mod json;
pub mod mcp;
pub mod models;
pub mod ollama;
pub mod openai;
pub mod role;
pub mod rope;
pub mod scan;
pub mod splice;
pub mod sse;
pub mod words;
