//! What a session says over HTTP/2, as the body of the answer that carries it: taken from the session as the
//! client takes it, nothing between them.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::ledger::Ledger;
use dataplane_state::pipe::{self, pipe};
use http_body::Frame;
use proto_core::session::prefixed;

use super::link::{OUTBOUND_MAX, Out, Owed, Own};
use crate::relay::Cut;
use crate::serve::unsent::{Parcel, Share, Unsent};

/// Frames, each behind its length.
pub struct Told {
    from: pipe::Receiver<Owed>,
    unsent: Option<Arc<Unsent>>,
    ledger: Arc<Ledger>,
    /// Long enough not to be copied; its length was handed out.
    long: Option<Parcel>,
    is_seen_cut: bool,
    is_over: bool,
}

/// Both ends of the way out of a session.
pub fn channel(unsent: Option<&Arc<Unsent>>, ledger: &Arc<Ledger>) -> (Out, Told) {
    let (to, from) = pipe(OUTBOUND_MAX);
    let (unsent, ledger) = (unsent.cloned(), Arc::clone(ledger));
    let out = Out::Own(Own { to, unsent: unsent.clone(), ledger: Arc::clone(&ledger) });
    (out, Told { from, unsent, ledger, long: None, is_seen_cut: false, is_over: false })
}

impl Told {
    /// Small frames that are there together leave together: a client's library charges for each small piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Parcel>, Cut>>> {
        if let Some(long) = self.long.take() {
            return Poll::Ready(Some(Ok(Frame::data(long))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let Some(first) = ready!(self.from.poll_recv(cx)) else { return self.end(cx) };
        let mut batch = BytesMut::new();
        let mut next = Some(first);
        while let Some(Owed { outbound, share }) = next {
            let message = outbound.message;
            batch.extend_from_slice(&prefixed(&message));
            if message.len() > ALONE_BYTES_MIN {
                self.long = Some(Parcel { bytes: message, share: Some(share) });
                break;
            }
            batch.extend_from_slice(&message);
            next = if batch.len() < BATCH_BYTES { self.from.try_recv() } else { None };
        }
        // Instead of the shares of its parts, which ended with them.
        let share = Some(Share::new(self.unsent.as_ref(), &self.ledger, batch.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(Parcel { bytes: batch.freeze(), share }))))
    }

    /// Nothing more comes. Unless the session has said all it had to say, the body is broken.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Parcel>, Cut>>> {
        if self.from.is_whole() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        if self.is_seen_cut {
            self.is_over = true;
            return Poll::Ready(Some(Err(Cut(Fault::client(Kind::ClientGone)))));
        }
        // Once more around: a reset overtakes what was not written yet, and that may be why it ends.
        self.is_seen_cut = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

const BATCH_BYTES: usize = 16 * 1024;
const ALONE_BYTES_MIN: usize = 4096;
