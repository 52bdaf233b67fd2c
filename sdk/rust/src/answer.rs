//! An answer on its way over a session: pieces as they come, then what it took.

use std::time::Duration;

use proto_core::frame::Code;
use proto_core::session::Message;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::Failure;
use crate::session::Session;
use crate::session::strand::Strand;

/// Dropped before its end, it is cancelled, here and at whoever answers.
#[derive(Debug)]
pub struct Answer {
    strand: Option<Strand>,
    silence: Duration,
    /// All text so far.
    text: String,
    /// Keeps the session while its answer is on its way.
    _session: Session,
}

/// Something that came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Of a prompt's answer.
    Text(String),
    /// Of a chat completion: an object of the model server's stream, as it said it.
    Chunk(Value),
    /// Of one lane of a fan-out.
    Lane(LaneText),
    /// A lane has ended.
    LaneEnd(LaneEnd),
    /// What the answer of a fan-out would be, were it decided now.
    Provisional(Provisional),
    /// Some other message; as it came.
    Other { kind: String, content: Value },
    /// The last; after it there is nothing.
    Done(Box<Done>),
}

/// What one lane of a fan-out says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LaneText {
    pub persona_id: String,
    #[serde(default)]
    pub clone_id: u64,
    /// From 1.
    pub seq: u64,
    pub data: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LaneEnd {
    pub persona_id: String,
    #[serde(default)]
    pub clone_id: u64,
    /// `complete`, or why it is not.
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub stats: Value,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Provisional {
    pub text: String,
    /// 0 to 1.
    #[serde(default)]
    pub agreement: f64,
    /// A later one takes the place of those before it.
    #[serde(default)]
    pub revision: u32,
    /// How long it holds where nothing else comes.
    #[serde(default)]
    pub expiry_ms: u64,
}

/// What it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// All of the answer's text; of a chat completion that of its first choice.
    pub text: String,
    pub model_used: String,
    pub adapter: String,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
    /// What the data plane measured.
    pub telemetry: Telemetry,
    /// The final message as it came: a fan-out's has its groups and lanes, a chat completion that was not
    /// streamed is here whole.
    pub content: Value,
}

/// What the data plane measured, as its last frame says; a peer that says nothing of it leaves it empty.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// In and out, of all lanes and of what decided between them.
    pub tokens: u64,
    pub usd: f64,
    /// From the request to its end.
    pub latency_ms: Option<u64>,
    /// From the request to the first token, where one model's answer was streamed.
    pub first_token_ms: Option<u64>,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    /// Empty for a fan-out: its lanes say theirs.
    pub model: String,
}

impl Answer {
    pub(crate) fn new(strand: Strand, silence: Duration, session: Session) -> Answer {
        Answer { strand: Some(strand), silence, text: String::new(), _session: session }
    }

    /// The next piece; `None` after [`Piece::Done`].
    ///
    /// # Errors
    /// Where the request is refused, fails (also after pieces of it came), breaks off, or is silent for too
    /// long: then there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        let Some(strand) = &mut self.strand else { return Ok(None) };
        let next = timeout(self.silence, strand.next()).await;
        let message = match next {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => {
                self.strand = None;
                return Err(Failure::Broken("it ended without its final message".into()));
            }
            Ok(Err(failure)) => {
                self.strand = None;
                return Err(failure);
            }
            Err(_) => {
                self.strand = None;
                return Err(Failure::Timeout(self.silence.as_secs()));
            }
        };
        let is_last = message.is_last;
        let piece = self.read(&message).inspect_err(|_| self.strand = None)?;
        if let Piece::Done(_) = piece
            && let Some(strand) = self.strand.take()
            && is_last
        {
            strand.leave();
        }
        Ok(Some(piece))
    }

    /// All of it at once.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn whole(mut self) -> Result<Done, Failure> {
        loop {
            match self.next().await? {
                Some(Piece::Done(done)) => return Ok(*done),
                Some(_) => {}
                None => return Err(Failure::Broken("it is over already".into())),
            }
        }
    }

    fn read(&mut self, message: &Message) -> Result<Piece, Failure> {
        let content = message.content.as_str();
        Ok(match message.kind.as_str() {
            "agent.result.partial" => {
                let content = read(content)?;
                let text = said(&content);
                self.text.push_str(text);
                match content.get("choices") {
                    None if content.get("text").is_some() => Piece::Text(text.to_owned()),
                    _ => Piece::Chunk(content),
                }
            }
            "agent.result.final" => Piece::Done(Box::new(self.done(message)?)),
            "agent.result.error" => return Err(undecided(read(content)?)),
            "agent.result.provisional" => Piece::Provisional(read(content)?),
            "agent.stream" => Piece::Lane(read(content)?),
            "agent.end" => Piece::LaneEnd(read(content)?),
            kind => Piece::Other { kind: kind.to_owned(), content: read(content)? },
        })
    }

    fn done(&mut self, message: &Message) -> Result<Done, Failure> {
        let content: Value = read(message.content.as_str())?;
        let telemetry = message.telemetry.as_ref().map(|raw| raw.as_str()).filter(|raw| *raw != "null");
        let telemetry: Telemetry = telemetry.map_or_else(|| Ok(Telemetry::default()), read)?;
        let number = |value: &Value, other: &Value, told: Option<u64>| {
            value.as_u64().or(other.as_u64()).or(told).unwrap_or_default()
        };
        let usage = &content["usage"];
        let text = match content["text"].as_str() {
            Some(text) => text.to_owned(),
            None if self.text.is_empty() => said(&content).to_owned(),
            None => std::mem::take(&mut self.text),
        };
        let model = content["model_used"].as_str().or(content["model"].as_str());
        let model = model.unwrap_or(&telemetry.model).to_owned();
        let adapter = content["adapter"].as_str().or(message.adapter.as_ref().map(|name| name.as_str()));
        let cost = content["cost_usd"].as_f64().unwrap_or(telemetry.usd);
        Ok(Done {
            text,
            model_used: model,
            adapter: adapter.unwrap_or_default().to_owned(),
            tokens_in: number(&content["tokens_in"], &usage["prompt_tokens"], telemetry.tokens_in),
            tokens_out: number(&content["tokens_out"], &usage["completion_tokens"], telemetry.tokens_out),
            cost_usd: cost,
            telemetry,
            content,
        })
    }
}

/// Of a message that stands in a fan-out's answer's place.
fn undecided(content: Value) -> Failure {
    let reason = content["reason"].as_str().unwrap_or("no lane answered").to_owned();
    let code = content["code"].as_str().and_then(Code::of_text).unwrap_or(Code::Adapter);
    Failure::Undecided { code, reason, content: Box::new(content) }
}

/// The text in a piece, whichever words it uses.
pub(crate) fn said(content: &Value) -> &str {
    let choice = &content["choices"][0];
    let places =
        [&content["text"], &choice["delta"]["content"], &choice["message"]["content"], &choice["text"]];
    places.into_iter().find_map(Value::as_str).unwrap_or_default()
}

fn read<'c, T: Deserialize<'c>>(content: &'c str) -> Result<T, Failure> {
    serde_json::from_str(content).map_err(|error| Failure::Garbled(error.to_string()))
}
