//! The keys a scan acts on: what each may hold, and where it goes in the [`Head`].

use proto_core::model::NAME_BYTES_MAX;
use proto_core::units::Picodollars;

use super::super::json::{Decimal, Descend, Literal, Shape, Span, Visitor};
use super::head::{Asked, Head, Inline, Named, Profile, Quality, StreamOptions, UsageFlag};
use crate::fault::{Fault, Kind, MalformedWhat};

/// Fills the head while the lexer reads.
#[derive(Debug)]
pub(super) struct Reader {
    head: Head,
    /// The key whose value comes next.
    key: Key,
    /// Bit by [`Key`]: it stood already.
    seen: u32,
    place: Place,
    /// Offset of the `{` of `stream_options`, while inside.
    options_at: u64,
    /// `session_id` was given: `conversation_id` does not replace it.
    has_session: bool,
}

/// The container whose members are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Top,
    StreamOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Other,
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    N,
    Tools,
    StreamOptions,
    IncludeUsage,
    Messages,
    System,
    Prompt,
    Input,
    Quality,
    MaxCostUsd,
    LatencySloMs,
    TaskType,
    SessionId,
    ConversationId,
    ContextRefs,
}

impl Reader {
    pub fn new(profile: Profile) -> Reader {
        Reader {
            head: Head::new(profile),
            key: Key::Other,
            seen: 0,
            place: Place::Outside,
            options_at: 0,
            has_session: false,
        }
    }

    pub fn finish(&mut self, body_bytes: u64) -> Result<Head, Fault> {
        self.head.body_bytes = body_bytes;
        let missing = match self.head.profile {
            Profile::Ask => self.head.content.is_none().then_some(Key::Prompt),
            _ => self.head.model.is_none().then_some(Key::Model),
        };
        match missing {
            Some(key) => Err(Fault::malformed(MalformedWhat::MissingKey(key.name()), body_bytes)),
            None => Ok(self.head),
        }
    }

    fn wrong_type(&self, expected: &'static str, span: Span) -> Result<(), Fault> {
        Err(Fault::malformed(MalformedWhat::WrongType(self.key.name(), expected), span.start))
    }

    fn invalid(&self, expected: &'static str) -> Result<(), Fault> {
        Err(Fault::client(Kind::InvalidField(self.key.name(), expected)))
    }

    /// The value of the current key is of none of the types it may have.
    fn other_type(&mut self, span: Span) -> Result<(), Fault> {
        match self.key.expected(self.head.profile) {
            Some(expected) => self.wrong_type(expected, span),
            None => {
                if self.key.is_content() {
                    self.head.content = Some(span);
                }
                if self.key == Key::System {
                    self.head.system_bytes = span.end - span.start;
                }
                Ok(())
            }
        }
    }

    fn ask_prompt(&mut self, chars: u64, span: Span) -> Result<(), Fault> {
        match u32::try_from(chars) {
            Ok(chars @ 1..=Asked::PROMPT_CHARS_MAX) => {
                self.head.ask.prompt_chars = chars;
                self.head.content = Some(span);
                Ok(())
            }
            _ => self.invalid("1 to 100000 characters"),
        }
    }

    fn session(&mut self, text: Option<&[u8]>) -> Result<(), Fault> {
        let session = Inline::of(text);
        if session.as_str().is_none() {
            return self.invalid("at most 100 bytes");
        }
        let is_session_id = self.key == Key::SessionId;
        if is_session_id || !self.has_session {
            self.head.ask.session = session;
        }
        self.has_session |= is_session_id;
        Ok(())
    }
}

impl Visitor for Reader {
    #[inline]
    fn key(&mut self, text: Option<&[u8]>, span: Span) -> Result<Descend, Fault> {
        self.key = match self.place {
            Place::StreamOptions => match text {
                Some(b"include_usage") => Key::IncludeUsage,
                _ => Key::Other,
            },
            _ => {
                self.head.is_empty = false;
                text.map_or(Key::Other, |text| Key::of(self.head.profile, text))
            }
        };
        if let (Place::StreamOptions, StreamOptions::Object { is_empty, .. }) =
            (self.place, &mut self.head.stream_options)
        {
            *is_empty = false;
        }
        if self.key == Key::Other {
            return Ok(Descend::Over);
        }
        let bit = 1 << self.key as u32;
        if self.seen & bit != 0 {
            return Err(Fault::malformed(MalformedWhat::DuplicateKey(self.key.name()), span.start));
        }
        self.seen |= bit;
        Ok(Descend::Enter)
    }

