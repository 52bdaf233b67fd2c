//! Documents to model, every mistake at once, each with its file, line, column and path.
//!
//! The ONE parser of operators' documents: `atp ctl`, the control plane, file mode and Sync all come through here
//! (JSON is read as the subset of YAML it is). It never reads a file: bytes come in, values or mistakes go out.

use std::fmt;
use std::sync::Arc;

use crate::model::{Kind, Name, Resource, Set};

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

/// One resource as it was written and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub kind: Kind,
    pub name: Name,
    pub place: Place,
    /// The whole document as canonical JSON: keys sorted by bytes, no blanks. Reading it again gives the same resource.
    pub json: String,
    pub resource: Resource,
}

/// Documents that are right, one by one, and what should be known about them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    pub documents: Vec<Document>,
    /// Accepted, but not all of it has an effect in this version: says which and why.
    pub warnings: Vec<Mistake>,
}
