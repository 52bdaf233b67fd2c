//! A JSON reader that takes its input piece by piece, allocates nothing and checks everything: the grammar of
//! RFC 8259, UTF-8 down to the halves of surrogate pairs, depth. What it finds it tells a [`Visitor`], which
//! says what to enter and what to pass over; passed-over values are checked just the same.
//!
//! It never builds a value, never converts a number to floating point, never decides what a key means.
//! One reader serves request bodies, whole answers and the events of a stream.
//!
//! ```text
//! Start ─{─▶ KeyOrEnd ─"─▶ Text ─"─▶ Colon ─:─▶ Value ─▶ (Text | Number | Literal | a container) ─▶ After
//!               ▲                                 ▲                                                │  │
//!               └─ Key ◀──────── , in an object ──┼──────────── , in an array ─────────────────────┘  } ]
//!                                                 │                                                   ▼
//!                                            ValueOrEnd                           After, or End at the top
//! ```

mod escape;
mod number;
mod plain;
mod text;
mod write;

#[cfg(test)]
mod tests;

pub use escape::unescape;
pub(crate) use number::Decimal;
pub(crate) use write::{Escaped, HEX, Plain, Shown, put, quote};

use self::number::Number;
use self::text::Text;
use crate::fault::{Fault, MalformedWhat};

/// Bytes `[start, end)` of a body, counted over all its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// Bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Array,
}

/// What to do with a container that opens, or with the value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descend {
    /// Tell what is inside.
    Enter,
    /// Check it, count its items, tell its end.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Literal {
    True,
    False,
    Null,
}

/// Is told what stands in entered containers, in the order it stands there. A fault ends the reading.
///
/// `text` is a string unescaped, valid UTF-8, or `None` where that is longer than [`TEXT_BYTES_MAX`]; spans
/// are those of the value as it stands in the body, quotes and brackets included.
pub(crate) trait Visitor {
    /// A key of the object last entered. [`Descend::Over`]: nothing is told of its value.
    fn key(&mut self, text: Option<&[u8]>, span: Span) -> Result<Descend, Fault>;
    /// A container begins; `at` is the offset of its bracket. The top-level object is asked about too.
    fn open(&mut self, shape: Shape, at: u64) -> Result<Descend, Fault>;
    /// The container last entered ended; `end` is just after its bracket.
    fn close(&mut self, end: u64) -> Result<(), Fault>;
    /// A container that [`Visitor::open`] passed over has ended; `items` are its own elements or members, not
    /// those deeper inside.
    fn skipped(&mut self, shape: Shape, span: Span, items: u64) -> Result<(), Fault>;
    /// A string; `chars` counts Unicode scalar values after unescaping.
    fn string(&mut self, text: Option<&[u8]>, chars: u64, span: Span) -> Result<(), Fault>;
    fn number(&mut self, number: Decimal, span: Span) -> Result<(), Fault>;
    fn literal(&mut self, literal: Literal, span: Span) -> Result<(), Fault>;
}

/// The reader's place between two pieces.
#[derive(Debug)]
pub(crate) struct Lexer {
    /// Of the next piece's first byte in the whole body.
    offset: u64,
    step: Step,
    /// Containers open.
    depth: u32,
    /// Bit d: the container at depth d + 1 is an object.
    objects: u64,
    /// Depth inside the container that is passed over; [`LOUD`] where none is.
    quiet: u32,
    /// The value of the last key is of no interest to the visitor.
    mute: bool,
    /// Of the container that is passed over.
    items: u64,
    skipped_at: u64,
    /// Where the string, number or literal being read begins.
    token_at: u64,
    text: Text,
    number: Number,
    literal: Literal,
    /// Bytes of the literal seen.
    matched: u8,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    KeyOrEnd,
    Key,
    Colon,
    Value,
    ValueOrEnd,
    After,
    End,
    // From here on: inside a token, where white space is not skipped.
    Text,
    Escape,
    Hex,
    /// Half a surrogate pair was read: its `\` must follow.
    LowSlash,
    /// Then its `u`.
    LowU,
    /// Within a character of several bytes.
    Multibyte,
    Number,
    Literal,
}

/// The fault is in [`Lexer::fault`]: so that steps hand their place on in registers.
#[derive(Debug)]
struct Stop;

/// The offset in the piece at which the next step begins, and which step that is. A step inside a token is
/// only ever handed on at the end of the piece.
type Next = Result<(usize, Step), Stop>;

impl Lexer {
    pub fn new() -> Lexer {
        Lexer {
            offset: 0,
            step: Step::Start,
            depth: 0,
            objects: 0,
            quiet: LOUD,
            mute: false,
            items: 0,
            skipped_at: 0,
            token_at: 0,
            text: Text::new(),
            number: Number::default(),
            literal: Literal::Null,
            matched: 0,
            fault: None,
        }
    }

    /// Ready for another body, as if new.
    pub fn reset(&mut self) {
        self.offset = 0;
        self.step = Step::Start;
        self.depth = 0;
        self.quiet = LOUD;
        self.mute = false;
        self.fault = None;
    }

