//! Answers told in OpenAI's words, of adapters that speak others: as a stream of events, or put together for
//! a caller that wants no stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dataplane_core::admit::pressure::Level;
use dataplane_core::dialect::grpc::{Pieces, Status};
use dataplane_core::dialect::ollama::Lines;
use dataplane_core::dialect::openai::chunks::{Chunks, error_body};
use dataplane_core::dialect::openai::merge::Merger;
use dataplane_core::dialect::openai::{StreamEnd, StreamReader};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::Retelling;
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_state::ledger::{Debt, Ledger};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::body::Piece;
use super::{Answer, UpstreamBody};
use crate::clock;
use crate::worker::Worker;

/// A body on its way from an adapter's words to ours.
#[derive(Debug)]
pub struct Retold {
    from: UpstreamBody,
    words: Words,
    /// Told, and not taken yet.
    out: Rope,
    is_over: bool,
    /// Why it ended early; told after what came before it.
    failed: Option<Fault>,
}

/// Who tells it.
#[derive(Debug)]
pub enum Words {
    Ollama(Lines),
    /// Those that callers speak too.
    Spoken(Retelling),
    Grpc {
        pieces: Pieces,
        status: Option<Status>,
    },
}

impl Retold {
    pub fn new(from: UpstreamBody, words: Words) -> Retold {
        Retold { from, words, out: Rope::new(), is_over: false, failed: None }
    }

    pub fn is_shared(&self) -> bool {
        self.from.is_shared()
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            if let Some(piece) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.is_over {
                return Poll::Ready(self.failed.take().map(Err));
            }
            let told = match ready!(self.from.poll_piece(cx)) {
                Some(Ok(piece)) => self.words.on_piece(piece, &mut self.out),
                Some(Err(fault)) => Err(fault),
                None => {
                    self.is_over = true;
                    self.words.on_end(&mut self.out)
                }
            };
            if let Err(fault) = told {
                self.is_over = true;
                self.failed = Some(fault);
            }
        }
    }
}

impl Words {
    fn on_piece(&mut self, piece: Piece, out: &mut Rope) -> Result<(), Fault> {
        match (self, piece) {
            (Words::Ollama(lines), Piece::Data(data)) => lines.push(&data, out),
            (Words::Grpc { pieces, .. }, Piece::Data(data)) => pieces.push(&data, out),
            (Words::Grpc { status, .. }, Piece::Trailers(trailers)) => {
                *status = status_of(&trailers);
                Ok(())
            }
            (Words::Spoken(retelling), Piece::Data(data)) => retelling.push(&data, out),
            (Words::Ollama(_) | Words::Spoken(_), Piece::Trailers(_)) => Ok(()),
        }
    }

    fn on_end(&mut self, out: &mut Rope) -> Result<(), Fault> {
        match self {
            Words::Ollama(lines) => lines.end(out),
            Words::Spoken(retelling) => {
                retelling.end(out);
                Ok(())
            }
            Words::Grpc { pieces, status: Some(status) } => pieces.end(*status, out),
            // A call without a status did not end.
            Words::Grpc { status: None, .. } => Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost)),
        }
    }
}

/// How a call says it ended, in its head or its trailers.
pub fn status_of(headers: &HeaderMap) -> Option<Status> {
    headers.get("grpc-status").map(|value| Status::parse(value.as_bytes()))
}

/// For an answer that begins now.
pub fn chunks(worker: &Worker, model: &str) -> Chunks {
    Chunks::new(&format!("chatcmpl-{:016x}", worker.random()), clock::unix_seconds(), model)
}

/// `body`, which is a stream of events, as the caller wants it. What is put together is in the account of
/// `ledger` until it is whole.
pub async fn answer(body: UpstreamBody, streamed: bool, ledger: &Arc<Ledger>) -> Result<Answer, Fault> {
    if streamed {
        return Ok(headed(StatusCode::OK, EVENTS, body));
    }
    Ok(headed(StatusCode::OK, JSON, UpstreamBody::whole(whole(body, Debt::none(ledger)).await?)))
}

/// A refusal in the words of the path.
pub fn refusal(status: StatusCode, message: &str) -> Answer {
    headed(status, JSON, UpstreamBody::whole(error_body(message)))
}

fn headed(status: StatusCode, kind: &'static str, body: UpstreamBody) -> Answer {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Answer { status, headers, body }
}

/// For a caller that wants no stream: all of it, put together.
async fn whole(mut body: UpstreamBody, mut held: Debt) -> Result<Bytes, Fault> {
    let garbled = Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost);
    let (mut reader, mut merger) = (StreamReader::new(false), Merger::default());
    while let Some(piece) = poll_fn(|cx| body.poll_data(cx)).await {
        let (piece, mut merged) = (piece?, Ok(()));
        if !held.try_grow(piece.len() as u64) {
            return Err(Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() }));
        }
        reader.push_data(&piece, |data| merged = merged.and(merger.on_chunk(&data)))?;
        merged.map_err(|_| garbled)?;
    }
    match reader.end(true) {
        StreamEnd::Complete => Ok(merger.finish()),
        StreamEnd::Errored => Err(Fault::upstream(Kind::StreamError, Retry::ElsewhereAtCost)),
        StreamEnd::CompleteWithoutDone | StreamEnd::Truncated => {
            Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost))
        }
    }
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
