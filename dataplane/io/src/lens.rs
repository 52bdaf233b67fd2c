//! How an answer is read on its way, and what the caller is given of it.

use bytes::Bytes;
use dataplane_core::bill::Usage;
use dataplane_core::dialect::anthropic::ToEvents;
use dataplane_core::dialect::ask::lines;
use dataplane_core::dialect::openai::join::{JOINED_BYTES_MAX, Joiner};
use dataplane_core::dialect::openai::{BodyReader, StreamEnd, StreamReader};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind, Retry};
use proto_core::model::Price;
use proto_core::units::Picodollars;

use crate::charge::Charge;

/// One answer's reader.
#[derive(Debug)]
pub enum Lens {
    /// Event by event, as they are.
    Events(StreamReader),
    /// As one: an answer without a stream that is too long to hold.
    Body(BodyReader),
    /// Event by event, told as the lines of `/v1/ask`.
    Ask(Box<Told>),
    /// Event by event, told as those of Messages.
    Messages(Box<Messages>),
    /// Event by event, each piece the data of one, or of some that differ in their text alone and came
    /// together.
    Data(StreamReader, Joiner),
    /// Event by event, each piece text as it stands between the quotes of JSON: what came together, which is
    /// the second.
    Text(StreamReader, Vec<u8>),
}

/// An answer told in Anthropic's words.
#[derive(Debug)]
pub struct Messages {
    pub reader: StreamReader,
    events: ToEvents,
}

/// An answer told as lines.
#[derive(Debug)]
pub struct Told {
    pub reader: StreamReader,
    pub model: Box<str>,
    /// Chunks so far.
    pub seq: u64,
    /// The text so far, as it stands between the quotes of JSON; at most `TEXT_BYTES_MAX`.
    pub text: Vec<u8>,
    pub cost_max: Option<Picodollars>,
    /// Tokens of the prompt, until the upstream says.
    pub input_estimate: u64,
    /// Of the plan's dearest other candidate.
    pub dearest: Option<Price>,
    pub escalations: u32,
    pub cluster_hint: Option<&'static str>,
    pub phase: &'static str,
}

impl Lens {
    /// A piece of the answer came; what the caller is given of it is appended to `out`.
    pub fn on_piece(&mut self, piece: Bytes, charge: &mut Charge, out: &mut Rope) -> Result<(), Fault> {
        match self {
            Lens::Events(reader) => {
                reader.push(&piece, out)?;
                // The upstream's own words were relayed; what follows is the cut.
                judged(reader)
            }
            Lens::Body(reader) => {
                reader.push(&piece);
                out.push(piece);
                Ok(())
            }
            Lens::Ask(told) => told.on_piece(&piece, charge, out),
            Lens::Messages(messages) => messages.on_piece(&piece, out),
            Lens::Data(reader, joiner) => {
                reader.push_chunks(&piece, |chunk| joiner.push(chunk, |data| out.push(data)))?;
                judged(reader)
            }
            Lens::Text(reader, held) => {
                reader.push_text(&piece, |raw| {
                    if held.len() + raw.len() > JOINED_BYTES_MAX {
                        out.push(std::mem::take(held).into());
                    }
                    held.extend_from_slice(raw);
                })?;
                judged(reader)
            }
        }
    }

    /// Nothing more is here for now: what was held to be told with it.
    pub fn flush(&mut self, out: &mut Rope) {
        match self {
            Lens::Data(_, joiner) => joiner.flush(|data| out.push(data)),
            Lens::Text(_, held) => out.push(std::mem::take(held).into()),
            Lens::Events(_) | Lens::Body(_) | Lens::Ask(_) | Lens::Messages(_) => {}
        }
    }

    /// The answer's body ended cleanly. Was it all?
    pub fn on_end(&mut self, charge: &mut Charge, input_estimate: u64, out: &mut Rope) -> Result<(), Fault> {
        self.flush(out);
        let reader = match self {
            Lens::Events(reader) | Lens::Data(reader, _) | Lens::Text(reader, _) => reader,
            Lens::Body(reader) => {
                if let Some(usage) = reader.end().usage {
                    charge.set_usage(usage);
                }
                return Ok(());
            }
            Lens::Ask(told) => &mut told.reader,
            Lens::Messages(messages) => &mut messages.reader,
        };
        match reader.end(true) {
            StreamEnd::Truncated => return Err(Fault::upstream(Kind::Truncated, Retry::Never)),
            StreamEnd::Errored => return Err(STREAM_ERROR),
            StreamEnd::CompleteWithoutDone if let Lens::Events(reader) = self => {
                out.push(Bytes::from_static(reader.last()));
            }
            StreamEnd::Complete | StreamEnd::CompleteWithoutDone => {}
        }
        match self {
            Lens::Ask(told) => {
                let usage = told.usage(input_estimate);
                charge.set_usage(usage);
                out.push(told.last(usage, charge));
            }
            Lens::Messages(messages) => {
                let mut last = Vec::new();
                messages.events.finish(&counted(&messages.reader, input_estimate), &mut last);
                out.push(last.into());
            }
            _ => {}
        }
        Ok(())
    }

