//! Reads fields out of a tree: typed, bounded, every mistake at once, each with its place, path, value and
//! range.
//!
//! Used for resources and for the planes' own configuration files. A reader never stops at the first mistake,
//! never takes a field it does not know, and never shows what may be a secret.
//!
//! ```
//! use proto_core::parse::{Source, config};
//!
//! let source = Source { file: "dataplane.yaml", content: b"listen: { port: 7443 }\nworkers: 4\n" };
//! let (read, warnings) = config(&source, &["listen", "workers", "log"], |fields| {
//!     let port = fields.must("listen", |listen| {
//!         let listen = listen.fields(&["host", "port"])?;
//!         listen.or("port", 7443, |port| port.whole(1..=65535u16))
//!     });
//!     let workers = fields.maybe("workers", |count| count.whole(1..=1024u32));
//!     // `?` only now: everything was read, so every mistake is told.
//!     Some((port?, workers?))
//! })
//! .expect("the file is right");
//! assert_eq!(read, (7443, Some(4)));
//! assert!(warnings.is_empty());
//! ```

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::scalar::{self, DecimalFault, Scalar, ScalarKind};
use super::tree::{Map, Mark, Node, Value};
use super::words::{hint, path_part, shown};
use super::{Mistake, Place};
use crate::model::SecretRef;

/// Collects what is wrong with one source.
#[derive(Debug)]
pub struct Reader {
    file: Arc<str>,
    /// A cell, so that fields can be read side by side while all of them report here.
    found: RefCell<Found>,
}

#[derive(Debug, Default)]
struct Found {
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
}

impl Reader {
    pub fn new(file: &str) -> Reader {
        Reader { file: file.into(), found: RefCell::default() }
    }

    pub fn place(&self, mark: Mark) -> Place {
        Place { file: self.file.clone(), line: mark.line, column: mark.column }
    }

    /// Something is wrong: the source will not be taken.
    pub fn mistake(&self, mark: Mark, path: impl Into<String>, what: impl Into<String>) {
        let place = Some(self.place(mark));
        let mistakes = &mut self.found.borrow_mut().mistakes;
        if mistakes.len() < MISTAKES_MAX {
            mistakes.push(Mistake { place, path: path.into(), what: what.into() });
        } else if mistakes.len() == MISTAKES_MAX {
            let what = "there are more mistakes; mend these first".into();
            mistakes.push(Mistake { place: None, path: String::new(), what });
        }
    }

    /// Something is taken that has no effect, or not the one that is expected.
    pub fn warning(&self, mark: Mark, path: impl Into<String>, what: impl Into<String>) {
        let place = Some(self.place(mark));
        let warnings = &mut self.found.borrow_mut().warnings;
        if warnings.len() < MISTAKES_MAX {
            warnings.push(Mistake { place, path: path.into(), what: what.into() });
        }
    }

    /// The top of a document.
    pub fn root<'r>(&'r self, node: &'r Node) -> Field<'r> {
        Field { reader: self, node, path: String::new() }
    }

    /// The warnings, or the mistakes if there is one; by place.
    pub fn finish(self) -> Result<Vec<Mistake>, Vec<Mistake>> {
        let Found { mut mistakes, mut warnings } = self.found.into_inner();
        // Those without a place (there are more) stay last.
        let order = |mistake: &Mistake| {
            mistake.place.as_ref().map_or((u32::MAX, 0), |place| (place.line, place.column))
        };
        mistakes.sort_by_key(order);
        warnings.sort_by_key(order);
        if mistakes.is_empty() { Ok(warnings) } else { Err(mistakes) }
    }
}

/// The fields of one map, every name of which is known.
#[derive(Debug)]
pub struct Fields<'r> {
    reader: &'r Reader,
    mark: Mark,
    map: &'r Map,
    known: &'static [&'static str],
    path: String,
}

