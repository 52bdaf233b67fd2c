//! What routing needs of a request body, read while its pieces arrive. The whole body is checked, not only
//! the keys that matter here: what two readers could understand differently (a key that stands twice, half a
//! surrogate pair, bytes after the end) is refused, so that the upstream never sees another request than the
//! one that was admitted.
//!
//! It keeps no bytes of the body but names (128 bytes at most); everything else is a [`Span`] of it.
//! It never judges keys it does not act on: their values may be anything JSON can say.

mod head;
mod keys;

#[cfg(test)]
pub(super) mod tests;

pub use self::head::{Asked, Head, Inline, Named, Profile, Quality, StreamOptions, UsageFlag};
pub use super::json::{DEPTH_MAX, Span, unescape};

use self::keys::Reader;
use super::json::Lexer;
use crate::fault::Fault;

/// Reads one body.
#[derive(Debug)]
pub struct Scanner {
    lexer: Lexer,
    reader: Reader,
}

impl Scanner {
    pub fn new(profile: Profile) -> Scanner {
        Scanner { lexer: Lexer::new(), reader: Reader::new(profile) }
    }

    /// Reads the next piece, of any size.
    ///
    /// # Errors
    /// The first thing that is wrong with the body, at the piece that shows it; the same again ever after.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.lexer.push(piece, &mut self.reader)
    }

    /// The body is complete: what it asks for.
    ///
    /// # Errors
    /// As [`Scanner::push`]; also where the body ends early or lacks a key the profile needs.
    pub fn finish(&mut self) -> Result<Head, Fault> {
        let body_bytes = self.lexer.finish()?;
        self.reader.finish(body_bytes)
    }
}

/// [`Scanner`] over a body in one piece.
pub fn scan(profile: Profile, body: &[u8]) -> Result<Head, Fault> {
    let mut scanner = Scanner::new(profile);
    scanner.push(body)?;
    scanner.finish()
}
