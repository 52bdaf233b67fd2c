//! What is wrong with bytes that should have been a frame. A `Copy` value on the path; its text is made where
//! somebody reads it.

use std::fmt;

use super::code::Code;

/// A refusal of a decoder or encoder, or of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    pub what: What,
    /// The field it is about; empty where it is about the text itself.
    pub field: &'static str,
    /// Bytes from the start of what was read; 0 where it is about a value.
    pub at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Longer than [`super::FRAME_BYTES_MAX`].
    FrameBytes,
    /// A text, list or object above its limit.
    TooLong,
    /// Nested deeper than [`super::DEPTH_MAX`].
    Depth,
    /// Ends early.
    Truncated,
    /// Bytes after the end.
    Trailing,
    /// Neither JSON nor CBOR as the codec defines them.
    Syntax,
    /// Text that is not UTF-8, or half a surrogate pair.
    Utf8,
    /// One key twice: two readers could take different values.
    Duplicate,
    /// CBOR that has a shorter or better ordered spelling.
    NotCanonical,
    /// A value that JSON and CBOR cannot both say: a byte string, an infinity, an integer beyond 64 bits.
    Unrepresentable,
    /// Not the type the field has.
    WrongType,
    /// A number outside the field's range.
    Range,
    /// A field every frame must have.
    Missing,
    /// A version of frames or of a layout that is not known.
    Version,
    /// Bytes were changed on the way.
    Checksum,
    /// A signature that is not the key's.
    Forged,
    /// Header and sections contradict each other.
    Contradiction,
}

impl Malformed {
    pub(super) fn at(what: What, at: usize) -> Malformed {
        Malformed { what, field: "", at }
    }

    pub(super) fn field(what: What, field: &'static str) -> Malformed {
        Malformed { what, field, at: 0 }
    }

    /// Names the field, where none is named yet.
    pub(super) fn within(self, field: &'static str) -> Malformed {
        if self.field.is_empty() { Malformed { field, ..self } } else { self }
    }

    /// The code a peer is told.
    pub fn code(self) -> Code {
        if self.what == What::Forged { Code::Sec } else { Code::Proto }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::FrameBytes => "the frame is too long",
            What::TooLong => "too long",
            What::Depth => "nested too deep",
            What::Truncated => "ends early",
            What::Trailing => "goes on after its end",
            What::Syntax => "cannot be read",
            What::Utf8 => "is not UTF-8",
            What::Duplicate => "is there twice",
            What::NotCanonical => "is not in canonical form",
            What::Unrepresentable => "cannot be carried by every encoding",
            What::WrongType => "has the wrong type",
            What::Range => "is out of range",
            What::Missing => "is missing",
            What::Version => "is of an unknown version",
            What::Checksum => "does not match its checksum",
            What::Forged => "has a signature of somebody else",
            What::Contradiction => "contradicts the header",
        };
        match (self.field, self.at) {
            ("", at) => write!(out, "{what}, at byte {at}"),
            (field, _) => write!(out, "{field} {what}"),
        }
    }
}

impl std::error::Error for Malformed {}
