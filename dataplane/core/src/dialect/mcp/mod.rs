//! MCP, the Model Context Protocol, as far as it is words: messages of JSON-RPC 2.0, what they ask for, and
//! what they are answered; and the older protocol of tools over WebSocket that existing clients speak.
//!
//! | revision | how a client comes in | which room |
//! |---|---|---|
//! | 2025-06-18, 2025-11-25 | `initialize`, then requests | [`rpc`], [`request`] |
//! | 2026-07-28 | every request says who and what by itself; headers repeat it | [`request`], [`checks`] |
//! | before MCP's own | `listTools` and `callTool` over WebSocket | [`socket`] |
//!
//! Never knows a connection, a tenant or a clock. What tools there are it is told ([`tools`]).

pub mod answer;
pub mod checks;
pub mod request;
pub mod rpc;
pub mod socket;
pub mod tools;

/// A dated version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    V2025June,
    V2025November,
    /// Without sessions: nothing of an earlier request counts.
    V2026July,
}

impl Revision {
    /// Newest first, as they are told.
    pub const ALL: [Revision; 3] = [Revision::V2026July, Revision::V2025November, Revision::V2025June];
    /// What `initialize` is answered where it asks for one that is not known.
    pub const NEWEST_WITH_SESSIONS: Revision = Revision::V2025November;

    pub fn as_str(self) -> &'static str {
        match self {
            Revision::V2025June => "2025-06-18",
            Revision::V2025November => "2025-11-25",
            Revision::V2026July => "2026-07-28",
        }
    }

    pub fn find(text: &str) -> Option<Revision> {
        Revision::ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    /// Every request of it stands for itself.
    pub fn is_stateless(self) -> bool {
        self >= Revision::V2026July
    }
}

/// As this server calls itself.
pub const SERVER: &str = "atp";
