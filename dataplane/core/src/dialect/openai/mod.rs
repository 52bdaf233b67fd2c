//! OpenAI's answers on their way through: a stream event by event, or a whole answer piece by piece. Reads
//! what billing, limits and a sound end need (tokens as they come, usage, finish reasons, errors) and leaves
//! the bytes as they are. The only thing it takes out is the usage event the caller did not ask for.
//!
//! Any JSON object passes through, understood or not. What is no JSON is taken out and counted as
//! [`Progress::unread`]: such a stream is garbled, and its relay ends it as such.

pub mod chunks;
pub mod join;
pub mod merge;
mod reading;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use self::reading::COUNT_MAX;

use self::join::Chunk;
use self::reading::Reading;
use super::anthropic;
use super::json::{Lexer, Span, unescape};
use super::rope::Rope;
use super::sse::{Event, Splitter, Verdict};
use super::words::Words;
use crate::bill::Usage;
use crate::fault::Fault;

/// Reads one stream of `chat.completion.chunk` or text completion events; or, of an answer that passes to a
/// caller in its adapter's own words, of those.
#[derive(Debug)]
pub struct StreamReader {
    splitter: Splitter,
    judge: Judge,
}

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Events with something the model produced. Upstreams send a token an event, or a few: the least that
    /// came.
    pub tokens_received: u64,
    /// As the upstream reported it last.
    pub usage: Option<Usage>,
    /// `data: [DONE]` came.
    pub is_done: bool,
    /// An event with an error came, and was sent on.
    pub has_error: bool,
    /// That error says that the upstream is overloaded.
    pub is_overloaded: bool,
    /// Events whose data is no JSON object.
    pub unread: u64,
    /// Choices that appeared, and those with a finish reason: bit by index.
    seen: u128,
    finished: u128,
}

/// How a stream ended, and what the relay owes the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The caller has all of it: end cleanly.
    Complete,
    /// All of it but the last event: send [`StreamReader::last`], then end cleanly.
    CompleteWithoutDone,
    /// It broke off: send an error event, then abort the body. Never end cleanly: official clients take that
    /// for a complete answer.
    Truncated,
    /// The upstream said an error and the caller has it: abort the body.
    Errored,
}

/// What ends a stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

impl StreamReader {
    /// `drop_usage`: the caller did not ask for a usage event, so the one without choices is taken out.
    pub fn new(drop_usage: bool) -> StreamReader {
        StreamReader::of(Words::OpenAi, drop_usage)
    }

    /// For a stream in these words. Anthropic's always tell usage, within events that callers need.
    pub fn of(words: Words, drop_usage: bool) -> StreamReader {
        let (progress, counts) = (Progress::default(), anthropic::Counts::default());
        let judge = Judge { words, lexer: Lexer::new(), drop_usage, progress, counts };
        StreamReader { splitter: Splitter::new(), judge }
    }

