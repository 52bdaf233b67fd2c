//! What one object of OpenAI's answers says: an event of a stream, or a whole answer that is not streamed.

use super::super::json::{Decimal, Descend, Literal, Shape, Span, Visitor};
use crate::bill::Usage;
use crate::fault::Fault;

/// Filled while the lexer reads one object.
#[derive(Debug)]
pub(super) struct Reading {
    /// `choices` is there and has elements.
    pub has_choices: bool,
    /// Some choice carries something the model produced: text, reasoning, a refusal, a tool call.
    pub has_token: bool,
    /// The last text of a choice (`delta.content`, `message.content` or `text`), quotes included.
    pub text: Option<Span>,
    /// There is an `error` that is not null, or the object is one.
    pub is_error: bool,
    /// That error says so: it is how an overloaded provider of Anthropic's is told here.
    pub is_overloaded: bool,
    /// Choices that appear, and those with a `finish_reason`: bit by index, the last for all beyond.
    pub seen: u128,
    pub finished: u128,
    usage: Usage,
    has_usage: bool,
    place: Place,
    key: Key,
    index: u32,
    is_finished: bool,
}

/// The container whose members are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Top,
    Choices,
    Choice,
    Delta,
    Error,
    Usage,
    PromptDetails,
    CompletionDetails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Other,
    Object,
    Choices,
    Usage,
    Error,
    ErrorCode,
    Index,
    /// `delta` of a stream, `message` of an answer in one.
    Delta,
    FinishReason,
    /// Text the caller sees.
    Text,
    /// Anything else a model produces.
    Product,
    PromptTokens,
    CompletionTokens,
    PromptDetails,
    CompletionDetails,
    CachedTokens,
    CacheWriteTokens,
    ReasoningTokens,
}

impl Reading {
    pub fn new() -> Reading {
        Reading {
            has_choices: false,
            has_token: false,
            text: None,
            is_error: false,
            is_overloaded: false,
            seen: 0,
            finished: 0,
            usage: Usage::default(),
            has_usage: false,
            place: Place::Outside,
            key: Key::Other,
            index: 0,
            is_finished: false,
        }
    }

    /// What was reported, all of it or nothing: where one count cannot be, neither are the others believed.
    pub fn usage(&self) -> Option<Usage> {
        let Usage { input, cached_input, cache_write, output, reasoning, .. } = self.usage;
        let counts = [input, cached_input, cache_write, output, reasoning];
        let is_likely = counts.into_iter().all(|count| count <= COUNT_MAX);
        (self.has_usage && is_likely).then_some(self.usage)
    }

    fn token_count(&mut self, count: u64) {
        let usage = &mut self.usage;
        match self.key {
            Key::PromptTokens => usage.input = count,
            Key::CompletionTokens => usage.output = count,
            Key::CachedTokens => usage.cached_input = count,
            Key::CacheWriteTokens => usage.cache_write = count,
            Key::ReasoningTokens => usage.reasoning = count,
            _ => return,
        }
        self.has_usage = true;
    }
}

impl Visitor for Reading {
    #[inline]
    fn key(&mut self, text: Option<&[u8]>, _: Span) -> Result<Descend, Fault> {
        self.key = text.map_or(Key::Other, |text| Key::of(self.place, text));
        Ok(if self.key == Key::Other { Descend::Over } else { Descend::Enter })
    }

    #[inline]
    fn open(&mut self, shape: Shape, _: u64) -> Result<Descend, Fault> {
        self.place = match (self.place, std::mem::replace(&mut self.key, Key::Other), shape) {
            (Place::Outside, ..) => Place::Top,
            (Place::Top, Key::Choices, Shape::Array) => Place::Choices,
            (Place::Top, Key::Usage, Shape::Object) => Place::Usage,
            (Place::Top, Key::Error, Shape::Object) => {
                self.is_error = true;
                Place::Error
            }
            (Place::Choices, _, Shape::Object) => {
                self.has_choices = true;
                self.index = 0;
                self.is_finished = false;
                Place::Choice
            }
            (Place::Choice, Key::Delta, Shape::Object) => Place::Delta,
            (Place::Usage, Key::PromptDetails, Shape::Object) => Place::PromptDetails,
            (Place::Usage, Key::CompletionDetails, Shape::Object) => Place::CompletionDetails,
            (_, key, _) => {
                self.key = key;
                return Ok(Descend::Over);
            }
        };
        Ok(Descend::Enter)
    }

