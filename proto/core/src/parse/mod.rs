//! Documents to model, every mistake at once, each with its file, line, column and path.
//!
//! The ONE parser of operators' documents: `atp ctl`, the control plane, file mode and Sync all come through
//! here (JSON is read as the subset of YAML it is). It never reads a file: bytes come in, values or mistakes
//! go out.

mod adapter;
mod document;
pub mod environment;
pub mod fields;
mod json;
mod persona;
mod route;
mod scalar;
mod tenant;
#[cfg(test)]
mod tests;
pub mod tree;
mod words;
mod yaml;

pub use fields::{Field, Fields, Reader};
pub use yaml::to_yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::{Kind, Name, Resource, Set};
use tree::{Map, Mark, Node, Value};

/// One file, or one body of a request.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Named in messages.
    pub file: &'a str,
    pub content: &'a [u8],
}

/// A point in a file, lines and columns from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// `None`: not tied to a place, such as a reference between files.
    pub place: Option<Place>,
    /// Inside the document: `spec.retry.budget_permille`.
    pub path: String,
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

/// A mistake that no file has.
fn path_of(path: &str, what: String) -> Mistake {
    Mistake { place: None, path: path.into(), what }
}

/// One resource as it was written and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub kind: Kind,
    pub name: Name,
    pub place: Place,
    /// The whole document as canonical JSON: keys sorted by bytes, no blanks. Reading it again gives the same
    /// resource.
    pub json: String,
    pub resource: Resource,
    marks: document::Marks,
}

/// Documents that are right, one by one, and what should be known about them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    pub documents: Vec<Document>,
    /// Accepted, but not all of it has an effect in this version: says which and why.
    pub warnings: Vec<Mistake>,
}

/// Reads every document of every source. One mistake anywhere, and there are only mistakes: all of them.
pub fn documents(sources: &[Source<'_>]) -> Result<Parsed, Vec<Mistake>> {
    let mut parsed = Parsed::default();
    let mut mistakes = Vec::new();
    for source in sources {
        let reader = Reader::new(source.file);
        let nodes = tree::read(source, &reader);
        parsed.documents.extend(nodes.iter().filter_map(|node| document::read(&reader, node)));
        match reader.finish() {
            Ok(warnings) => parsed.warnings.extend(warnings),
            Err(more) => mistakes.extend(more),
        }
    }
    mistakes.extend(duplicates(&parsed.documents).into_values());
    if mistakes.is_empty() { Ok(parsed) } else { Err(mistakes) }
}

/// Reads one resource as Sync carries it. What is only worth a warning was said to the operator who applied
/// it.
pub fn resource_json(json: &[u8]) -> Result<Document, Vec<Mistake>> {
    let mut parsed = documents(&[Source { file: "resource", content: json }])?;
    match (parsed.documents.pop(), parsed.documents.is_empty()) {
        (Some(document), true) => Ok(document),
        _ => Err(vec![Mistake::unplaced("one resource is expected, not none or several")]),
    }
}

/// Joins documents to a set, or says at which field of which document they do not fit together.
pub fn set(documents: &[Document]) -> Result<Set, Vec<Mistake>> {
    let twice = duplicates(documents);
    let first =
        |(at, document): (usize, &Document)| (!twice.contains_key(&at)).then(|| document.resource.clone());
    let built = Set::build(documents.iter().enumerate().filter_map(first));
    if twice.is_empty()
        && let Ok(set) = built
    {
        return Ok(set);
    }
    let mut mistakes: Vec<Mistake> = twice.into_values().collect();
    for wrong in built.err().into_iter().flatten() {
        let document = documents.iter().find(|one| one.kind == wrong.kind && one.name == wrong.name);
        let place = document.map(|document| document.place_of(&wrong.path));
        let what = format!("{} (of {} {})", wrong.what, wrong.kind, wrong.name);
        mistakes.push(Mistake { place, path: wrong.path, what });
    }
    Err(mistakes)
}

/// Reads a file of settings: one map with no other names than `known`. Gives what `read` made of it and the
/// warnings, or every mistake. An empty file is a map without fields.
pub fn config<T>(
    source: &Source<'_>,
    known: &'static [&'static str],
    read: impl FnOnce(&Fields<'_>) -> Option<T>,
) -> Result<(T, Vec<Mistake>), Vec<Mistake>> {
    let reader = Reader::new(source.file);
    let nodes = tree::read(source, &reader);
    let nothing = Node { mark: Mark::START, value: Value::Map(Map::new()) };
    if let Some(second) = nodes.get(1) {
        reader.mistake(second.mark, "", "a second document starts here; settings are one document");
    }
    let fields = reader.root(nodes.first().unwrap_or(&nothing)).fields(known);
    let value = fields.and_then(|fields| read(&fields));
    let warnings = reader.finish()?;
    match value {
        Some(value) => Ok((value, warnings)),
        None => Err(vec![Mistake::unplaced(&format!("the settings of {} cannot be used", source.file))]),
    }
}

/// By index of the later one: resources declared twice, with both places.
fn duplicates(documents: &[Document]) -> BTreeMap<usize, Mistake> {
    let mut firsts: BTreeMap<(Kind, &Name), &Document> = BTreeMap::new();
    let mut twice = BTreeMap::new();
    for (at, document) in documents.iter().enumerate() {
        let Some(first) = firsts.get(&(document.kind, &document.name)) else {
            firsts.insert((document.kind, &document.name), document);
            continue;
        };
        let Place { file, line, column } = first.place_of("name");
        let (kind, name) = (document.kind, &document.name);
        let what =
            format!("{kind} {name} is declared twice, first at {file}:{line}:{column}; remove or rename one");
        let place = Some(document.place_of("name"));
        twice.insert(at, Mistake { place, path: "name".into(), what });
    }
    twice
}

impl Mistake {
    fn unplaced(what: &str) -> Mistake {
        Mistake { place: None, path: String::new(), what: what.into() }
    }
}
