//! Memory that somebody else's behaviour decides about, counted: bytes, and pieces for what they cost beside
//! their bytes.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub bytes: usize,
    pub pieces: usize,
}

impl Held {
    pub fn add(&mut self, bytes: usize, pieces: usize) {
        self.bytes += bytes;
        self.pieces += pieces;
    }

    /// Saturates: what is counted twice by mistake never becomes a very large number.
    pub fn remove(&mut self, other: Held) {
        debug_assert!(other.bytes <= self.bytes && other.pieces <= self.pieces, "{self:?} - {other:?}");
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.pieces = self.pieces.saturating_sub(other.pieces);
    }
}
