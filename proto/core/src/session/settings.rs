//! What an end of a session brings along: times, limits, and what it would like. The numbers of the protocol
//! are the defaults; a test or a small machine says less.

use std::time::Duration;

use crate::frame::{Encoding, FRAME_BYTES_MAX};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the connection speaks: said in the opening, never changed by it.
    pub encoding: Encoding,
    /// A frame goes out at least this often. The dialer's wish; the acceptor's word is what both keep.
    pub heartbeat: Duration,
    /// Nothing came for this long: the session ends. The acceptor's word.
    pub idle: Duration,
    /// The same, for peers that never said SYN: they beat more slowly.
    pub idle_plain: Duration,
    /// How long a side waits for the other's part of the opening.
    pub opening: Duration,
    /// How long a session without a connection is kept, where a token is out.
    pub resume: Duration,
    /// Dialer: asks for a token.
    pub wants_resume: bool,
    /// What this end takes.
    pub limits: Limits,
}

/// What an end takes from the other; told in the opening, and kept by the one who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub frame_bytes: usize,
    /// Content of one message, after it was put together.
    pub message_bytes: usize,
    /// Fragments of one message.
    pub fragments: u32,
    /// Streams under way that the other end opened.
    pub streams: usize,
    /// Content of a stream that was not consumed yet.
    pub replay_bytes: usize,
    /// The same of a session, long messages aside.
    pub session_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            encoding: Encoding::Json,
            heartbeat: HEARTBEAT,
            idle: IDLE,
            idle_plain: IDLE_PLAIN,
            opening: OPENING,
            resume: RESUME,
            wants_resume: true,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frame_bytes: FRAME_BYTES_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
            fragments: FRAGMENTS_MAX,
            streams: STREAMS_MAX,
            replay_bytes: REPLAY_BYTES,
            session_bytes: SESSION_BYTES,
        }
    }
}

impl Limits {
    /// The smaller of both, in each.
    pub fn min(self, other: Limits) -> Limits {
        Limits {
            frame_bytes: self.frame_bytes.min(other.frame_bytes),
            message_bytes: self.message_bytes.min(other.message_bytes),
            fragments: self.fragments.min(other.fragments),
            streams: self.streams.min(other.streams),
            replay_bytes: self.replay_bytes.min(other.replay_bytes),
            session_bytes: self.session_bytes.min(other.session_bytes),
        }
    }
}

/// Often enough that a dead peer is noticed within seconds, seldom enough to cost nothing.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// Six heartbeats: a peer that misses them all is gone, not slow.
pub const IDLE: Duration = Duration::from_secs(30);

/// Existing clients beat every 30 s.
pub const IDLE_PLAIN: Duration = Duration::from_secs(75);

/// A round trip and an admission; longer than both on any network that is worth waiting for.
pub const OPENING: Duration = Duration::from_secs(10);

/// A phone that changes networks is back by then.
pub const RESUME: Duration = Duration::from_secs(30);

/// A conversation with pictures; the largest body the HTTP doors take by default is of the same order.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// 16 MiB in pieces of 4 KiB.
pub const FRAGMENTS_MAX: u32 = 4096;

/// As many streams as a busy orchestrator has agents; an entry is some hundred bytes.
pub const STREAMS_MAX: usize = 1024;

/// A stream's credit: at 100 ms round trip it carries 2.5 MiB/s, far above what a model writes.
pub const REPLAY_BYTES: usize = 256 << 10;

/// Four streams at their credit: what one session may make the other end hold.
pub const SESSION_BYTES: usize = 1 << 20;

/// Content of one fragment. With every byte escaped (`\u0000`) still well below a frame.
pub const FRAGMENT_BYTES: usize = 64 << 10;

/// Messages of a stream not consumed yet: bounds what tiny ones cost beyond their bytes.
pub const MESSAGES_MAX: usize = 1024;
