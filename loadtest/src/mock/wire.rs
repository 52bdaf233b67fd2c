//! Where an answer is written: one HTTP/1.1 connection or one HTTP/2 stream.
//!
//! What it is for: the same few verbs for both versions. It never decides what to send.

use tokio::time::Instant;

use super::answer::Ending;
use super::ledger::Left;
use super::{http1, http2};

/// The head of an answer.
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// `None` means a body of unknown length (on HTTP/1.1: chunked).
    pub(crate) length: Option<u64>,
    pub(crate) extra: Option<(&'static str, &'a str)>,
}

impl Head<'_> {
    pub(crate) fn whole(status: u16, body_bytes: usize) -> Self {
        Head { status, content_type: "application/json", length: Some(body_bytes as u64), extra: None }
    }

    pub(crate) fn stream(length: Option<u64>) -> Self {
        Head { status: 200, content_type: "text/event-stream; charset=utf-8", length, extra: None }
    }
}

pub(crate) enum Wire<'a> {
    Http1(http1::Reply<'a>),
    Http2(http2::Reply),
}

impl Wire<'_> {
    /// Starts the answer; it may stay buffered until the next flush.
    pub(crate) async fn head(&mut self, head: &Head<'_>) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => {
                reply.head(head);
                Ok(())
            }
            Wire::Http2(reply) => reply.head(head),
        }
    }

    /// Adds bytes to the body; they may stay buffered until the next flush.
    pub(crate) async fn body(&mut self, bytes: &[u8]) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => reply.body(bytes).await,
            Wire::Http2(reply) => reply.body(bytes).await,
        }
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => reply.flush().await,
            Wire::Http2(_) => Ok(()),
        }
    }

    /// Ends the body as its framing demands.
    pub(crate) async fn finish(&mut self) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => reply.finish().await,
            Wire::Http2(_) => Ok(()),
        }
    }

    /// Bytes that break the framing of the body.
    pub(crate) async fn garbage(&mut self) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => reply.garbage().await,
            Wire::Http2(_) => Ok(()),
        }
    }

    pub(crate) async fn endless_head(&mut self) -> Result<Ending, Left> {
        match self {
            Wire::Http1(reply) => reply.endless_head().await,
            Wire::Http2(reply) => reply.endless_head().await,
        }
    }

    pub(crate) fn slow_down(&mut self, bytes_per_s: u32) {
        match self {
            Wire::Http1(reply) => reply.slow_down(bytes_per_s),
            Wire::Http2(reply) => reply.slow_down(bytes_per_s),
        }
    }

    /// Whether the client has left, without waiting.
    pub(crate) fn still_there(&mut self) -> Result<(), Left> {
        match self {
            Wire::Http1(reply) => reply.still_there(),
            Wire::Http2(reply) => reply.still_there(),
        }
    }

    /// Waits for a moment; ends early when the client leaves.
    pub(crate) async fn wait_until(&mut self, moment: Instant) -> Result<(), Left> {
        if moment <= Instant::now() {
            return Ok(());
        }
        match self {
            Wire::Http1(reply) => reply.wait_until(Some(moment)).await,
            Wire::Http2(reply) => reply.wait_until(Some(moment)).await,
        }
    }

    /// Waits until the client leaves, however long that takes; `T` is never made.
    pub(crate) async fn wait_for_leaving<T>(&mut self) -> Result<T, Left> {
        loop {
            match self {
                Wire::Http1(reply) => reply.wait_until(None).await?,
                Wire::Http2(reply) => reply.wait_until(None).await?,
            }
        }
    }
}
