//! What one object of Anthropic's answers says to who only bills it and watches for its end: an event of a
//! stream, or a whole message.

use super::super::json::{Decimal, Descend, Literal, Shape, Span, Visitor};
use super::{Counts, OutputDetails};
use crate::fault::Fault;

/// Filled while the lexer reads one object.
#[derive(Debug, Default)]
pub(in super::super) struct Reading {
    pub counts: Counts,
    pub what: What,
    /// A reason to stop, which ends the answer.
    pub is_finished: bool,
    /// It is an error that says its provider is overloaded.
    pub is_overloaded: bool,
    place: Place,
    key: Key,
}

/// The object's `type`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum What {
    #[default]
    Other,
    /// Something the model produced.
    Delta,
    /// The last event.
    Stop,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Outside,
    Top,
    Message,
    Delta,
    Error,
    /// In the top object, or in its message.
    Usage {
        within_message: bool,
    },
    Details {
        within_message: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Key {
    #[default]
    Other,
    Type,
    Message,
    Delta,
    Error,
    Usage,
    StopReason,
    Input,
    CacheRead,
    CacheWrite,
    Output,
    Details,
    Thinking,
}

impl Visitor for Reading {
    #[inline]
    fn key(&mut self, text: Option<&[u8]>, _: Span) -> Result<Descend, Fault> {
        self.key = text.map_or(Key::Other, |text| Key::of(self.place, text));
        Ok(if self.key == Key::Other { Descend::Over } else { Descend::Enter })
    }

    #[inline]
    fn open(&mut self, shape: Shape, _: u64) -> Result<Descend, Fault> {
        self.place = match (self.place, std::mem::take(&mut self.key), shape) {
            (Place::Outside, ..) => Place::Top,
            (Place::Top, Key::Message, Shape::Object) => Place::Message,
            (Place::Top, Key::Delta, Shape::Object) => Place::Delta,
            (Place::Top, Key::Error, Shape::Object) => Place::Error,
            (Place::Top, Key::Usage, Shape::Object) => Place::Usage { within_message: false },
            (Place::Message, Key::Usage, Shape::Object) => Place::Usage { within_message: true },
            (Place::Usage { within_message }, Key::Details, Shape::Object) => {
                Place::Details { within_message }
            }
            _ => return Ok(Descend::Over),
        };
        Ok(Descend::Enter)
    }

    #[inline]
    fn close(&mut self, _: u64) -> Result<(), Fault> {
        self.key = Key::Other;
        self.place = match self.place {
            Place::Details { within_message } => Place::Usage { within_message },
            Place::Usage { within_message: true } => Place::Message,
            Place::Message | Place::Delta | Place::Error | Place::Usage { within_message: false } => {
                Place::Top
            }
            Place::Top | Place::Outside => Place::Outside,
        };
        Ok(())
    }

    fn skipped(&mut self, _: Shape, _: Span, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn string(&mut self, text: Option<&[u8]>, _: u64, _: Span) -> Result<(), Fault> {
        match (self.place, self.key) {
            (Place::Top, Key::Type) => {
                self.what = match text {
                    Some(b"content_block_delta") => What::Delta,
                    Some(b"message_stop") => What::Stop,
                    Some(b"error") => What::Error,
                    _ => What::Other,
                }
            }
            (Place::Error, Key::Type) => self.is_overloaded = text == Some(b"overloaded_error"),
            (_, Key::StopReason) => self.is_finished = true,
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, number: Decimal, _: Span) -> Result<(), Fault> {
        let Some(count) = number.as_u64() else { return Ok(()) };
        let counts = &mut self.counts;
        match self.key {
            Key::Input => counts.input_tokens = Some(count),
            Key::CacheRead => counts.cache_read_input_tokens = Some(count),
            Key::CacheWrite => counts.cache_creation_input_tokens = Some(count),
            Key::Output => counts.output_tokens = Some(count),
            Key::Thinking => {
                counts.output_tokens_details = Some(OutputDetails { thinking_tokens: Some(count) });
            }
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn literal(&mut self, _: Literal, _: Span) -> Result<(), Fault> {
        Ok(())
    }
}

impl Key {
    #[inline]
    fn of(place: Place, text: &[u8]) -> Key {
        match (place, text) {
            (Place::Top | Place::Error, b"type") => Key::Type,
            (Place::Top, b"message") => Key::Message,
            (Place::Top, b"delta") => Key::Delta,
            (Place::Top, b"error") => Key::Error,
            (Place::Top | Place::Message, b"usage") => Key::Usage,
            (Place::Top | Place::Delta, b"stop_reason") => Key::StopReason,
            (Place::Usage { .. }, b"input_tokens") => Key::Input,
            (Place::Usage { .. }, b"cache_read_input_tokens") => Key::CacheRead,
            (Place::Usage { .. }, b"cache_creation_input_tokens") => Key::CacheWrite,
            (Place::Usage { .. }, b"output_tokens") => Key::Output,
            (Place::Usage { .. }, b"output_tokens_details") => Key::Details,
            (Place::Details { .. }, b"thinking_tokens") => Key::Thinking,
            _ => Key::Other,
        }
    }
}
