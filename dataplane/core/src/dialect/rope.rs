//! A body in pieces: a short queue of `Bytes`, eight of them without a heap. Pieces are handed on, cut and
//! shared, never joined.

use std::collections::VecDeque;
use std::fmt;

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::json::Span;

/// Pieces of a body, in order. Empty pieces are never kept.
///
/// Its `Debug` tells its size, never its bytes: they may be a prompt.
#[derive(Clone, Default)]
pub struct Rope {
    inline: ArrayVec<Bytes, INLINE>,
    /// Of `inline`, those that have left.
    gone: usize,
    /// What came after `inline` was full; in order after it.
    spilled: VecDeque<Bytes>,
    bytes: u64,
}

impl Rope {
    pub fn new() -> Rope {
        Rope::default()
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Pieces.
    pub fn count(&self) -> usize {
        self.inline.len() - self.gone + self.spilled.len()
    }

    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len() as u64;
        if self.spilled.is_empty() && !self.inline.is_full() {
            self.inline.push(piece);
        } else {
            self.spilled.push_back(piece);
        }
    }

    pub fn pop_front(&mut self) -> Option<Bytes> {
        let piece = match self.inline.get_mut(self.gone) {
            Some(piece) => std::mem::take(piece),
            None => self.spilled.pop_front()?,
        };
        self.gone += 1;
        if self.gone >= self.inline.len() {
            self.inline.clear();
            self.gone = 0;
        }
        self.bytes -= piece.len() as u64;
        Some(piece)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.inline[self.gone..].iter().chain(&self.spilled)
    }

    /// All of it in one part, copied: for those who must read a body as a whole.
    pub fn joined(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        self.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole
    }

    /// Forgets all pieces; keeps the room for spilled ones.
    pub fn clear(&mut self) {
        while self.pop_front().is_some() {}
    }

    /// Appends the bytes of `span` to `out`, as far as they are here.
    pub fn copy(&self, span: Span, out: &mut Vec<u8>) {
        self.cut(span, |piece| out.extend_from_slice(piece));
    }

    /// Appends the bytes of `span` to `out` without copying them, as far as they are here.
    pub fn share(&self, span: Span, out: &mut Rope) {
        let mut offset = 0;
        for piece in self.iter() {
            if let Some((from, to)) = overlap(span, offset, piece.len()) {
                out.push(if (from, to) == (0, piece.len()) { piece.clone() } else { piece.slice(from..to) });
            }
            offset += piece.len() as u64;
        }
    }

    /// Hands the slices of `span` to `each`, in order.
    pub(crate) fn cut(&self, span: Span, mut each: impl FnMut(&[u8])) {
        let mut offset = 0;
        for piece in self.iter() {
            if let Some((from, to)) = overlap(span, offset, piece.len()) {
                each(&piece[from..to]);
            }
            offset += piece.len() as u64;
        }
    }
}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes in {} pieces>", self.len(), self.count())
    }
}

impl From<Bytes> for Rope {
    fn from(piece: Bytes) -> Rope {
        let mut rope = Rope::new();
        rope.push(piece);
        rope
    }
}

impl Extend<Bytes> for Rope {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        for piece in pieces {
            self.push(piece);
        }
    }
}

impl FromIterator<Bytes> for Rope {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Rope {
        let mut rope = Rope::new();
        rope.extend(pieces);
        rope
    }
}

/// The part of a piece of `length` bytes at `offset` that lies in `span`, counted in the piece.
fn overlap(span: Span, offset: u64, length: usize) -> Option<(usize, usize)> {
    let from = span.start.saturating_sub(offset).min(length as u64) as usize;
    let to = span.end.saturating_sub(offset).min(length as u64) as usize;
    (from < to).then_some((from, to))
}

/// A body of one read, cut in two places and mended twice, is five pieces; a body of four reads still fits.
const INLINE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(pieces: &[&'static str]) -> Rope {
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()
    }

    fn text(rope: &Rope) -> String {
        rope.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn pieces_leave_in_the_order_they_came_also_past_the_inline_ones() {
        let mut rope: Rope = (0..INLINE as u8 + 3).map(|at| Bytes::copy_from_slice(&[at])).collect();
        assert_eq!((rope.len(), rope.count()), (11, 11));
        assert_eq!(rope.pop_front().unwrap()[0], 0);
        rope.push(Bytes::from_static(&[11]));
        let left: Vec<u8> = std::iter::from_fn(|| rope.pop_front()).map(|piece| piece[0]).collect();
        assert_eq!(left, (1..12).collect::<Vec<u8>>());
        assert!(rope.is_empty() && rope.count() == 0);
    }

    #[test]
    fn a_piece_pushed_while_spilled_ones_wait_leaves_after_them() {
        let mut rope: Rope = (0..INLINE as u8 + 2).map(|at| Bytes::copy_from_slice(&[at])).collect();
        (0..INLINE).for_each(|_| drop(rope.pop_front()));
        rope.push(Bytes::from_static(&[99]));
        let left: Vec<u8> = std::iter::from_fn(|| rope.pop_front()).map(|piece| piece[0]).collect();
        assert_eq!(left, [8, 9, 99]);
    }

    #[test]
    fn what_is_in_a_rope_is_not_told_by_debugging_it() {
        assert_eq!(format!("{:?}", rope(&["secret", "!"])), "<7 bytes in 2 pieces>");
    }

    #[test]
    fn empty_pieces_are_not_kept() {
        assert_eq!(rope(&["", "a", ""]).count(), 1);
    }

    #[test]
    fn a_span_is_shared_across_pieces_and_ends_where_the_rope_does() {
        let whole = rope(&["abc", "def", "ghi"]);
        for (start, end, want) in
            [(0, 9, "abcdefghi"), (2, 4, "cd"), (3, 6, "def"), (8, 99, "i"), (9, 12, "")]
        {
            let mut shared = Rope::new();
            whole.share(Span { start, end }, &mut shared);
            let mut copied = Vec::new();
            whole.copy(Span { start, end }, &mut copied);
            assert_eq!((text(&shared).as_str(), copied.as_slice()), (want, want.as_bytes()));
        }
    }

    #[test]
    fn a_cleared_rope_takes_pieces_again() {
        let mut rope = rope(&["a"; INLINE + 2]);
        rope.clear();
        rope.push(Bytes::from_static(b"b"));
        assert_eq!((text(&rope).as_str(), rope.len()), ("b", 1));
    }
}
