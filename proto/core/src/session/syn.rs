//! What the frames of an opening say beyond the fields every frame has.
//!
//! What an end does not know, or does not say, changes nothing: keys that are missing mean the protocol's own
//! numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::frame::{Encoding, Meta, Qos, RawJson, Text, Window};

use super::content::{self, WrongContent};
use super::settings::{HEARTBEAT, IDLE, Limits, RESUME};

/// What a dialer asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    pub qos: Qos,
    /// Wanted; the acceptor grants no more than it likes.
    pub window: Window,
    pub meta: Meta,
}

/// A dialer that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    pub token: Text,
    pub received: Vec<Received>,
}

/// Up to where an end has everything of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub stream_id: Text,
    pub msg_seq: u64,
}

/// What an acceptor grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub encoding: Encoding,
    pub heartbeat: Duration,
    pub idle: Duration,
    /// Taken once, within `resume` after the connection is lost.
    pub resume_token: Option<Text>,
    pub resume: Duration,
    /// The session goes on where it was; the streams are those of before.
    pub is_resumed: bool,
    pub limits: Limits,
}

/// The content of a dialer's SYN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The first is the one it writes.
    pub encodings: Vec<Encoding>,
    pub heartbeat: Duration,
    pub wants_resume: bool,
    pub resume: Option<Resume>,
    pub limits: Limits,
}

#[derive(Serialize, Deserialize)]
struct AskedJson {
    #[serde(default)]
    encodings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_ms: Option<u64>,
    #[serde(default)]
    resume: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_token: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    received: Vec<(String, u64)>,
    limits: Option<LimitsJson>,
}

#[derive(Serialize, Deserialize)]
struct TermsJson {
    encoding: Option<String>,
    heartbeat_ms: Option<u64>,
    idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_token: Option<String>,
    resume_ms: Option<u64>,
    #[serde(default)]
    resumed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    received: Vec<(String, u64)>,
    limits: Option<LimitsJson>,
}

#[derive(Serialize, Deserialize, Default)]
struct LimitsJson {
    frame_bytes: Option<usize>,
    message_bytes: Option<usize>,
    fragments: Option<u32>,
    streams: Option<usize>,
    replay_bytes: Option<usize>,
    session_bytes: Option<usize>,
}

impl Asked {
    pub(super) fn content(&self) -> RawJson {
        let (token, received) = match &self.resume {
            Some(resume) => (Some(resume.token.as_str().to_owned()), pairs(&resume.received)),
            None => (None, Vec::new()),
        };
        content::render(&AskedJson {
            encodings: self.encodings.iter().map(|encoding| word(*encoding).to_owned()).collect(),
            heartbeat_ms: Some(millis(self.heartbeat)),
            resume: self.wants_resume,
            resume_token: token,
            received,
            limits: Some(LimitsJson::of(self.limits)),
        })
    }

    /// Of null, all is as the protocol has it.
    pub(super) fn parse(raw: &RawJson) -> Result<Asked, WrongContent> {
        let said: Option<AskedJson> = content::parse(raw)?;
        let Some(said) = said else {
            return Ok(Asked {
                encodings: Vec::new(),
                heartbeat: HEARTBEAT,
                wants_resume: false,
                resume: None,
                limits: Limits::default(),
            });
        };
        let received = said.received;
        let resume =
            said.resume_token.map(|token| Resume { token: token.into(), received: of_pairs(received) });
        Ok(Asked {
            encodings: said.encodings.iter().filter_map(|encoding| of_word(encoding)).collect(),
            heartbeat: said.heartbeat_ms.map_or(HEARTBEAT, Duration::from_millis),
            wants_resume: said.resume,
            resume,
            limits: said.limits.unwrap_or_default().limits(),
        })
    }
}

impl Terms {
    pub(super) fn content(&self, received: &[Received]) -> RawJson {
        content::render(&TermsJson {
            encoding: Some(word(self.encoding).to_owned()),
            heartbeat_ms: Some(millis(self.heartbeat)),
            idle_ms: Some(millis(self.idle)),
            resume_token: self.resume_token.as_ref().map(|token| token.as_str().to_owned()),
            resume_ms: Some(millis(self.resume)),
            resumed: self.is_resumed,
            received: pairs(received),
            limits: Some(LimitsJson::of(self.limits)),
        })
    }

    /// `encoding`: what the connection speaks, where the acceptor does not say.
    pub(super) fn parse(raw: &RawJson, encoding: Encoding) -> Result<(Terms, Vec<Received>), WrongContent> {
        let said: Option<TermsJson> = content::parse(raw)?;
        let said = said.ok_or(WrongContent)?;
        let encoding = match said.encoding {
            Some(said) => of_word(&said).ok_or(WrongContent)?,
            None => encoding,
        };
        let terms = Terms {
            encoding,
            heartbeat: said.heartbeat_ms.map_or(HEARTBEAT, Duration::from_millis).max(HEARTBEAT_MIN),
            idle: said.idle_ms.map_or(IDLE, Duration::from_millis),
            resume_token: said.resume_token.map(Text::from),
            resume: said.resume_ms.map_or(RESUME, Duration::from_millis),
            is_resumed: said.resumed,
            limits: said.limits.unwrap_or_default().limits(),
        };
        Ok((terms, of_pairs(said.received)))
    }
}

impl LimitsJson {
    fn of(limits: Limits) -> LimitsJson {
        LimitsJson {
            frame_bytes: Some(limits.frame_bytes),
            message_bytes: Some(limits.message_bytes),
            fragments: Some(limits.fragments),
            streams: Some(limits.streams),
            replay_bytes: Some(limits.replay_bytes),
            session_bytes: Some(limits.session_bytes),
        }
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            frame_bytes: self.frame_bytes.unwrap_or(usual.frame_bytes),
            message_bytes: self.message_bytes.unwrap_or(usual.message_bytes),
            fragments: self.fragments.unwrap_or(usual.fragments),
            streams: self.streams.unwrap_or(usual.streams),
            replay_bytes: self.replay_bytes.unwrap_or(usual.replay_bytes),
            session_bytes: self.session_bytes.unwrap_or(usual.session_bytes),
        }
    }
}

fn pairs(received: &[Received]) -> Vec<(String, u64)> {
    received.iter().map(|one| (one.stream_id.as_str().to_owned(), one.msg_seq)).collect()
}

fn of_pairs(pairs: Vec<(String, u64)>) -> Vec<Received> {
    pairs.into_iter().map(|(id, msg_seq)| Received { stream_id: id.into(), msg_seq }).collect()
}

fn word(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "json",
        Encoding::Cbor => "cbor",
        Encoding::Bin => "bin",
    }
}

fn of_word(said: &str) -> Option<Encoding> {
    Encoding::ALL.into_iter().find(|encoding| word(*encoding) == said)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An acceptor cannot make a dialer send more often.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
