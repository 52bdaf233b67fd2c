//! Server-Sent Events on their way through: where events end, what their `data` is, and nothing else.
//! Complete events leave as slices of the pieces they came in; an incomplete one is held back, so that
//! whatever is sent after it (an error, an end) begins an event of its own.
//!
//! Follows "Interpreting an event stream" of the HTML standard (§9.2.6): lines end with LF, CRLF or CR, a
//! blank line ends an event, a byte order mark may open the stream. It never decodes text and never changes a
//! byte.

use std::fmt;

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::rope::Rope;
use crate::fault::{Fault, Kind, Retry};

/// One event, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'e> {
    /// The value of its `event` field; empty where it has none.
    pub name: &'e [u8],
    /// Its `data` lines joined by line feeds; `None` where it has none (a comment, a blank line).
    pub data: Option<&'e [u8]>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Forward,
    Drop,
}

/// Cuts a stream into events. Its `Debug` tells nothing of what they say.
#[derive(Default)]
pub struct Splitter {
    /// The event that has not ended, as it came; empty where it came in more pieces than fit.
    held: ArrayVec<Bytes, HELD_PIECES>,
    /// The same bytes in one place.
    scratch: Vec<u8>,
    /// `data` of several lines, joined.
    joined: Vec<u8>,
    lines: Lines,
    /// The byte order mark, if any, is behind.
    begun: bool,
    /// What became of the last event: the LF of its last CRLF may come in the next piece and goes the same
    /// way.
    last: Verdict,
}

/// Where in its line the stream is.
#[derive(Debug, Default)]
struct Lines {
    /// The current line has bytes.
    within: bool,
    /// The last byte was a CR: an LF right after it ends the same line.
    after_cr: bool,
    /// Lines of the event that are not blank.
    count: u32,
}

impl Splitter {
    pub fn new() -> Splitter {
        Splitter::default()
    }

    /// Reads the next piece. Every event that ends in it is shown to `judge`; those it forwards are appended
    /// to `out` as they came, in as few slices as possible.
    ///
    /// # Errors
    /// `Garbled`: an event is longer than [`EVENT_BYTES_MAX`].
    pub fn push(
        &mut self,
        piece: &Bytes,
        out: &mut Rope,
        mut judge: impl FnMut(Event<'_>) -> Verdict,
    ) -> Result<(), Fault> {
        // Of the piece: where the event at hand begins, and where that begins which goes out in one slice.
        let (mut begin, mut from) = (0, 0);
        if self.scratch.is_empty() && self.lines.skip_line_feed(piece) {
            begin = 1;
            from = usize::from(self.last == Verdict::Drop);
        }
        while let Some((end, lines)) = self.lines.event_end(piece, begin) {
            let is_held = !self.scratch.is_empty();
            let raw = if is_held {
                self.scratch.extend_from_slice(&piece[..end]);
                &self.scratch
            } else {
                &piece[begin..end]
            };
            if raw.len() > EVENT_BYTES_MAX {
                send(piece, from, begin, out);
                return Err(too_long());
            }
            let raw = if self.begun { raw } else { raw.strip_prefix(BOM).unwrap_or(raw) };
            self.begun = true;
            self.last = judge(parse(raw, lines, &mut self.joined));
            match self.last {
                Verdict::Forward if is_held && self.held.is_empty() => {
                    out.push(Bytes::copy_from_slice(&self.scratch));
                    from = end;
                }
                Verdict::Forward => out.extend(self.held.drain(..)),
                Verdict::Drop => {
                    send(piece, from, begin, out);
                    from = end;
                }
            }
            if is_held {
                self.forget();
            }
            begin = end;
        }
        send(piece, from, begin, out);
        self.hold(piece, begin)
    }

    /// The event that has not ended; `None` where nothing but line ends came since the last one.
    pub fn tail(&mut self) -> Option<Event<'_>> {
        if self.scratch.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return None;
        }
        let raw =
            if self.begun { &*self.scratch } else { self.scratch.strip_prefix(BOM).unwrap_or(&self.scratch) };
        Some(parse(raw, u32::MAX, &mut self.joined))
    }

    fn hold(&mut self, piece: &Bytes, begin: usize) -> Result<(), Fault> {
        let rest = &piece[begin..];
        if rest.is_empty() {
            return Ok(());
        }
        if self.scratch.len() + rest.len() > EVENT_BYTES_MAX {
            return Err(too_long());
        }
        let is_first = self.scratch.is_empty();
        self.scratch.extend_from_slice(rest);
        if (is_first || !self.held.is_empty()) && self.held.try_push(piece.slice(begin..)).is_err() {
            self.held.clear();
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.held.clear();
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEPT);
        self.joined.clear();
        self.joined.shrink_to(SCRATCH_KEPT);
    }
}

