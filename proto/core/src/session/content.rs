//! Contents the protocol itself reads and writes: JSON to values and back, errors as the wire says them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{Code, RawJson, Text};

use super::event::{REASON_BYTES_MAX, Refusal};

/// A content that is not what its payload type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongContent;

/// `None` of null.
pub(super) fn parse<T: DeserializeOwned>(raw: &RawJson) -> Result<Option<T>, WrongContent> {
    serde_json::from_slice(raw.as_bytes()).map_err(|_| WrongContent)
}

pub(super) fn render<T: Serialize>(value: &T) -> RawJson {
    let json = serde_json::to_vec(value).expect("contents of ours have text keys and finite numbers");
    RawJson::parse(json).expect("contents of ours keep the limits of a frame")
}

/// The content of an ERROR.
#[derive(Debug, Serialize, Deserialize)]
struct ErrorJson {
    code: String,
    #[serde(default)]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<u32>>,
}

/// A message that has to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub msg_seq: u64,
    /// Empty: all of it.
    pub fragments: Vec<u32>,
}

/// What an ERROR says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Again(Missing),
    Error(Refusal),
}

pub(super) fn of_refusal(refusal: &Refusal) -> RawJson {
    render(&ErrorJson {
        code: refusal.code.as_str().to_owned(),
        reason: shortened(refusal.reason.as_str()).to_owned(),
        retry_after_ms: refusal.retry_after_ms,
        resume_token: refusal.resume_token.as_ref().map(|token| token.as_str().to_owned()),
        msg_seq: None,
        missing: None,
    })
}

pub(super) fn of_missing(missing: &Missing) -> RawJson {
    render(&ErrorJson {
        code: Code::SeqRetry.as_str().to_owned(),
        reason: String::new(),
        retry_after_ms: None,
        resume_token: None,
        msg_seq: Some(missing.msg_seq),
        missing: Some(missing.fragments.clone()),
    })
}

/// Whatever the content is, an error is an error: what cannot be read is told as the code of the protocol.
pub(super) fn said(raw: &RawJson) -> Said {
    let unknown = || Said::Error(Refusal::new(Code::Proto, "an error that cannot be read"));
    let Ok(Some(error)) = parse::<ErrorJson>(raw) else { return unknown() };
    let Some(code) = Code::of_text(&error.code) else {
        let reason = format!("{}: {}", error.code, error.reason);
        return Said::Error(Refusal { reason: shortened(&reason).into(), ..Refusal::new(Code::Proto, "") });
    };
    match (code, error.msg_seq) {
        (Code::SeqRetry, Some(msg_seq)) => {
            Said::Again(Missing { msg_seq, fragments: error.missing.unwrap_or_default() })
        }
        _ => {
            let reason = Text::from(shortened(&error.reason));
            let token = error.resume_token.filter(|token| token.len() <= TOKEN_BYTES_MAX);
            let resume_token = token.map(Text::from);
            Said::Error(Refusal { code, reason, retry_after_ms: error.retry_after_ms, resume_token })
        }
    }
}

/// Ours have 32; one that is longer is none.
const TOKEN_BYTES_MAX: usize = 128;

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