    fn open(&mut self, shape: Shape, at: u64) -> Result<Descend, Fault> {
        match (self.place, self.key, shape) {
            (Place::Outside, ..) => {
                self.place = Place::Top;
                self.head.inside = at + 1;
                Ok(Descend::Enter)
            }
            (Place::Top, Key::StreamOptions, Shape::Object) => {
                self.place = Place::StreamOptions;
                self.options_at = at;
                let span = Span { start: at, end: at };
                self.head.stream_options =
                    StreamOptions::Object { span, is_empty: true, include_usage: None };
                Ok(Descend::Enter)
            }
            _ => Ok(Descend::Over),
        }
    }

    fn close(&mut self, end: u64) -> Result<(), Fault> {
        if self.place == Place::StreamOptions {
            self.place = Place::Top;
            if let StreamOptions::Object { span, .. } = &mut self.head.stream_options {
                *span = Span { start: self.options_at, end };
            }
        }
        Ok(())
    }

    fn skipped(&mut self, shape: Shape, span: Span, items: u64) -> Result<(), Fault> {
        match (self.key, shape) {
            (Key::Tools, Shape::Array) => self.head.has_tools = items > 0,
            (Key::ContextRefs, Shape::Array) => {
                self.head.ask.context_refs = items;
                self.head.ask.context_at = Some(span);
            }
            (Key::Messages | Key::Prompt | Key::Input, Shape::Array) if self.head.profile != Profile::Ask => {
                self.head.content = Some(span);
                self.head.items = items;
            }
            _ => return self.other_type(span),
        }
        Ok(())
    }

    #[inline]
    fn string(&mut self, text: Option<&[u8]>, chars: u64, span: Span) -> Result<(), Fault> {
        match self.key {
            Key::Other => {}
            Key::Model => self.head.model = Some(Named { span, name: Inline::of(text) }),
            Key::Prompt if self.head.profile == Profile::Ask => return self.ask_prompt(chars, span),
            Key::Quality => match text {
                Some(b"fast") => self.head.ask.quality = Quality::Fast,
                Some(b"balanced") => self.head.ask.quality = Quality::Balanced,
                Some(b"high") => self.head.ask.quality = Quality::High,
                _ => return self.invalid("`fast`, `balanced` or `high`"),
            },
            Key::TaskType => {
                self.head.ask.task_type = Inline::of(text);
                if self.head.ask.task_type.as_str().is_none() {
                    return self.invalid("at most 64 bytes");
                }
            }
            Key::SessionId | Key::ConversationId => return self.session(text),
            _ => return self.other_type(span),
        }
        Ok(())
    }

    fn number(&mut self, number: Decimal, span: Span) -> Result<(), Fault> {
        let whole = || number.as_u64();
        match self.key {
            Key::MaxTokens | Key::MaxCompletionTokens | Key::N => {
                let Some(count) = whole() else { return self.other_type(span) };
                match self.key {
                    Key::MaxTokens => self.head.max_tokens = Some(count),
                    Key::MaxCompletionTokens => self.head.max_completion_tokens = Some(count),
                    _ => self.head.n = Some(count),
                }
            }
            Key::LatencySloMs => match whole() {
                Some(millis @ 100..=30_000) => self.head.ask.latency_slo_ms = Some(millis as u32),
                _ => return self.invalid("a whole number from 100 to 30000"),
            },
            Key::MaxCostUsd => match number.scaled(PICO_DIGITS) {
                Some((pico @ COST_MIN..COST_MAX, _) | (pico @ COST_MAX, false)) => {
                    self.head.ask.max_cost = Some(Picodollars(pico));
                }
                _ => return self.invalid("a number from 0.001 to 10"),
            },
            _ => return self.other_type(span),
        }
        Ok(())
    }