    /// What ends a stream in these words.
    pub fn last(&self) -> &'static [u8] {
        match self.judge.words {
            Words::OpenAi => DONE,
            Words::Anthropic => b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        }
    }

    /// Reads the next piece; what can be sent on of it, whole events only, is appended to `out`.
    ///
    /// # Errors
    /// `Garbled`: an event is longer than [`super::sse::EVENT_BYTES_MAX`].
    pub fn push(&mut self, piece: &Bytes, out: &mut Rope) -> Result<(), Fault> {
        self.splitter.push(piece, out, |event| self.judge.read(event, |_| ()))
    }

    /// As [`StreamReader::push`] for an answer in other words: nothing is sent on; `text` is given each piece
    /// of text as it stands between its quotes, escapes and all. Such pieces may be joined; [`unescape`]
    /// makes them plain.
    ///
    /// # Errors
    /// As [`StreamReader::push`].
    pub fn push_text(&mut self, piece: &Bytes, mut text: impl FnMut(&[u8])) -> Result<(), Fault> {
        let mut nowhere = Rope::new();
        self.splitter.push(piece, &mut nowhere, |event| {
            self.judge.read(event, &mut text);
            Verdict::Drop
        })
    }

    /// As [`StreamReader::push`] for an answer that is carried in frames: `each` is given the data of every
    /// event that would be sent on, one JSON object, without what wraps it; sliced out of `piece` where it
    /// stands there in one part. The end mark is none of them.
    ///
    /// # Errors
    /// As [`StreamReader::push`].
    pub fn push_data(&mut self, piece: &Bytes, mut each: impl FnMut(Bytes)) -> Result<(), Fault> {
        self.push_chunks(piece, |chunk| each(chunk.data))
    }

    /// As [`StreamReader::push_data`], and says where the text of each stands.
    ///
    /// # Errors
    /// As [`StreamReader::push`].
    pub fn push_chunks(&mut self, piece: &Bytes, mut each: impl FnMut(Chunk)) -> Result<(), Fault> {
        let mut nowhere = Rope::new();
        self.splitter.push(piece, &mut nowhere, |event| {
            let mut text = None;
            let verdict = self.judge.read(event, |said| text = Some(said.as_ptr_range()));
            let data = event.data.filter(|data| verdict == Verdict::Forward && !data.trim_ascii().is_empty());
            if let Some(data) = data.filter(|data| !is_done(Some(data))) {
                let begin = data.as_ptr() as usize;
                let text = text.map(|text| text.start as usize - begin..text.end as usize - begin);
                each(Chunk { data: part_of(piece, data), text });
            }
            Verdict::Drop
        })
    }

    pub fn progress(&self) -> &Progress {
        &self.judge.progress
    }

    /// The body of the answer ended: `clean`, or cut.
    pub fn end(&mut self, clean: bool) -> StreamEnd {
        let progress = &self.judge.progress;
        if progress.has_error {
            return StreamEnd::Errored;
        }
        if progress.is_done {
            return StreamEnd::Complete;
        }
        // Some servers leave out the blank line after their last event.
        let judge = &mut self.judge;
        let done_at_last = self.splitter.tail().is_some_and(|event| judge.is_last(event));
        if clean && (done_at_last || self.judge.progress.is_finished()) {
            self.judge.progress.is_done |= done_at_last;
            return StreamEnd::CompleteWithoutDone;
        }
        StreamEnd::Truncated
    }
}

impl Progress {
    /// The model has produced something.
    pub fn has_first_token(&self) -> bool {
        self.tokens_received > 0
    }

    /// Every choice that appeared has its finish reason.
    pub fn is_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished
    }
}

/// Reads events and says what becomes of them.
#[derive(Debug)]
struct Judge {
    words: Words,
    lexer: Lexer,
    drop_usage: bool,
    progress: Progress,
    /// Of Anthropic's streams, whose events tell a part each.
    counts: anthropic::Counts,
}

impl Judge {
    fn read(&mut self, event: Event<'_>, text: impl FnOnce(&[u8])) -> Verdict {
        match self.words {
            Words::OpenAi => self.read_chunk(event, text),
            Words::Anthropic => self.read_message(event),
        }
    }

    fn is_last(&mut self, event: Event<'_>) -> bool {
        match self.words {
            Words::OpenAi => is_done(event.data),
            Words::Anthropic => {
                self.read_message(event);
                self.progress.is_done
            }
        }
    }

    fn read_message(&mut self, event: Event<'_>) -> Verdict {
        let Some(data) = event.data.filter(|data| !data.trim_ascii().is_empty()) else {
            return Verdict::Forward;
        };
        let mut reading = anthropic::Reading::default();
        self.lexer.reset();
        let sound = self.lexer.push(data, &mut reading).and_then(|()| self.lexer.finish());
        let progress = &mut self.progress;
        if sound.is_err() {
            progress.unread += 1;
            return Verdict::Drop;
        }
        self.counts.update(reading.counts);
        progress.seen = 1;
        progress.finished |= u128::from(reading.is_finished);
        progress.tokens_received += u64::from(matches!(reading.what, anthropic::What::Delta));
        // The first event says one token of output, whatever comes: true is what the last says.
        let told = self.counts.usage().map(|usage| match progress.finished {
            0 => Usage { output: usage.output.max(progress.tokens_received), estimated: true, ..usage },
            _ => usage,
        });
        progress.usage = told.or(progress.usage);
        match reading.what {
            anthropic::What::Stop => progress.is_done = true,
            anthropic::What::Error => {
                progress.has_error = true;
                progress.is_overloaded = reading.is_overloaded;
            }
            anthropic::What::Delta | anthropic::What::Other => {}
        }
        Verdict::Forward
    }

