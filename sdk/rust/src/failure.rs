//! Why there is no answer, or no end to it.

use std::time::Duration;

use proto_core::frame::Code;
use proto_core::session::Refusal;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error("{0} is no address of a data plane: {1}")]
    Url(String, &'static str),
    /// A certificate or key of this end cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    #[error("nobody answers at {address}: {why}; is a data plane running there (`atp up`)?")]
    Unreachable { address: String, why: String },
    /// The data plane refused before a session or an answer began: its status and what it said.
    #[error("refused with status {status}: {said}")]
    Rejected { status: u16, said: String },
    /// A session or a request was refused, in the words of frames.
    #[error("refused with {}: {reason}{}", code.as_str(), retry(*retry_after))]
    Refused {
        code: Code,
        reason: String,
        /// When the same may succeed, where the data plane knows.
        retry_after: Option<Duration>,
        /// Of a request that gave its place to another: for [`crate::Client::resume`].
        resume: Option<String>,
    },
    /// A fan-out ended without an answer: why, and its last message as it came, with how each lane ended and
    /// what all of them took.
    #[error("no answer came of it: {}: {reason}", code.as_str())]
    Undecided { code: Code, reason: String, content: Box<Value> },
    /// The session is over, and with it all that was under way: the connection was lost and could not be
    /// taken up again in time.
    #[error("the session is lost: {0}")]
    Lost(String),
    /// The session has ended in order; nothing new is taken.
    #[error("the session has ended")]
    Ended,
    /// The answer broke off after it had begun.
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("the answer has something this library does not understand: {0}")]
    Garbled(String),
    /// What was to be sent is none of JSON, or longer than the other end takes.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    #[error("nothing came for {0} seconds")]
    Timeout(u64),
    /// No place among the requests under way became free in time.
    #[error("the session had no room for another request for {0} seconds")]
    Crowded(u64),
}

impl Failure {
    /// Whether the same request may succeed a little later, or in another session.
    pub fn is_passing(&self) -> bool {
        use proto_core::frame::code::Reaction::{AwaitWindow, Elsewhere, Retransmit, TryAgain};
        match self {
            Failure::Refused { code, retry_after, resume, .. } => {
                let again = matches!(code.reaction(), AwaitWindow | Elsewhere | Retransmit | TryAgain);
                again || retry_after.is_some() || resume.is_some()
            }
            Failure::Undecided { code, .. } => {
                matches!(code.reaction(), AwaitWindow | Elsewhere | Retransmit | TryAgain)
            }
            Failure::Unreachable { .. } | Failure::Lost(_) | Failure::Timeout(_) | Failure::Crowded(_) => {
                true
            }
            Failure::Rejected { status, .. } => matches!(status, 429 | 500..),
            _ => false,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused {
            code: refusal.code,
            reason: refusal.reason.as_str().to_owned(),
            retry_after: refusal.retry_after_ms.map(Duration::from_millis),
            resume: refusal.resume_token.map(|token| token.as_str().to_owned()),
        }
    }
}

fn retry(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(" (again in {} ms)", after.as_millis()))
}