impl<'r> Fields<'r> {
    /// A field that may be absent. `null` is absent.
    pub fn optional(&self, name: &str) -> Option<Field<'r>> {
        debug_assert!(self.known.contains(&name), "`{name}` is not among the names {:?} knows", self.path);
        let node = &self.map.get(name)?.node;
        (!node.is_null()).then(|| Field { reader: self.reader, node, path: joined(&self.path, name) })
    }

    /// A field that must be there: its absence is a mistake.
    pub fn required(&self, name: &str) -> Option<Field<'r>> {
        let field = self.optional(name);
        if field.is_none() {
            let mark = self.map.get(name).map_or(self.mark, |entry| entry.mark);
            self.reader.mistake(mark, joined(&self.path, name), "is missing");
        }
        field
    }

    /// What `read` makes of a field that must be there.
    pub fn must<T>(&self, name: &str, read: impl FnOnce(&Field<'r>) -> Option<T>) -> Option<T> {
        read(&self.required(name)?)
    }

    /// What `read` makes of a field, or `default` where it is absent.
    pub fn or<T>(&self, name: &str, default: T, read: impl FnOnce(&Field<'r>) -> Option<T>) -> Option<T> {
        self.optional(name).map_or(Some(default), |field| read(&field))
    }

    /// What `read` makes of a field: `Some(None)` where it is absent, `None` where it is wrong.
    pub fn maybe<T>(&self, name: &str, read: impl FnOnce(&Field<'r>) -> Option<T>) -> Option<Option<T>> {
        self.optional(name).map_or(Some(None), |field| read(&field).map(Some))
    }

    /// A mistake of the map as a whole.
    pub fn mistake(&self, what: impl Into<String>) {
        self.reader.mistake(self.mark, self.path.clone(), what);
    }
}

/// One value that is there (not `null`). Each reading gives the value, or `None` and a mistake in the reader.
#[derive(Debug, Clone)]
pub struct Field<'r> {
    reader: &'r Reader,
    node: &'r Node,
    path: String,
}

impl<'r> Field<'r> {
    /// A map with no other names than `known`. Each unknown one is a mistake that says which there are.
    pub fn fields(&self, known: &'static [&'static str]) -> Option<Fields<'r>> {
        self.open(known, path_part)
    }

    /// Like [`Field::fields`], for maps of secrets: an unknown name is not shown, it may be the secret itself
    /// (`{sk-…}` is a map of one name).
    pub fn fields_unseen(&self, known: &'static [&'static str]) -> Option<Fields<'r>> {
        self.open(known, |_| "(not shown)".into())
    }

    /// The elements of a list whose length is in `range`.
    pub fn list(&self, range: RangeInclusive<usize>) -> Option<Vec<Field<'r>>> {
        let Value::List(items) = &self.node.value else {
            return self.wrong(format!("is {}, a list is expected", self.type_name()));
        };
        if !range.contains(&items.len()) {
            let (low, high) = range.into_inner();
            return self.wrong(format!("has {} elements; {low} to {high} are allowed", items.len()));
        }
        let element = |(at, node)| Field { reader: self.reader, node, path: format!("{}[{at}]", self.path) };
        Some(items.iter().enumerate().map(element).collect())
    }

    /// Text of 1 to [`TEXT_BYTES_MAX`] bytes without control characters.
    pub fn text(&self) -> Option<&'r str> {
        self.text_as("text", true)
    }

    /// Text of 1 to `bytes_max` bytes, not all blank, of any number of lines.
    pub fn prose(&self, bytes_max: usize) -> Option<&'r str> {
        let scalar = self.scalar("text")?;
        let text = &*scalar.text;
        let is_text = |one: char| !one.is_control() || matches!(one, '\n' | '\r' | '\t');
        if text.trim().is_empty() || text.len() > bytes_max || !text.chars().all(is_text) {
            return self.wrong(format!("is text of 1 to {bytes_max} bytes without control characters"));
        }
        Some(text)
    }

    pub fn boolean(&self) -> Option<bool> {
        match self.scalar("true or false")?.kind {
            ScalarKind::Bool(value) => Some(value),
            _ => self.not_a("true or false"),
        }
    }

    /// A whole number in `range`.
    pub fn whole<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + Into<u64> + TryFrom<u64>,
    {
        let scalar = self.scalar("a whole number")?;
        if scalar.kind != ScalarKind::Integer {
            return self.not_a("a whole number");
        }
        let (low, high): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
        let value = match scalar::decimal(&scalar.text, 0) {
            Ok(value) if value < low.into() => return self.below(&low, &high),
            Ok(value) if value > high.into() => return self.above(&low, &high),
            Ok(value) => value,
            Err(DecimalFault::Negative | DecimalFault::TooFine) => return self.below(&low, &high),
            Err(DecimalFault::TooBig) => return self.above(&low, &high),
        };
        u64::try_from(value).ok().and_then(|value| T::try_from(value).ok())
    }

    /// A number in `range`.
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let scalar = self.scalar("a number")?;
        let value: f64 = match scalar.is_number().then(|| scalar.text.parse()) {
            Some(Ok(value)) => value,
            _ => return self.not_a("a number"),
        };
        let (low, high) = range.into_inner();
        match value {
            value if value < low => self.below(&low, &high),
            value if value > high => self.above(&low, &high),
            value => Some(value),
        }
    }

    /// A number or text with at most `places` decimals, from 0 to `high`: the value × 10^`places`, exactly.
    pub fn decimal(&self, places: u32, high: u64) -> Option<u64> {
        let scalar = self.scalar("a number")?;
        let number = match scalar.kind {
            ScalarKind::Text => Scalar::plain(&scalar.text).ok().filter(Scalar::is_number),
            _ => Some(scalar.clone()).filter(Scalar::is_number),
        };
        let Some(number) = number else { return self.not_a("a number") };
        let value = match scalar::decimal(&number.text, places) {
            Ok(value) => value,
            Err(DecimalFault::Negative) => return self.below(&0, &high),
            Err(DecimalFault::TooBig) => return self.above(&0, &high),
            Err(DecimalFault::TooFine) => {
                return self.wrong(format!("{} has more than {places} decimals", self.shown()));
            }
        };
        let limit = u128::from(high) * 10u128.pow(places);
        if value > limit {
            return self.above(&0, &high);
        }
        u64::try_from(value).ok()
    }

    /// A time in milliseconds, within `range`.
    pub fn millis(&self, range: RangeInclusive<u64>) -> Option<Duration> {
        self.whole(range).map(Duration::from_millis)
    }

    /// One of the words of a table.
    pub fn one_of<T: Clone>(&self, table: &[(&str, T)]) -> Option<T> {
        let names = || table.iter().map(|(name, _)| *name);
        let text = match &self.node.value {
            Value::Scalar(scalar) => &*scalar.text,
            _ => return self.not_a(&format!("one of {}", names().collect::<Vec<_>>().join(", "))),
        };
        if let Some((_, value)) = table.iter().find(|(name, _)| *name == text) {
            return Some(value.clone());
        }
        let hint = hint(text, names());
        let all = names().collect::<Vec<_>>().join(", ");
        self.wrong(format!("{} is not one of {all}{hint}", self.shown()))
    }

    /// Text that `parse` takes; its refusal is shown with the value.
    pub fn parsed<T, E: Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text()?;
        parse(text).map_or_else(|why| self.wrong(format!("{}: {why}", shown(text))), Some)
    }

    /// Like [`Field::parsed`], for what may hold a secret by mistake: the value is never shown.
    pub fn parsed_unseen<T, E: Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text_as("text", false)?;
        parse(text).map_or_else(|why| self.wrong(why.to_string()), Some)
    }

    /// Where a secret is found: `${NAME}` or `file:PATH`. A literal secret is a mistake that never shows it.
    pub fn secret(&self) -> Option<SecretRef> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Text => {
                secret(&scalar.text).map_or_else(|| self.wrong(NO_LITERAL_SECRET), Some)
            }
            _ => self.wrong(NO_LITERAL_SECRET),
        }
    }

    /// Whether this is exactly `text`.
    pub fn is_text(&self, text: &str) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if &*scalar.text == text)
    }

    /// The path of this value: `routes[2].retry`.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn mark(&self) -> Mark {
        self.node.mark
    }

    /// Says what is wrong with this value.
    pub fn mistake(&self, what: impl Into<String>) {
        self.reader.mistake(self.node.mark, self.path.clone(), what);
    }

    /// Says that this value is taken, but what about it has no effect.
    pub fn warning(&self, what: impl Into<String>) {
        self.reader.warning(self.node.mark, self.path.clone(), what);
    }

    /// [`Field::mistake`] as the end of an expression.
    pub fn wrong<T>(&self, what: impl Into<String>) -> Option<T> {
        self.mistake(what);
        None
    }

    /// The value as messages show it: bounded, escaped. Not for what may be a secret.
    pub fn shown(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Text => shown(&scalar.text),
            Value::Scalar(scalar) => scalar.text.to_string(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    fn open(&self, known: &'static [&'static str], shown: fn(&str) -> String) -> Option<Fields<'r>> {
        let Value::Map(map) = &self.node.value else {
            // Without the value: `auth: sk-…` would show a secret.
            return self.wrong(format!("is {}, fields are expected: {}", self.type_name(), known.join(", ")));
        };
        for (name, entry) in map.iter().filter(|(name, _)| !known.contains(&&***name)) {
            let hint = match hint(name, known.iter().copied()) {
                hint if hint.is_empty() => "; there are".into(),
                hint => format!("{hint} There are"),
            };
            let what = format!("there is no such field{hint} {}", known.join(", "));
            self.reader.mistake(entry.mark, joined(&self.path, &shown(name)), what);
        }
        Some(Fields { reader: self.reader, mark: self.node.mark, map, known, path: self.path.clone() })
    }

    fn scalar(&self, expected: &str) -> Option<&'r Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => self.not_a(expected),
        }
    }

    fn text_as(&self, expected: &str, may_show: bool) -> Option<&'r str> {
        let scalar = self.scalar(expected)?;
        if scalar.kind != ScalarKind::Text {
            let quoted = if may_show { format!(": \"{}\"", scalar.text) } else { String::new() };
            return self.wrong(format!("is {}, text is expected; quote it{quoted}", self.type_name()));
        }
        let text = &*scalar.text;
        match text {
            "" => self.wrong("is empty"),
            _ if text.len() > TEXT_BYTES_MAX => {
                self.wrong(format!("has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()))
            }
            _ if text.chars().any(char::is_control) => self.wrong("holds a control character or line break"),
            _ => Some(text),
        }
    }

    fn not_a<T>(&self, expected: &str) -> Option<T> {
        match &self.node.value {
            Value::Scalar(_) => {
                self.wrong(format!("{} is {}, {expected} is expected", self.shown(), self.type_name()))
            }
            _ => self.wrong(format!("is {}, {expected} is expected", self.type_name())),
        }
    }

    fn above<T>(&self, low: &impl Display, high: &impl Display) -> Option<T> {
        self.wrong(format!("{} is above {high}; {low} to {high} is allowed", self.shown()))
    }

    fn below<T>(&self, low: &impl Display, high: &impl Display) -> Option<T> {
        self.wrong(format!("{} is below {low}; {low} to {high} is allowed", self.shown()))
    }

    fn type_name(&self) -> &'static str {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "empty",
                ScalarKind::Bool(_) => "a boolean",
                ScalarKind::Integer | ScalarKind::Float => "a number",
                ScalarKind::Text => "text",
            },
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

fn secret(text: &str) -> Option<SecretRef> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return None;
    }
    if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty();
        return is_name.then(|| SecretRef::Env(name.into()));
    }
    let path = text.strip_prefix("file:").filter(|path| !path.is_empty())?;
    Some(SecretRef::File(path.into()))
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// Mistakes one source is told at once: more than anybody mends in one go, and a bound on what a bad file
/// costs.
pub const MISTAKES_MAX: usize = 1000;

/// Names, paths and addresses: the longest path Linux takes.
pub const TEXT_BYTES_MAX: usize = 4096;

const NO_LITERAL_SECRET: &str = "is not a reference to a secret (not shown); \
    write ${NAME} for an environment variable or file:PATH for a file";