/// The bytes `[from, to)` of a piece, as one slice.
fn send(piece: &Bytes, from: usize, to: usize, out: &mut Rope) {
    if to - from == piece.len() {
        out.push(piece.clone());
    } else if from < to {
        out.push(piece.slice(from..to));
    }
}

impl fmt::Debug for Splitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<splitter holding {} bytes>", self.scratch.len())
    }
}

impl Lines {
    /// Takes the LF at the start of `piece` where it belongs to the CR that ended the last one.
    fn skip_line_feed(&mut self, piece: &[u8]) -> bool {
        let skips = self.after_cr && piece.first() == Some(&b'\n');
        self.after_cr &= !skips;
        skips
    }

    /// The offset just after the blank line that ends the event at hand, and how many lines the event has.
    fn event_end(&mut self, piece: &[u8], from: usize) -> Option<(usize, u32)> {
        let mut at = from;
        while let Some(&byte) = piece.get(at) {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                at += 1;
                continue;
            }
            if !self.within && (byte == b'\n' || byte == b'\r') {
                at = self.line_end(piece, at);
                return Some((at, std::mem::take(&mut self.count)));
            }
            self.count += u32::from(!self.within);
            self.within = true;
            at += memchr::memchr2(b'\n', b'\r', &piece[at..])?;
            at = self.line_end(piece, at);
        }
        None
    }

    /// `at`: the byte that ends a line. Returns the offset of the next line, as far as this piece shows it.
    fn line_end(&mut self, piece: &[u8], at: usize) -> usize {
        self.within = false;
        match (piece[at], piece.get(at + 1)) {
            (b'\r', Some(b'\n')) => at + 2,
            (b'\r', None) => {
                self.after_cr = true;
                at + 1
            }
            _ => at + 1,
        }
    }
}

/// `lines` as counted; one line needs no search for its end.
fn parse<'e>(raw: &'e [u8], lines: u32, joined: &'e mut Vec<u8>) -> Event<'e> {
    if lines == 1
        && let Some(value) = raw.strip_prefix(b"data:")
    {
        let end = value.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        return Event { name: b"", data: Some(without_space(&value[..end])) };
    }
    let (mut name, mut first, mut count): (&[u8], &[u8], u32) = (b"", b"", 0);
    let mut rest = raw;
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], without_space(&line[colon + 1..])),
            None => (line, &line[..0]),
        };
        match field {
            b"event" => name = value,
            b"data" => {
                count += 1;
                match count {
                    1 => first = value,
                    2 => {
                        joined.clear();
                        joined.extend_from_slice(first);
                        join(joined, value);
                    }
                    _ => join(joined, value),
                }
            }
            _ => {}
        }
    }
    let data = match count {
        0 => None,
        1 => Some(first),
        _ => Some(joined.as_slice()),
    };
    Event { name, data }
}

fn join(joined: &mut Vec<u8>, value: &[u8]) {
    joined.push(b'\n');
    joined.extend_from_slice(value);
}

/// One space after the colon belongs to the syntax.
fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

#[cold]
pub(super) fn too_long() -> Fault {
    Fault::upstream(Kind::Garbled, Retry::Never)
}

/// Tool calls and images come in one event; whole answers do not.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// An event is held back as the slices it came in up to this many; then it is copied. Reads are at least a
/// packet long, so eight hold any event of a healthy stream.
const HELD_PIECES: usize = 8;

/// Memory kept for the next event that spans pieces; what a large one needed beyond that is given back.
const SCRATCH_KEPT: usize = 16 << 10;

const BOM: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
