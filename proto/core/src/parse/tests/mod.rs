//! What operators see of their mistakes, and that nothing they write can hurt.

mod adapter;
mod contract;
mod hostile;
mod property;
mod route;
mod scalar;
mod secrets;
mod set;
mod settings;
mod tenant;
mod tree;

use crate::model::Resource;
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

/// The one resource of a document of this kind, with the name `x`; `spec` is written in flow style on line 3.
fn resource(kind: &str, spec: &str) -> Resource {
    let mut parsed = read(&document(kind, spec)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    parsed.documents.remove(0).resource
}

/// A table of specs, each with its one mistake, which is at the `▲`.
fn each_has_its_one_mistake(kind: &str, table: &[(&str, &str)]) {
    for (marked, mistake) in table {
        let (before, after) = marked.split_once('▲').expect("a mark where the mistake is");
        let column = "spec: ".len() + before.chars().count() + 1;
        let content = document(kind, &format!("{before}{after}"));
        assert_eq!(mistakes(&content), [format!("f:3:{column}: {mistake}")], "{marked}");
    }
}

fn document(kind: &str, spec: &str) -> String {
    format!("kind: {kind}\nname: x\nspec: {spec}\n")
}
