//! What operators see of their mistakes, and that nothing they write can hurt.

mod contract;
mod scalar;

use crate::parse::{Mistake, Parsed, Source, documents};

/// Reads one file named `f`.
fn read(content: &str) -> Result<Parsed, Vec<Mistake>> {
    documents(&[Source { file: "f", content: content.as_bytes() }])
}

/// The mistakes of one file named `f`, as they are shown.
fn mistakes(content: &str) -> Vec<String> {
    match read(content) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}
