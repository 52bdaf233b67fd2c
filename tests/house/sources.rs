//! The files of the tree, and which of them are tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::rust;

/// One text file; its path is relative to the root, with `/`.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is one folder below the root")
        .to_owned()
}

/// Every text file of the tree with one of these endings, sorted.
pub fn all(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut |path| {
        let relative = path.strip_prefix(&root).expect("the walk stays below the root");
        let relative = relative.to_string_lossy().replace('\\', "/");
        if endings.iter().any(|ending| relative.ends_with(ending))
            && let Ok(text) = fs::read_to_string(path)
        {
            found.push(Source { path: relative, text });
        }
    });
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no files that end in {endings:?}: the walk is broken");
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.map(|entry| entry.expect("a folder being read stays readable")) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        // Links are not followed: they may leave the tree or lead back into it.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !SKIPPED.contains(&&*name) && (!name.starts_with('.') || name == ".ci") {
            walk(&path, visit);
        } else if kind.is_file() {
            visit(&path);
        }
    }
}

/// Built or fetched, not written.
const SKIPPED: [&str; 5] = ["target", "node_modules", "__pycache__", "corpus", "artifacts"];

/// The code of the product: no comments, no text in quotes, no tests. Files that are tests as a whole are
/// left out.
pub fn product_code(sources: &[Source]) -> Vec<Source> {
    let stripped: Vec<(&Source, String, Vec<String>)> = sources
        .iter()
        .filter(|source| source.is_rust() && !is_test_path(&source.path))
        .map(|source| {
            let (code, modules) = rust::without_tests(&rust::code_of(&source.text));
            (source, code, modules)
        })
        .collect();
    let of_tests: BTreeSet<String> = stripped
        .iter()
        .flat_map(|(source, _, modules)| modules.iter().map(|module| module_path(&source.path, module)))
        .collect();
    let is_of_tests = |path: &str| {
        let path = path.trim_end_matches(".rs");
        of_tests.iter().any(|module| path == module || path.starts_with(&format!("{module}/")))
    };
    stripped
        .into_iter()
        .filter(|(source, _, _)| !is_of_tests(&source.path))
        .map(|(source, code, _)| Source { path: source.path.clone(), text: code })
        .collect()
}

/// Where the module `name` that `parent` declares is, without an ending: `src/a/name`.
fn module_path(parent: &str, name: &str) -> String {
    let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    match file {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{folder}/{name}"),
        _ => format!("{folder}/{}/{name}", file.trim_end_matches(".rs")),
    }
}

fn is_test_path(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let is_named_so = file == "tests.rs" || file.ends_with("_tests.rs");
    is_named_so || path.starts_with("tests/") || path.starts_with("benches/") || path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn the_walk_finds_this_file_and_nothing_that_was_built() {
        let sources = all(&[".rs"]);
        assert!(sources.iter().any(|source| source.path == "tests/house/sources.rs"));
        assert!(sources.iter().all(|source| !source.path.contains("target/")));
    }

    #[test]
    fn files_of_tests_are_not_product_code() {
        let sources = [
            source("a/src/lib.rs", "#[cfg(test)]\nmod kit;\nmod b;\n"),
            source("a/src/kit.rs", "x"),
            source("a/src/kit/more.rs", "x"),
            source("a/src/b.rs", "#[cfg(test)]\nmod oracle;"),
            source("a/src/b/oracle.rs", "x"),
            source("a/src/oracle.rs", "x"),
            source("a/src/b/tests.rs", "x"),
            source("a/src/b/tests/one.rs", "x"),
            source("a/src/b/one_tests.rs", "x"),
            source("a/tests/models.rs", "x"),
            source("tests/kit/lib.rs", "x"),
            source("benches/share.rs", "x"),
            source("a/Cargo.toml", "x"),
        ];
        let left: Vec<String> = product_code(&sources).into_iter().map(|source| source.path).collect();
        assert_eq!(left, ["a/src/lib.rs", "a/src/b.rs", "a/src/oracle.rs"]);
    }
}
