//! Frames out of a stream of bytes, where what has come of the next one is in the worker's account: a peer
//! that begins a frame on each of its streams and ends none is seen, and turned away before memory is.

use std::sync::Arc;

use bytes::Bytes;
use dataplane_state::ledger::{Debt, Ledger};
use proto_core::frame::FRAME_BYTES_MAX;
use proto_core::session::Splitter;

/// Of one stream of bytes.
#[derive(Debug)]
pub struct Cutter {
    splitter: Splitter,
    debt: Debt,
}

/// Why nothing more can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncut {
    #[error("a frame is longer than any may be")]
    TooLong,
    #[error("no memory is left for the rest of a frame")]
    NoRoom,
}

impl Cutter {
    pub fn new(ledger: &Arc<Ledger>) -> Cutter {
        Cutter { splitter: Splitter::new(FRAME_BYTES_MAX), debt: Debt::none(ledger) }
    }

    pub fn on_bytes(&mut self, piece: Bytes) {
        self.splitter.on_bytes(piece);
    }

    /// The next message; `None`: more has to come, and what there is of it is accounted for.
    pub fn poll(&mut self) -> Result<Option<Bytes>, Uncut> {
        let message = self.splitter.poll().map_err(|_| Uncut::TooLong)?;
        if message.is_none() {
            let (held, before) = (self.splitter.held_bytes() as u64, self.debt.bytes());
            if held > before && !self.debt.try_grow(held - before) {
                return Err(Uncut::NoRoom);
            }
            self.debt.give_back(before.saturating_sub(held));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_of_a_frame_is_accounted_for_until_it_is_whole() {
        let ledger = Arc::new(Ledger::new(100));
        let mut cutter = Cutter::new(&ledger);
        cutter.on_bytes(Bytes::from_static(b"\0\0\0\x28half"));
        assert_eq!((cutter.poll(), ledger.buffered_bytes()), (Ok(None), 8));
        cutter.on_bytes(Bytes::from(vec![b'x'; 36]));
        assert!(cutter.poll().is_ok_and(|message| message.is_some_and(|message| message.len() == 40)));
        assert_eq!((cutter.poll(), ledger.buffered_bytes()), (Ok(None), 0));
        cutter.on_bytes(Bytes::from([&[0, 0, 1, 0], &[b'x'; 97][..]].concat()));
        assert_eq!(cutter.poll(), Err(Uncut::NoRoom));
        drop(cutter);
        assert_eq!(ledger.buffered_bytes(), 0);
    }
}
