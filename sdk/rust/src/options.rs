//! How a session is opened: over what, as whom, how wide.

use std::path::PathBuf;
use std::time::Duration;

use proto_core::frame::{Encoding, Qos, Window};

/// What is `None` is the data plane's choice, or this library's.
#[derive(Debug, Clone)]
pub struct Options {
    pub via: Via,
    pub encoding: Encoding,
    /// The tenant's key: a header, and over QUIC in the session's opening.
    pub key: Option<String>,
    pub tls: Tls,
    /// What is wanted under way at once; the data plane may grant less. A zero leaves that one to it.
    pub window: Window,
    pub qos: Qos,
    /// The run: all sessions, and requests over HTTP, that name it share its limits.
    pub session_id: Option<String>,
    /// What the work is about, for routing.
    pub task_type: Option<String>,
    /// Whether a lost connection is made good without anybody noticing.
    pub resumes: bool,
    /// How long a request waits for a place in the window.
    pub patience: Duration,
    /// How long an answer may be silent.
    pub silence: Duration,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// A WebSocket: passes what only knows HTTP/1.1.
    Ws,
    /// One HTTP/2 request whose body never ends.
    H2,
    /// One QUIC stream for each ATP stream: what is lost holds back one answer, not all.
    Quic,
}

/// Files, read anew for each connection, so that renewed certificates are taken.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM roots that replace the system's.
    pub ca: Option<PathBuf>,
    /// PEM client certificate chain and its key; both or neither.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            via: Via::Ws,
            encoding: Encoding::Bin,
            key: None,
            tls: Tls::default(),
            window: Window::default(),
            qos: Qos::Bronze,
            session_id: None,
            task_type: None,
            resumes: true,
            patience: PATIENCE,
            silence: SILENCE,
        }
    }
}

/// A place frees when an answer ends, and most end within it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a data plane waits for a first token by default.
const SILENCE: Duration = Duration::from_secs(120);
