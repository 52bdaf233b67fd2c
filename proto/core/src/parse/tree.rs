//! A document as a tree whose every node knows its place; the shape before the meaning.
//!
//! What would make a small file large or ambiguous is refused here, with its place: anchors, aliases and tags
//! (they let ten lines expand to gigabytes), depth past [`DEPTH_MAX`], more than [`NODES_MAX`] values, the
//! same field twice. Never fails as a whole for one bad node where reading on tells the operator more.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::Source;
use super::fields::Reader;
use super::scalar::{Scalar, ScalarKind};
use super::words::path_part;

/// A point in a file, lines and columns from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub line: u32,
    pub column: u32,
}

impl Mark {
    /// Where a file begins.
    pub const START: Mark = Mark { line: 1, column: 1 };
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub mark: Mark,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Map),
}

/// Sorted by the bytes of the names: the order of canonical JSON.
pub type Map = BTreeMap<Box<str>, Entry>;

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the name is written.
    pub mark: Mark,
    pub node: Node,
}

impl Node {
    /// Nothing was written: an empty document, or a field without a value.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// The node of a field, where this is a map that has it.
    pub fn child(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(map) => map.get(name).map(|entry| &entry.node),
            _ => None,
        }
    }
}

/// The documents of a source that are not empty. What is wrong goes to `reader`; the documents before a place
/// that ends the reading are returned all the same, so that their mistakes are reported too.
pub fn read(source: &Source<'_>, reader: &Reader) -> Vec<Node> {
    let Some(text) = check_text(source.content, reader) else { return Vec::new() };
    let mut builder = Builder { reader, stack: Vec::new(), documents: Vec::new(), nodes: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let went_on = match next {
            Ok((event, span)) => builder.on_event(event, mark(span.start)),
            Err(error) => Err(Wrong { mark: mark(*error.marker()), what: explain(&error) }),
        };
        if let Err(Wrong { mark, what }) = went_on {
            reader.mistake(mark, "", what);
            break;
        }
    }
    builder.documents
}

/// Ends the reading of a source.
struct Wrong {
    mark: Mark,
    what: String,
}

struct Builder<'r> {
    reader: &'r Reader,
    /// Open lists and maps, outermost first.
    stack: Vec<Frame>,
    documents: Vec<Node>,
    nodes: usize,
}

enum Frame {
    List { mark: Mark, items: Vec<Node> },
    Map { mark: Mark, map: Map, name: Option<(Box<str>, Mark)> },
}

impl Builder<'_> {
    fn on_event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Wrong> {
        match event {
            Event::Alias(_) => Err(Wrong { mark, what: NO_ALIASES.into() }),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(mark, anchor, tag.is_some());
                self.on_scalar(&text, style, mark)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(mark, anchor, tag.is_some());
                self.open(Frame::List { mark, items: Vec::new() }, mark)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(mark, anchor, tag.is_some());
                self.open(Frame::Map { mark, map: Map::new(), name: None }, mark)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop().expect("the parser closes what it opened") {
                    Frame::List { mark, items } => Node { mark, value: Value::List(items) },
                    Frame::Map { mark, map, .. } => Node { mark, value: Value::Map(map) },
                };
                self.put(node);
                Ok(())
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn refuse_extras(&mut self, mark: Mark, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.reader.mistake(mark, "", NO_ALIASES);
        }
        if tagged {
            self.reader.mistake(mark, "", NO_TAGS);
        }
    }

    fn on_scalar(&mut self, text: &str, style: ScalarStyle, mark: Mark) -> Result<(), Wrong> {
        self.count(mark)?;
        let scalar = match style {
            ScalarStyle::Plain => Scalar::plain(text).unwrap_or_else(|fault| {
                // Without the value: which field it is of, and so whether it is secret, is not known here.
                self.reader.mistake(mark, "", fault.as_str());
                Scalar::quoted(text)
            }),
            _ => Scalar::quoted(text),
        };
        if let Some(Frame::Map { name: name @ None, .. }) = self.stack.last_mut() {
            if scalar.kind != ScalarKind::Text {
                let what = format!("a field name is text; write it as \"{}\"", text.escape_debug());
                self.reader.mistake(mark, "", if text.is_empty() { NO_NAME.into() } else { what });
            }
            *name = Some((scalar.text, mark));
            return Ok(());
        }
        self.put(Node { mark, value: Value::Scalar(scalar) });
        Ok(())
    }

    fn open(&mut self, frame: Frame, mark: Mark) -> Result<(), Wrong> {
        self.count(mark)?;
        if let Some(Frame::Map { name: None, .. }) = self.stack.last() {
            return Err(Wrong { mark, what: "a field name is text, not a list or map".into() });
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(Wrong { mark, what: TOO_DEEP.into() });
        }
        self.stack.push(frame);
        Ok(())
    }

    fn count(&mut self, mark: Mark) -> Result<(), Wrong> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(Wrong { mark, what: TOO_MANY.into() }) } else { Ok(()) }
    }

    fn put(&mut self, node: Node) {
        match self.stack.last_mut() {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { map, name, .. }) => {
                let (name, mark) = name.take().expect("a value follows its name");
                if let Some(first) = map.get(&name) {
                    let line = first.mark.line;
                    let what = format!("is given twice, first on line {line}; remove one of them");
                    self.reader.mistake(mark, path_part(&name), what);
                } else {
                    map.insert(name, Entry { mark, node });
                }
            }
        }
    }
}

