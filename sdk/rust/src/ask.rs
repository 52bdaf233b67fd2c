//! One prompt to `POST /v1/ask`, and its answer: a plan, chunks as they come, a final line.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::options::Tls;
use crate::post::{Lines, Post};

/// A prompt and how it is to be answered. What is `None` is the data plane's choice.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ask {
    pub prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `fast`, `balanced` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_slo_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// The tenant's key, over HTTP; a session has one of its own.
    #[serde(skip)]
    pub key: Option<String>,
    /// Whom to trust over HTTPS; a session has one of its own.
    #[serde(skip)]
    pub tls: Tls,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Plan(Plan),
    Chunk(Chunk),
    /// Something that happened on the way, such as an escalation; as it came.
    Note(serde_json::Value),
    /// The last; after it there is nothing.
    Final(Final),
}

/// Who may answer, in the order they are tried.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Plan {
    pub candidates: Vec<Candidate>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Candidate {
    pub model: String,
    /// USD for 1,000 answer tokens.
    pub cost_per_1k: f64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Chunk {
    /// From 1.
    pub seq: u64,
    pub text: String,
    pub model: String,
}

/// What it took.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Final {
    pub text: String,
    pub model_used: String,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
    pub escalation_count: u32,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    lines: Lines,
    is_over: bool,
}

impl Ask {
    pub fn new(prompt: impl Into<String>) -> Ask {
        Ask { prompt: prompt.into(), ..Ask::default() }
    }

    /// Sends it to the data plane at `address` (`http://host:port` or
    /// `https://host:port`).
    pub async fn send(&self, address: &str) -> Result<Answer, Failure> {
        let post = Post {
            address,
            path: "/v1/ask",
            tls: &self.tls,
            key: self.key.as_deref(),
            accept: "application/x-ndjson",
            headers: &[],
            body: serde_json::to_vec(self).expect("strings and numbers are JSON"),
        };
        Ok(Answer { lines: post.send().await?, is_over: false })
    }
}

impl From<&str> for Ask {
    fn from(prompt: &str) -> Ask {
        Ask::new(prompt)
    }
}

impl From<String> for Ask {
    fn from(prompt: String) -> Ask {
        Ask::new(prompt)
    }
}

impl Answer {
    /// The next line; `None` after the final one.
    ///
    /// # Errors
    /// Where the answer breaks off, is refused on the way, or is none: then there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        Ok(self.next_line().await?.map(|(event, _)| event))
    }

    /// As [`Answer::next`], with the line as it came, without its end.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn next_line(&mut self) -> Result<Option<(Event, Bytes)>, Failure> {
        while let Some(line) = self.lines.next().await? {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let event = read(&line)?;
            self.is_over |= matches!(event, Event::Final(_));
            return Ok(Some((event, line)));
        }
        if self.is_over { Ok(None) } else { Err(Failure::Broken("it ended without its final line".into())) }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    aborted: bool,
    error: Option<serde_json::Value>,
}

fn read(line: &[u8]) -> Result<Event, Failure> {
    fn body<'l, T: Deserialize<'l>>(line: &'l [u8]) -> Result<T, Failure> {
        serde_json::from_slice(line).map_err(|error| Failure::Garbled(error.to_string()))
    }
    let head: Line = body(line)?;
    if head.kind == "error" || head.aborted {
        let said = head.error.map_or_else(String::new, |error| match error {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        return Err(Failure::Broken(said));
    }
    match head.kind.as_str() {
        "plan" => body(line).map(Event::Plan),
        "chunk" => body(line).map(Event::Chunk),
        "final" => body(line).map(Event::Final),
        _ => body(line).map(Event::Note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_its_type_says() {
        let chunk = read(br#"{"type":"chunk","seq":1,"text":"hi","model":"m"}"#).unwrap();
        assert_eq!(chunk, Event::Chunk(Chunk { seq: 1, text: "hi".into(), model: "m".into() }));
        assert!(matches!(read(br#"{"type":"event","event":"escalate","model":"m"}"#), Ok(Event::Note(_))));
    }

    #[test]
    fn an_error_or_an_aborted_final_line_is_a_broken_answer() {
        for line in [
            &br#"{"type":"error","error":"upstream_reset"}"#[..],
            br#"{"type":"final","aborted":true,"error":"request_cancelled","model_used":"m"}"#,
        ] {
            assert!(matches!(read(line), Err(Failure::Broken(_))));
        }
        assert!(matches!(read(b"nonsense"), Err(Failure::Garbled(_))));
    }

    #[test]
    fn what_is_left_to_the_data_plane_is_not_sent() {
        let mut ask = Ask::new("hi");
        ask.key = Some("secret".into());
        assert_eq!(serde_json::to_string(&ask).unwrap(), r#"{"prompt":"hi"}"#);
    }
}
