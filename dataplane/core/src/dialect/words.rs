//! Whose words are spoken on either side of an exchange, and how they meet.
//!
//! A caller speaks one of [`Words`], an adapter one. Where both speak the same, bytes pass through. Where
//! they do not, they meet in OpenAI's chat completions, the hub: a caller's request is told in the hub's
//! words by the room that took it, [`request`] tells it in the adapter's; a [`Retelling`] tells the adapter's
//! answer in the hub's, and the caller's room tells that in the caller's. So a dialect is translated to and
//! from one other, not to and from all, and whatever reads answers (bills, limits, `/v1/ask`, sessions,
//! fan-out) reads the hub's.
//!
//! A further kind of adapter whose words no caller speaks (Ollama's lines, gRPC's messages) is told and tells
//! the hub's in a room of its own in the data plane's `upstream`. Words that callers speak too plug in here,
//! so that bytes can pass where both speak them:
//! 1. a variant of [`Words`], and its kind in [`Words::of`];
//! 2. its requests in [`request`]: a pure function of a chat completion's body;
//! 3. its answers as a variant of [`Retelling`]: pieces of bytes in, whole events of the hub out, with usage
//!    before `[DONE]` (a caller that did not ask for it never sees it) and errors as the hub says them;
//! 4. what reads those that pass, in [`super::openai`]; and where they are sent, in `upstream`.

use bytes::Bytes;
use proto_core::model::AdapterKind;

use super::anthropic;
use super::rope::Rope;
use crate::fault::Fault;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Words {
    /// Chat completions: the hub.
    #[default]
    OpenAi,
    /// Messages.
    Anthropic,
}

impl Words {
    /// What an adapter of this kind is told and tells; the hub's also where its own room in `upstream` tells
    /// them in words that no caller speaks.
    pub fn of(kind: &AdapterKind) -> Words {
        match kind {
            AdapterKind::Anthropic { .. } => Words::Anthropic,
            AdapterKind::OpenAi { .. }
            | AdapterKind::Dialled { .. }
            | AdapterKind::Ollama { .. }
            | AdapterKind::Grpc { .. }
            | AdapterKind::Persona(_)
            | AdapterKind::Echo(_)
            | AdapterKind::Attached => Words::OpenAi,
        }
    }
}

/// `body`, a chat completion for one adapter, in the words it speaks.
///
/// # Errors
/// `InvalidField`: it asks for what cannot be said in those words, such as several answers at once.
pub fn request(to: Words, body: Rope) -> Result<Rope, Fault> {
    match to {
        Words::OpenAi => Ok(body),
        Words::Anthropic => anthropic::request::from_chat(&body).map(|told| Bytes::from(told).into()),
    }
}

/// An answer on its way from an adapter's words to the hub's.
#[derive(Debug)]
pub enum Retelling {
    /// Events of Anthropic's.
    Messages(Box<anthropic::ToChunks>),
    /// A whole answer or refusal, told at its end.
    Whole(Whole),
}

/// An answer that is told as one.
#[derive(Debug)]
pub struct Whole {
    words: Words,
    created_s: u64,
    bytes: Vec<u8>,
}

impl Retelling {
    /// For an answer whose head says this. `created_s`: seconds since 1970, which the hub's answers tell.
    pub fn new(words: Words, content_type: &[u8], created_s: u64) -> Retelling {
        match words {
            Words::Anthropic if content_type.starts_with(b"text/event-stream") => {
                Retelling::Messages(Box::new(anthropic::ToChunks::new(created_s)))
            }
            _ => Retelling::Whole(Whole { words, created_s, bytes: Vec::new() }),
        }
    }

    /// It comes out as a stream of events.
    pub fn is_stream(&self) -> bool {
        !matches!(self, Retelling::Whole(_))
    }

    /// Reads the next piece; what can be told of it is appended to `out`.
    ///
    /// # Errors
    /// `Garbled`: it is longer than is held, or not what these words say.
    pub fn push(&mut self, piece: &Bytes, out: &mut Rope) -> Result<(), Fault> {
        match self {
            Retelling::Messages(messages) => messages.push(piece, out),
            Retelling::Whole(whole) => whole.push(piece),
        }
    }

    /// The answer's body ended cleanly; whether it was all of it shows in what was told.
    pub fn end(&mut self, out: &mut Rope) {
        match self {
            Retelling::Messages(messages) => messages.end(out),
            Retelling::Whole(whole) => out.push(whole.told()),
        }
    }
}

impl Whole {
    fn push(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if self.bytes.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(super::sse::too_long());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// What does not read as an answer of these words stays as it is: then it is some page of a server
    /// between.
    fn told(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        let told = match self.words {
            Words::OpenAi => None,
            Words::Anthropic => anthropic::answer::to_chat(&bytes, self.created_s),
        };
        told.unwrap_or(bytes).into()
    }
}

/// Of an answer without a stream that is told in other words, which needs all of it: a hundred times what
/// models write.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
