//! Passes over a value that is only carried. Checks all of it: syntax, limits, and that no object has a key
//! twice, at every level.

use super::super::KEYS_MAX;
use super::super::malformed::{Malformed, What};
use super::keys::{Keys, Span};
use super::scan::blanks_end;
use super::token;

/// Where it is comes and goes in arguments, so that it stays in a register.
pub(super) struct Skip<'s> {
    pub bytes: &'s [u8],
    pub keys: &'s mut Keys,
    /// Values that may still come.
    pub values: usize,
    pub depth_max: usize,
}

impl Skip<'_> {
    /// From the first byte of a value to behind its last. Recursion is bounded by `depth_max`.
    #[inline]
    pub fn value(&mut self, at: usize, depth: usize) -> Result<usize, Malformed> {
        if depth > self.depth_max {
            return Err(Malformed::at(What::Depth, at));
        }
        self.values = self.values.checked_sub(1).ok_or(Malformed::at(What::TooLong, at))?;
        match self.bytes.get(at) {
            Some(b'"') => token::string(self.bytes, at + 1).map(|span| span.end as usize + 1),
            Some(b'{') => self.object(at, depth),
            Some(b'[') => self.list(at, depth),
            Some(b'-' | b'0'..=b'9') => token::number_end(self.bytes, at),
            _ => token::word(self.bytes, at).map(|(_, end)| end),
        }
    }

    fn object(&mut self, start: usize, depth: usize) -> Result<usize, Malformed> {
        let mut object = self.keys.begin();
        let mut at = blanks_end(self.bytes, start + 1);
        if self.bytes.get(at) == Some(&b'}') {
            return Ok(at + 1);
        }
        loop {
            let key = self.key(at)?;
            if object.length >= KEYS_MAX {
                return Err(Malformed::at(What::TooLong, at));
            }
            self.keys.push(&mut object, key, self.bytes);
            at = token::sign(self.bytes, key.end as usize + 1, b':')?;
            at = self.value(blanks_end(self.bytes, at), depth + 1)?;
            at = blanks_end(self.bytes, at);
            match self.bytes.get(at) {
                Some(b',') => at = blanks_end(self.bytes, at + 1),
                Some(b'}') => break,
                _ => return Err(token::unexpected(self.bytes, at)),
            }
        }
        if self.keys.end(object, self.bytes) {
            Ok(at + 1)
        } else {
            Err(Malformed::at(What::Duplicate, start))
        }
    }

    fn list(&mut self, start: usize, depth: usize) -> Result<usize, Malformed> {
        let mut at = blanks_end(self.bytes, start + 1);
        if self.bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.value(at, depth + 1)?;
            at = blanks_end(self.bytes, at);
            match self.bytes.get(at) {
                Some(b',') => at = blanks_end(self.bytes, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(token::unexpected(self.bytes, at)),
            }
        }
    }

    fn key(&mut self, at: usize) -> Result<Span, Malformed> {
        match self.bytes.get(at) {
            Some(b'"') => token::string(self.bytes, at + 1),
            _ => Err(token::unexpected(self.bytes, at)),
        }
    }
}