    #[inline]
    fn close(&mut self, _: u64) -> Result<(), Fault> {
        self.key = Key::Other;
        self.place = match self.place {
            Place::Choice => {
                let bit = 1 << self.index;
                self.seen |= bit;
                self.finished |= if self.is_finished { bit } else { 0 };
                Place::Choices
            }
            Place::Delta => Place::Choice,
            Place::Choices | Place::Usage | Place::Error => Place::Top,
            Place::PromptDetails | Place::CompletionDetails => Place::Usage,
            Place::Top | Place::Outside => Place::Outside,
        };
        Ok(())
    }

    fn skipped(&mut self, _: Shape, _: Span, items: u64) -> Result<(), Fault> {
        match self.key {
            Key::Error => self.is_error = true,
            Key::Product | Key::Text => self.has_token |= items > 0,
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn string(&mut self, text: Option<&[u8]>, chars: u64, span: Span) -> Result<(), Fault> {
        match self.key {
            Key::Text if chars > 0 => {
                self.has_token = true;
                self.text = Some(span);
            }
            Key::Product => self.has_token |= chars > 0,
            // Some servers write "" where others write null.
            Key::FinishReason => self.is_finished = chars > 0,
            Key::Error => self.is_error = true,
            Key::ErrorCode => self.is_overloaded = text == Some(b"overloaded_error"),
            Key::Object => self.is_error |= text == Some(b"error"),
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, number: Decimal, _: Span) -> Result<(), Fault> {
        let whole = number.as_u64();
        match (self.key, whole) {
            (Key::Index, Some(index)) => self.index = index.min(INDEX_MAX) as u32,
            (Key::Error, _) => self.is_error = true,
            (_, Some(count)) => self.token_count(count),
            (_, None) => {}
        }
        Ok(())
    }

    #[inline]
    fn literal(&mut self, literal: Literal, _: Span) -> Result<(), Fault> {
        if self.key == Key::Error && literal == Literal::True {
            self.is_error = true;
        }
        Ok(())
    }
}

impl Key {
    #[inline]
    fn of(place: Place, text: &[u8]) -> Key {
        match place {
            Place::Top => match text {
                b"object" => Key::Object,
                b"choices" => Key::Choices,
                b"usage" => Key::Usage,
                b"error" => Key::Error,
                _ => Key::Other,
            },
            Place::Choice => match text {
                b"index" => Key::Index,
                b"delta" | b"message" => Key::Delta,
                b"text" => Key::Text,
                b"finish_reason" => Key::FinishReason,
                _ => Key::Other,
            },
            Place::Delta => match text {
                b"content" => Key::Text,
                b"reasoning_content" | b"reasoning" | b"refusal" | b"tool_calls" | b"function_call"
                | b"audio" => Key::Product,
                _ => Key::Other,
            },
            Place::Usage => match text {
                b"prompt_tokens" => Key::PromptTokens,
                b"completion_tokens" => Key::CompletionTokens,
                b"prompt_tokens_details" => Key::PromptDetails,
                b"completion_tokens_details" => Key::CompletionDetails,
                _ => Key::Other,
            },
            Place::Error if text == b"code" => Key::ErrorCode,
            Place::PromptDetails if text == b"cached_tokens" => Key::CachedTokens,
            Place::PromptDetails if text == b"cache_write_tokens" => Key::CacheWriteTokens,
            Place::CompletionDetails if text == b"reasoning_tokens" => Key::ReasoningTokens,
            _ => Key::Other,
        }
    }
}

/// OpenAI allows 128 choices, so every index has a bit.
const INDEX_MAX: u64 = 127;
/// Of tokens, a hundred times the longest context there is. What servers write where they do not know (all
/// bits of a number of 32 or 64, with a sign or without) is above it: a debt of years to whoever asked.
pub(in super::super) const COUNT_MAX: u64 = 1 << 30;
