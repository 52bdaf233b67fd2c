//! ATP sessions: one run's conversation, as a value per end that is fed frames and asked for frames.
//!
//! Rooms, in reading order: [`settings`] (times and limits), [`message`] (what is said at once in a stream),
//! [`event`] (what the application is told), [`syn`], [`status`] and [`content`] (contents of the protocol's
//! own frames), [`prefix`] (frames on a stream of bytes). Then one machine a file: `cut` and `fragment`,
//! `replay` (what was said), `inbound` and `gap` (what is heard), `acks`, `window`; `stream` and `streams`;
//! and [`machine`], the session itself. `docs/protocol.md` has the protocol.
//!
//! Nothing here knows of sockets, of tenants or of what the messages mean. Time is an argument; no method
//! waits.

mod acks;
pub mod content;
mod cut;
mod departed;
pub mod event;
mod fragment;
mod gap;
mod held;
mod inbound;
pub mod machine;
pub mod message;
pub mod prefix;
mod replay;
pub mod settings;
pub mod status;
mod stream;
mod streams;
pub mod syn;
#[cfg(test)]
mod tests;
mod window;

pub use content::WrongContent;
pub use event::{Ended, Event, Phase, Refusal, ResumeOpening, SendFault, StreamKey};
pub use machine::Session;
pub use message::{Lane, Message, More, Place};
pub use prefix::{Splitter, prefixed};
pub use settings::{Limits, Settings};
pub use status::{AgentState, AgentStatus};
pub use syn::{Opening, Received, Resume, Terms};

/// Payload types that are the protocol's own.
pub mod kind {
    pub const ACK: &str = "ACK";
    pub const ERROR: &str = "ERROR";
    pub const FIN: &str = "FIN";
    pub const HEARTBEAT: &str = "HEARTBEAT";
    pub const STATUS: &str = "control.status";
    pub const SYN: &str = "SYN";
    pub const WINDOW_UPDATE: &str = "WINDOW_UPDATE";
}