    /// Reads the next piece. After a fault every further call returns the same one.
    pub fn push<V: Visitor>(&mut self, piece: &[u8], visitor: &mut V) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.read(piece, visitor) {
            Ok(()) => {
                self.offset += piece.len() as u64;
                Ok(())
            }
            Err(Stop) => Err(self.fault.expect("a stop leaves its fault")),
        }
    }

    /// The body ends here: its length in bytes, or what is missing.
    pub fn finish(&mut self) -> Result<u64, Fault> {
        match (self.fault, self.step) {
            (Some(fault), _) => Err(fault),
            (None, Step::End) => Ok(self.offset),
            (None, _) => {
                let fault = Fault::malformed(MalformedWhat::Unfinished, self.offset);
                self.fault = Some(fault);
                Err(fault)
            }
        }
    }

    /// The step is a local here: one in memory would make every byte wait for the one before.
    fn read<V: Visitor>(&mut self, piece: &[u8], visitor: &mut V) -> Result<(), Stop> {
        let (mut at, mut step) = self.resume(piece, visitor)?;
        while let Some(&byte) = piece.get(at) {
            if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                at += 1;
                continue;
            }
            (at, step) = match step {
                Step::Key if byte == b'"' => self.key(piece, at, visitor)?,
                Step::Value => self.value(byte, piece, at, visitor)?,
                Step::After => self.after(byte, at, visitor)?,
                Step::Colon if byte == b':' => (at + 1, Step::Value),
                Step::KeyOrEnd if byte == b'"' => self.key(piece, at, visitor)?,
                Step::KeyOrEnd if byte == b'}' => self.close(at, visitor)?,
                Step::ValueOrEnd if byte == b']' => self.close(at, visitor)?,
                Step::ValueOrEnd => self.value(byte, piece, at, visitor)?,
                Step::Start if byte == b'{' => self.open(Shape::Object, at, visitor)?,
                _ => return Err(self.unexpected(step, at)),
            };
        }
        self.step = step;
        Ok(())
    }

    /// Goes on with a token that began in an earlier piece, until it ends or the piece does.
    fn resume<V: Visitor>(&mut self, piece: &[u8], visitor: &mut V) -> Next {
        let (mut at, mut step) = (0, self.step);
        while at < piece.len() {
            (at, step) = match step {
                Step::Text => self.string(piece, at, visitor)?,
                Step::Escape => self.escape(piece, at)?,
                Step::Hex => self.hex(piece, at)?,
                Step::LowSlash | Step::LowU => self.low_half(step, piece, at)?,
                Step::Multibyte => self.multibyte_rest(piece, at)?,
                Step::Number => self.number(piece, at, visitor)?,
                Step::Literal => self.literal(piece, at, visitor)?,
                _ => break,
            };
        }
        Ok((at, step))
    }

    #[inline]
    fn key<V: Visitor>(&mut self, piece: &[u8], at: usize, visitor: &mut V) -> Next {
        let (at, step) = self.begin_string::<true, V>(piece, at, visitor)?;
        // Nearly always the colon follows at once.
        match piece.get(at) {
            Some(b':') if step == Step::Colon => Ok((at + 1, Step::Value)),
            _ => Ok((at, step)),
        }
    }

    #[inline]
    fn value<V: Visitor>(&mut self, byte: u8, piece: &[u8], at: usize, visitor: &mut V) -> Next {
        if self.depth == self.quiet {
            self.items += 1;
        }
        match byte {
            b'"' => self.begin_string::<false, V>(piece, at, visitor),
            b'{' => self.open(Shape::Object, at, visitor),
            b'[' => self.open(Shape::Array, at, visitor),
            b'-' | b'0'..=b'9' => {
                if !self.is_loud(false)
                    && let Some(length) = number::short_cut(&piece[at..])
                {
                    return Ok((at + length, Step::After));
                }
                self.token_at = self.offset + at as u64;
                self.number = Number::default();
                self.number(piece, at, visitor)
            }
            b't' => self.begin_literal(Literal::True, b"true", piece, at, visitor),
            b'f' => self.begin_literal(Literal::False, b"false", piece, at, visitor),
            b'n' => self.begin_literal(Literal::Null, b"null", piece, at, visitor),
            _ => Err(self.stop(MalformedWhat::Syntax("a value"), at)),
        }
    }

    #[inline]
    fn after<V: Visitor>(&mut self, byte: u8, at: usize, visitor: &mut V) -> Next {
        let in_object = self.in_object();
        match byte {
            b',' => Ok((at + 1, if in_object { Step::Key } else { Step::Value })),
            b'}' if in_object => self.close(at, visitor),
            b']' if !in_object => self.close(at, visitor),
            _ => Err(self.unexpected(Step::After, at)),
        }
    }

    fn open<V: Visitor>(&mut self, shape: Shape, at: usize, visitor: &mut V) -> Next {
        if self.depth == DEPTH_MAX {
            return Err(self.stop(MalformedWhat::TooDeep, at));
        }
        let offset = self.offset + at as u64;
        let bit = 1 << self.depth;
        self.depth += 1;
        let step = match shape {
            Shape::Object => {
                self.objects |= bit;
                Step::KeyOrEnd
            }
            Shape::Array => {
                self.objects &= !bit;
                Step::ValueOrEnd
            }
        };
        // `quiet` is the depth inside, so everything at least as deep is passed over.
        if self.mute {
            self.quiet = self.quiet.min(self.depth);
        } else if self.depth <= self.quiet {
            match visitor.open(shape, offset) {
                Ok(Descend::Enter) => {}
                Ok(Descend::Over) => {
                    self.quiet = self.depth;
                    self.items = 0;
                    self.skipped_at = offset;
                }
                Err(fault) => return Err(self.refuse(fault)),
            }
        }
        Ok((at + 1, step))
    }

    fn close<V: Visitor>(&mut self, at: usize, visitor: &mut V) -> Next {
        if self.depth <= self.quiet {
            let end = self.offset + at as u64 + 1;
            let is_muted = self.depth == self.quiet && self.mute;
            self.mute = false;
            let told = if self.depth < self.quiet {
                visitor.close(end)
            } else {
                self.quiet = LOUD;
                let shape = if self.in_object() { Shape::Object } else { Shape::Array };
                let span = Span { start: self.skipped_at, end };
                if is_muted { Ok(()) } else { visitor.skipped(shape, span, self.items) }
            };
            if let Err(fault) = told {
                return Err(self.refuse(fault));
            }
        }
        self.depth -= 1;
        Ok((at + 1, if self.depth == 0 { Step::End } else { Step::After }))
    }

    #[inline]
    fn begin_literal<V: Visitor, const N: usize>(
        &mut self,
        literal: Literal,
        word: &[u8; N],
        piece: &[u8],
        at: usize,
        visitor: &mut V,
    ) -> Next {
        self.token_at = self.offset + at as u64;
        self.literal = literal;
        self.matched = 0;
        match piece[at..].first_chunk::<N>() {
            Some(here) if here == word => self.end_literal(at + N, visitor),
            _ => self.literal(piece, at, visitor),
        }
    }

    fn literal<V: Visitor>(&mut self, piece: &[u8], at: usize, visitor: &mut V) -> Next {
        let word = self.literal.word();
        let rest = &word.as_bytes()[usize::from(self.matched)..];
        let here = &piece[at..];
        let length = rest.len().min(here.len());
        if let Some(wrong) = (0..length).find(|&each| here[each] != rest[each]) {
            return Err(self.stop(MalformedWhat::Syntax(word), at + wrong));
        }
        if length < rest.len() {
            self.matched += length as u8;
            return Ok((at + length, Step::Literal));
        }
        self.end_literal(at + length, visitor)
    }

    #[inline]
    fn end_literal<V: Visitor>(&mut self, at: usize, visitor: &mut V) -> Next {
        let span = Span { start: self.token_at, end: self.offset + at as u64 };
        if self.is_loud(false)
            && let Err(fault) = visitor.literal(self.literal, span)
        {
            return Err(self.refuse(fault));
        }
        Ok((at, Step::After))
    }

    /// Whether the visitor is told about the key, or the value, that stands here.
    #[inline]
    fn is_loud(&self, is_key: bool) -> bool {
        self.depth < self.quiet && (is_key || !self.mute)
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.objects & (1 << (self.depth - 1)) != 0
    }

    #[cold]
    fn unexpected(&mut self, step: Step, at: usize) -> Stop {
        let what = match step {
            Step::Start => MalformedWhat::NotAnObject,
            Step::End => MalformedWhat::Trailing,
            Step::KeyOrEnd => MalformedWhat::Syntax("a key in double quotes, or `}`"),
            Step::Key => MalformedWhat::Syntax("a key in double quotes"),
            Step::Colon => MalformedWhat::Syntax("`:` after the key"),
            _ if self.in_object() => MalformedWhat::Syntax("`,` or `}`"),
            _ => MalformedWhat::Syntax("`,` or `]`"),
        };
        self.stop(what, at)
    }

    /// `at` counts in the piece.
    #[cold]
    fn stop(&mut self, what: MalformedWhat, at: usize) -> Stop {
        self.refuse(Fault::malformed(what, self.offset + at as u64))
    }

    #[cold]
    fn refuse(&mut self, fault: Fault) -> Stop {
        self.fault = Some(fault);
        Stop
    }
}

impl Literal {
    fn word(self) -> &'static str {
        match self {
            Literal::True => "true",
            Literal::False => "false",
            Literal::Null => "null",
        }
    }
}

/// Containers in containers. Chat bodies nest about ten deep, tool schemas about twenty; one bit each fits a
/// word.
pub const DEPTH_MAX: u32 = 64;

/// Longest string whose text a visitor is given: a model's name, the longest the model of resources allows.
pub(crate) const TEXT_BYTES_MAX: usize = 128;

/// Deeper than any container: nothing is passed over.
const LOUD: u32 = u32::MAX;
