//! Moves an answer from an adapter to its caller, piece by piece, as it comes. Holds back at most one
//! unfinished event; where pieces are told as messages, those that came together are one. A broken answer is
//! never ended cleanly: the caller gets an error it can read, then the end of its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::exchange::deadline_fault;
use dataplane_core::fault::{Fault, Kind, Retry};
use proto_core::units::Moment;
use tokio::time::{Sleep, sleep_until};

use crate::charge::Charge;
use crate::clock;
use crate::drain::Phase;
use crate::lens::Lens;
use crate::timing::Timing;
use crate::upstream::UpstreamBody;
use crate::worker::Worker;

/// One answer on its way.
#[derive(Debug)]
pub struct Relay {
    worker: Arc<Worker>,
    body: UpstreamBody,
    lens: Lens,
    /// Ready for the caller.
    out: Rope,
    charge: Charge,
    /// Tokens of the prompt as they were estimated, for answers whose upstream never says.
    input_estimate: u64,
    timing: Timing,
    idle: Duration,
    deadline: Moment,
    is_callers_deadline: bool,
    last_piece_at: Moment,
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// Complete; what is in `out` is the last.
    Ending,
    /// The error is in `out`, or written; once it is, let it leave before the end.
    Broken(Fault),
    Leaving,
    Over,
}

/// The answer ends here and is not complete: the connection must show it.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut: {}", .0.code())]
pub struct Cut(pub Fault);

/// What a relay is made of.
#[derive(Debug)]
pub struct Parts {
    pub worker: Arc<Worker>,
    pub body: UpstreamBody,
    pub lens: Lens,
    pub first: Rope,
    pub charge: Charge,
    pub input_estimate: u64,
    pub timing: Timing,
    pub idle: Duration,
    pub deadline: Moment,
    /// The deadline is the caller's wish and says nothing about the upstream.
    pub is_callers_deadline: bool,
}

impl Relay {
    pub fn new(parts: Parts) -> Relay {
        let Parts {
            worker,
            body,
            lens,
            first,
            charge,
            input_estimate,
            timing,
            idle,
            deadline,
            is_callers_deadline,
        } = parts;
        Relay {
            worker,
            body,
            lens,
            out: first,
            charge,
            input_estimate,
            timing,
            idle,
            deadline,
            is_callers_deadline,
            last_piece_at: clock::now(),
            timer: None,
            state: State::Flowing,
        }
    }

    /// The next piece for the caller; `None` at a complete end.
    ///
    /// `say`: the error in the caller's words, put before the cut.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        say: impl FnOnce(Fault) -> Bytes,
    ) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if let Some(piece) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match self.state {
                State::Flowing => {}
                State::Ending => {
                    self.state = State::Over;
                    self.settle();
                    self.charge.on_success();
                    self.timing.on_end(&self.worker);
                    return Poll::Ready(None);
                }
                State::Broken(fault) => {
                    self.state = State::Leaving;
                    self.settle();
                    self.on_broken(fault);
                    // Where the upstream said so itself, its words were relayed already.
                    if !(fault.kind == Kind::StreamError && self.lens.passes_errors()) {
                        return Poll::Ready(Some(Ok(say(fault))));
                    }
                    continue;
                }
                State::Leaving => {
                    // Once more around, so that the error is written before the connection ends.
                    self.state = State::Over;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Over => {
                    let fault = Fault::upstream(Kind::Truncated, Retry::Never);
                    return Poll::Ready(Some(Err(Cut(fault))));
                }
            }
            match self.poll_upstream(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(fault)) => {
                    self.lens.flush(&mut self.out);
                    self.state = State::Broken(fault);
                }
                Poll::Pending => {
                    // What came together is told together, and does not wait for what comes next.
                    self.lens.flush(&mut self.out);
                    if self.out.is_empty() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// What the answer has used so far.
    pub fn charge(&mut self) -> &mut Charge {
        self.settle();
        &mut self.charge
    }

    /// Tokens that came so far.
    pub fn output_so_far(&self) -> u64 {
        self.lens.output_so_far()
    }

    /// Ends it here, for what only its reader knows: counted as any other break.
    pub fn give_up(&mut self, fault: Fault) {
        self.settle();
        self.on_broken(fault);
        self.state = State::Over;
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.worker.shared.is_past(Phase::Closing) {
            return Poll::Ready(Err(Fault::proxy(Kind::Draining)));
        }
        // Looked at with every piece too: a client that reads slowly keeps the upstream always ahead.
        if self.last_piece_at >= self.deadline {
            return Poll::Ready(Err(deadline_fault(self.is_callers_deadline)));
        }
        // Before the next piece, too: an upstream that is always ahead must not keep its place.
        if self.charge.poll_preempted(cx).is_ready() {
            return Poll::Ready(Err(Fault::proxy(Kind::Preempted)));
        }
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.last_piece_at = clock::now();
                let read = self.lens.on_piece(piece, &mut self.charge, &mut self.out);
                Poll::Ready(read.and_then(|()| self.charge.on_output(self.lens.output_so_far())))
            }
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Err(fault)),
            Poll::Ready(None) => Poll::Ready(self.on_upstream_end()),
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }

    fn on_upstream_end(&mut self) -> Result<(), Fault> {
        self.state = State::Ending;
        self.lens.on_end(&mut self.charge, self.input_estimate, &mut self.out)
    }

    /// Nothing came. Too long? The timer is looked at when it fires, not moved with every piece.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let due = (self.last_piece_at + self.idle).min(self.deadline);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(clock::instant(due))));
            ready!(timer.as_mut().poll(cx));
            let now = clock::now();
            if now >= self.deadline {
                return Poll::Ready(deadline_fault(self.is_callers_deadline));
            }
            if now >= due {
                return Poll::Ready(Fault::upstream(Kind::IdleTimeout, Retry::Never));
            }
            timer.as_mut().reset(clock::instant(due));
        }
    }

    /// Tells the bill what is known: what the upstream reported, else what was received.
    fn settle(&mut self) {
        if let Some(usage) = self.lens.usage(self.input_estimate) {
            self.charge.set_usage(usage);
        }
    }

    fn on_broken(&mut self, fault: Fault) {
        self.charge.on_fault(fault);
        self.worker.tally.streams_broken.one();
        self.worker.tally.error(fault);
        self.timing.on_end(&self.worker);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if matches!(self.state, State::Flowing | State::Ending) {
            // The caller went away. The body's drop cancels the work upstream.
            self.settle();
            self.worker.tally.cancelled.one();
            self.worker.tally.error(Fault::client(Kind::ClientGone));
        }
    }
}