    fn read_chunk(&mut self, event: Event<'_>, text: impl FnOnce(&[u8])) -> Verdict {
        // Some servers keep a quiet stream alive with events without data.
        let Some(data) = event.data.filter(|data| !data.trim_ascii().is_empty()) else {
            return Verdict::Forward;
        };
        let mut reading = Reading::new();
        self.lexer.reset();
        let sound = self.lexer.push(data, &mut reading).and_then(|()| self.lexer.finish());
        let progress = &mut self.progress;
        progress.has_error |= event.name == b"error";
        if sound.is_err() {
            if is_done(event.data) {
                progress.is_done = true;
            } else if event.name != b"error" {
                // A client would fail on it; the relay says why instead.
                progress.unread += 1;
                return Verdict::Drop;
            }
            return Verdict::Forward;
        }
        progress.tokens_received += u64::from(reading.has_token);
        progress.has_error |= reading.is_error;
        progress.is_overloaded |= reading.is_overloaded;
        progress.seen |= reading.seen;
        progress.finished |= reading.finished;
        let usage = reading.usage();
        progress.usage = usage.or(progress.usage);
        if let Some(Span { start, end }) = reading.text {
            text(&data[start as usize + 1..end as usize - 1]);
        }
        // OpenAI's usage event has no choices; some servers repeat one that is over, with nothing in it.
        let is_over = progress.is_finished() && reading.finished == 0 && !reading.has_token;
        let is_usage_only = usage.is_some() && (!reading.has_choices || is_over) && !reading.is_error;
        if self.drop_usage && is_usage_only { Verdict::Drop } else { Verdict::Forward }
    }
}

/// `data` as a slice of `piece` where it lies in there, else as a copy.
fn part_of(piece: &Bytes, data: &[u8]) -> Bytes {
    let all = piece.as_ptr_range();
    let part = data.as_ptr_range();
    let is_within = all.start <= part.start && part.end <= all.end;
    if is_within { piece.slice_ref(data) } else { Bytes::copy_from_slice(data) }
}

fn is_done(data: Option<&[u8]>) -> bool {
    data.is_some_and(|data| data.trim_ascii() == b"[DONE]")
}

/// Reads an answer that is not streamed, of any length, piece by piece as it is relayed.
#[derive(Debug)]
pub struct BodyReader {
    lexer: Lexer,
    told: Told,
}

#[derive(Debug)]
enum Told {
    Chat(Reading),
    Message(anthropic::Reading),
}

/// What an answer that is not streamed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub usage: Option<Usage>,
    /// It is an error, whatever its status says.
    pub is_error: bool,
    /// It is one complete JSON object.
    pub is_sound: bool,
}

impl BodyReader {
    pub fn new() -> BodyReader {
        BodyReader::of(Words::OpenAi)
    }

    /// For an answer in these words.
    pub fn of(words: Words) -> BodyReader {
        let told = match words {
            Words::OpenAi => Told::Chat(Reading::new()),
            Words::Anthropic => Told::Message(anthropic::Reading::default()),
        };
        BodyReader { lexer: Lexer::new(), told }
    }

    /// Reads the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        // Whether it is sound is asked once, at the end; a lexer that failed does no more work.
        let _ = match &mut self.told {
            Told::Chat(reading) => self.lexer.push(piece, reading),
            Told::Message(reading) => self.lexer.push(piece, reading),
        };
    }

    /// The answer is complete.
    pub fn end(&mut self) -> Answer {
        let is_sound = self.lexer.finish().is_ok();
        let (usage, is_error) = match &self.told {
            Told::Chat(reading) => (reading.usage(), reading.is_error),
            Told::Message(reading) => (reading.counts.usage(), reading.what == anthropic::What::Error),
        };
        Answer { usage, is_error, is_sound }
    }
}

impl Default for BodyReader {
    fn default() -> BodyReader {
        BodyReader::new()
    }
}

/// Appends the text of one event's data, or of a whole answer, to `out`; false where it has none.
pub fn text_of(data: &[u8], out: &mut Vec<u8>) -> bool {
    let mut reading = Reading::new();
    let mut lexer = Lexer::new();
    let sound = lexer.push(data, &mut reading).and_then(|()| lexer.finish()).is_ok();
    let text = reading.text.filter(|_| sound);
    if let Some(Span { start, end }) = text {
        unescape(&data[start as usize + 1..end as usize - 1], out);
    }
    text.is_some()
}