/// Text the scanner may see: UTF-8 of bounded size without control characters.
fn check_text<'a>(content: &'a [u8], reader: &Reader) -> Option<&'a str> {
    if content.len() > FILE_BYTES_MAX {
        let what =
            format!("the file has {} bytes, at most {FILE_BYTES_MAX} are read; split it", content.len());
        reader.mistake(Mark::START, "", what);
        return None;
    }
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        reader.mistake(Mark::START, "", "the file is UTF-16; save it as UTF-8");
        return None;
    }
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let valid = content.get(..error.valid_up_to()).unwrap_or_default();
            let at = mark_after(std::str::from_utf8(valid).unwrap_or_default());
            reader.mistake(at, "", "the file is not UTF-8 from here on; save it as UTF-8");
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_forbidden = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    if let Some(at) = text.bytes().position(is_forbidden) {
        let byte = text.as_bytes()[at];
        let what =
            format!("the control character 0x{byte:02x} is not text; write \"\\x{byte:02x}\" in quotes");
        reader.mistake(mark_after(&text[..at]), "", what);
        return None;
    }
    // The scanner holds the tokens of a whole flow collection before the tree sees the first: bound them
    // here.
    let punctuation = text.bytes().filter(|byte| b",:[]{}?&*!".contains(byte)).count();
    if punctuation > PUNCTUATION_MAX {
        reader.mistake(Mark::START, "", TOO_MUCH_PUNCTUATION);
        return None;
    }
    Some(text)
}

fn mark(marker: Marker) -> Mark {
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Mark { line: count(marker.line()).max(1), column: count(marker.col()).saturating_add(1) }
}

/// The place right behind `text`. Lines end as YAML ends them: LF, CRLF, CR.
fn mark_after(text: &str) -> Mark {
    let mut at = Marker::new(0, 1, 0);
    let mut before = ' ';
    for character in text.chars() {
        at = match (before, character) {
            ('\r', '\n') => at,
            (_, '\n' | '\r') => Marker::new(0, at.line() + 1, 0),
            _ => Marker::new(0, at.line(), at.col() + 1),
        };
        before = character;
    }
    mark(at)
}

/// The parser's words where an operator's would be clearer. They never carry the file's text.
fn explain(error: &ScanError) -> String {
    let info = error.info();
    let known = [
        ("unknown anchor", NO_ALIASES),
        ("recursion limit", TOO_DEEP),
        ("tab", "a tab stands where YAML wants spaces; indent with spaces"),
        ("unexpected end of stream", "the quote that opens here is never closed"),
        ("trailing content after", "text stands behind the closing quote; quote the whole value"),
        (
            "mapping values are not allowed",
            "a `:` too many, or wrong indentation; quote text that contains `: `",
        ),
        ("invalid Unicode character escape", "half a surrogate pair; write the character, or \\UXXXXXXXX"),
        ("simple key expect", "a field is `name: value`; here the `:` is missing"),
        ("misplaced bracket", "a closing bracket without its opening one"),
        ("expected ','", "a `,` or the closing bracket is missing before this"),
        ("expected node content", "a value or the closing bracket is missing before this"),
        ("did not find expected key", "the indentation fits nothing above; align it with its neighbours"),
        ("expected '-' indicator", "the indentation fits nothing above; align it with its neighbours"),
        (
            "expected <document start>",
            "only one value stands in a document; separate documents with a line ---",
        ),
        ("unexpected character", "text that starts with @, ` or % is written in quotes"),
    ];
    match known.iter().find(|(part, _)| info.contains(part)) {
        Some((_, what)) => (*what).into(),
        None => format!("cannot be read as YAML or JSON: {info}"),
    }
}

/// Sixteen mebibytes: a hundred thousand resources. More is a mistake of whoever sent it.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Resources are six deep; deeper recursion serves nobody and costs stack.
pub const DEPTH_MAX: usize = 32;

/// Values in one source: about 100 MB as a tree, the most that reading a file may cost.
pub const NODES_MAX: usize = 1_000_000;

/// Brackets, commas and colons in one source. Each costs up to 360 bytes of the scanner's tokens while a flow
/// collection is open (measured with a list of ones), so that a hostile file costs 360 MB and not 6 GB.
const PUNCTUATION_MAX: usize = 1_000_000;

const NO_ALIASES: &str = "anchors and aliases are not read; write the value out";
const NO_TAGS: &str = "tags are not read; quote the value if it is text";
const NO_NAME: &str = "a field name is missing before the `:`";
const TOO_DEEP: &str = "lists and maps are nested more than 32 deep";
const TOO_MUCH_PUNCTUATION: &str = "the file holds more than 1,000,000 brackets, commas and colons; split it";
const TOO_MANY: &str = "the file holds more than 1,000,000 values; split it";