    fn literal(&mut self, literal: Literal, span: Span) -> Result<(), Fault> {
        let on = literal == Literal::True;
        match (self.key, literal) {
            (Key::Stream, _) => {
                self.head.stream = on;
                self.head.says_stream = true;
            }
            (Key::IncludeUsage, _) => {
                if let StreamOptions::Object { include_usage, .. } = &mut self.head.stream_options {
                    *include_usage = Some(UsageFlag { span, on });
                }
            }
            (Key::StreamOptions, Literal::Null) => self.head.stream_options = StreamOptions::Null(span),
            (Key::Model, Literal::Null) if self.head.profile == Profile::Ask => {}
            (Key::Prompt, Literal::Null) if self.head.profile == Profile::Ask => {
                return self.wrong_type("a string", span);
            }
            (key, Literal::Null) if key != Key::Model => {}
            _ => return self.other_type(span),
        }
        Ok(())
    }
}

impl Key {
    fn of(profile: Profile, text: &[u8]) -> Key {
        use Profile::{Ask, Chat, Completions, Embeddings, Messages};
        match (text, profile) {
            (b"model", _) => Key::Model,
            (b"messages", Chat | Messages) => Key::Messages,
            (b"system", Messages) => Key::System,
            (b"prompt", Completions | Ask) => Key::Prompt,
            (b"input", Embeddings) => Key::Input,
            (b"stream", Chat | Completions | Messages) => Key::Stream,
            (b"stream_options", Chat | Completions) => Key::StreamOptions,
            (b"max_tokens", Chat | Completions | Ask | Messages) => Key::MaxTokens,
            (b"max_completion_tokens", Chat | Completions) => Key::MaxCompletionTokens,
            (b"n", Chat | Completions) => Key::N,
            (b"tools", Chat | Messages) => Key::Tools,
            (b"quality", Ask) => Key::Quality,
            (b"max_cost_usd", Ask) => Key::MaxCostUsd,
            (b"latency_slo_ms", Ask) => Key::LatencySloMs,
            (b"task_type", Ask) => Key::TaskType,
            (b"session_id", Ask) => Key::SessionId,
            (b"conversation_id", Ask) => Key::ConversationId,
            (b"context_refs", Ask) => Key::ContextRefs,
            _ => Key::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Key::Other => "",
            Key::Model => "model",
            Key::Stream => "stream",
            Key::MaxTokens => "max_tokens",
            Key::MaxCompletionTokens => "max_completion_tokens",
            Key::N => "n",
            Key::Tools => "tools",
            Key::StreamOptions => "stream_options",
            Key::IncludeUsage => "stream_options.include_usage",
            Key::Messages => "messages",
            Key::System => "system",
            Key::Prompt => "prompt",
            Key::Input => "input",
            Key::Quality => "quality",
            Key::MaxCostUsd => "max_cost_usd",
            Key::LatencySloMs => "latency_slo_ms",
            Key::TaskType => "task_type",
            Key::SessionId => "session_id",
            Key::ConversationId => "conversation_id",
            Key::ContextRefs => "context_refs",
        }
    }

    /// What its value must be; `None`: whatever it is, it is the upstream's to judge.
    fn expected(self, profile: Profile) -> Option<&'static str> {
        match self {
            Key::Model | Key::Quality | Key::TaskType | Key::SessionId | Key::ConversationId => {
                Some("a string")
            }
            Key::Prompt if profile == Profile::Ask => Some("a string"),
            Key::Stream | Key::IncludeUsage => Some("true or false"),
            Key::MaxTokens | Key::MaxCompletionTokens | Key::N => Some("a whole number of 0 or more"),
            Key::MaxCostUsd | Key::LatencySloMs => Some("a number"),
            Key::StreamOptions => Some("an object"),
            Key::Other | Key::Tools | Key::Messages | Key::System => None,
            Key::Prompt | Key::Input | Key::ContextRefs => None,
        }
    }

    fn is_content(self) -> bool {
        matches!(self, Key::Messages | Key::Prompt | Key::Input)
    }
}

/// `max_cost_usd` is read in picodollars.
const PICO_DIGITS: u32 = 12;
const COST_MIN: u64 = Picodollars::PER_USD / 1000;
const COST_MAX: u64 = Picodollars::PER_USD * 10;

const _: () =
    assert!(NAME_BYTES_MAX == super::super::json::TEXT_BYTES_MAX, "a name that exists is never cut");