    /// What is known of the tokens: what the upstream reported, else what was received, counted here.
    pub fn usage(&self, input_estimate: u64) -> Option<Usage> {
        match self {
            Lens::Events(reader) | Lens::Data(reader, _) | Lens::Text(reader, _) => {
                Some(counted(reader, input_estimate))
            }
            Lens::Body(_) => None,
            Lens::Ask(told) => Some(told.usage(input_estimate)),
            Lens::Messages(messages) => Some(counted(&messages.reader, input_estimate)),
        }
    }

    /// Output tokens received so far; of an answer read as one they are known at its end.
    pub fn output_so_far(&self) -> u64 {
        match self {
            Lens::Events(reader) | Lens::Data(reader, _) | Lens::Text(reader, _) => {
                reader.progress().tokens_received
            }
            Lens::Body(_) => 0,
            Lens::Ask(told) => told.reader.progress().tokens_received,
            Lens::Messages(messages) => messages.reader.progress().tokens_received,
        }
    }

    /// The upstream's own error was passed on as it stood.
    pub fn passes_errors(&self) -> bool {
        matches!(self, Lens::Events(_))
    }
}

impl Messages {
    /// `first`: what came already, in the hub's words, and who goes on where it ends. What is told of it is
    /// appended to `out`.
    pub fn new(first: &Rope, reader: StreamReader, out: &mut Rope) -> Result<Messages, Fault> {
        let mut messages = Messages { reader: StreamReader::new(false), events: ToEvents::new() };
        for piece in first.iter() {
            messages.on_piece(piece, out)?;
        }
        messages.reader = reader;
        Ok(messages)
    }

    fn on_piece(&mut self, piece: &Bytes, out: &mut Rope) -> Result<(), Fault> {
        let mut told = Vec::new();
        let Messages { reader, events } = self;
        reader.push_data(piece, |data| events.on_chunk(&data, &mut told))?;
        out.push(told.into());
        judged(reader)
    }
}

impl Told {
    fn usage(&self, input_estimate: u64) -> Usage {
        counted(&self.reader, input_estimate)
    }

    pub fn on_piece(&mut self, piece: &Bytes, charge: &mut Charge, out: &mut Rope) -> Result<(), Fault> {
        let mut lines = Vec::new();
        let Told { reader, model, seq, text, .. } = self;
        reader.push_text(piece, |raw| {
            if !raw.is_empty() {
                *seq += 1;
                lines::chunk(*seq, raw, model, &mut lines);
                text.extend_from_slice(raw);
            }
        })?;
        out.push(lines.into());
        judged(reader)?;
        let progress = reader.progress();
        if text.len() > TEXT_BYTES_MAX {
            return Err(Fault::upstream(Kind::Garbled, Retry::Never));
        }
        let so_far =
            Usage { input: self.input_estimate, output: progress.tokens_received, ..Usage::default() };
        match self.cost_max {
            // The upstream was told the most it may write; one that writes on is stopped here.
            Some(most) if so_far.cost(&charge.offer().price) > most => {
                Err(Fault::proxy(Kind::BudgetExceeded))
            }
            _ => Ok(()),
        }
    }

    fn last(&self, usage: Usage, charge: &Charge) -> Bytes {
        let mut line = Vec::new();
        let answer = lines::Final {
            text: &self.text,
            model_used: &self.model,
            usage,
            cost: charge.cost(),
            dearest_cost: self.dearest.map(|price| usage.cost(&price)),
            escalation_count: self.escalations,
            cluster_hint: self.cluster_hint,
            phase: self.phase,
        };
        lines::last(&answer, &mut line);
        line.into()
    }
}

/// Whether what came so far is a stream that may go on.
pub fn judged(reader: &StreamReader) -> Result<(), Fault> {
    match reader.progress() {
        progress if progress.has_error => Err(STREAM_ERROR),
        progress if progress.unread > 0 => Err(Fault::upstream(Kind::Garbled, Retry::Never)),
        _ => Ok(()),
    }
}

/// What is known of the tokens of a stream, whose prompt was estimated at `input`.
pub fn counted(reader: &StreamReader, input: u64) -> Usage {
    let progress = reader.progress();
    let output = progress.tokens_received;
    progress.usage.unwrap_or(Usage { input, output, estimated: true, ..Usage::default() })
}

const STREAM_ERROR: Fault = Fault::upstream(Kind::StreamError, Retry::Never);
/// Repeated in the final line, so it is held; longer than any model writes at once.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
