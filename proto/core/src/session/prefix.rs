//! Frames on a stream of bytes: each behind its length, four bytes, big-endian. Used over HTTP/2 and QUIC.

use bytes::{Buf, Bytes, BytesMut};

/// Cuts what arrives into messages. Never holds more than one message and one piece; what came in one piece
/// is not copied.
#[derive(Debug)]
pub struct Splitter {
    bytes_max: usize,
    /// A message that has begun, behind its length.
    held: BytesMut,
    /// The latest piece, where nothing is held.
    piece: Bytes,
}

/// A length above the bound: nothing behind it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes was announced, which is too long")]
pub struct TooLong(pub u32);

impl Splitter {
    /// `bytes_max`: of one message, without its length.
    pub fn new(bytes_max: usize) -> Splitter {
        Splitter { bytes_max, held: BytesMut::new(), piece: Bytes::new() }
    }

    /// The next bytes. Call [`Splitter::poll`] until it gives none before the next piece comes.
    pub fn on_bytes(&mut self, piece: Bytes) {
        if self.held.is_empty() && self.piece.is_empty() {
            self.piece = piece;
            return;
        }
        if !self.piece.is_empty() {
            self.held.extend_from_slice(&std::mem::take(&mut self.piece));
        }
        self.held.extend_from_slice(&piece);
    }

    /// The next whole message.
    pub fn poll(&mut self) -> Result<Option<Bytes>, TooLong> {
        let front = if self.held.is_empty() { self.piece.as_ref() } else { self.held.as_ref() };
        let Some((length, rest)) = front.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let said = u32::from_be_bytes(*length);
        let length = usize::try_from(said).unwrap_or(usize::MAX);
        if length > self.bytes_max {
            return Err(TooLong(said));
        }
        if rest.len() < length {
            return Ok(None);
        }
        if self.held.is_empty() {
            self.piece.advance(LENGTH_BYTES);
            let message = self.piece.split_to(length);
            if self.piece.is_empty() {
                // An empty part keeps the whole in memory.
                self.piece = Bytes::new();
            }
            return Ok(Some(message));
        }
        self.held.advance(LENGTH_BYTES);
        let message = self.held.split_to(length).freeze();
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// Whether a message has begun that is not whole: the end of the stream would cut it.
    pub fn is_within_a_message(&self) -> bool {
        !self.held.is_empty() || !self.piece.is_empty()
    }

    /// What it holds.
    pub fn held_bytes(&self) -> usize {
        self.held.len() + self.piece.len()
    }
}

/// The length of a message, to be sent before it.
///
/// # Panics
/// Where the message is 4 GiB long, which no encoder makes.
pub fn prefixed(message: &Bytes) -> [u8; LENGTH_BYTES] {
    u32::try_from(message.len()).expect("an encoded frame is at most 1 MiB").to_be_bytes()
}

/// Of the length itself.
pub const LENGTH_BYTES: usize = 4;
