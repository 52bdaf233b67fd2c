//! What every source file keeps to. Each check takes sources and gives a line for each breach, `path:line:
//! what`.

use crate::rust::{is_word, words};
use crate::sources::Source;

/// Files longer than [`FILE_LINES_MAX`].
pub fn long_files(sources: &[Source]) -> Vec<String> {
    let too_long = |source: &&Source| source.text.lines().count() > FILE_LINES_MAX;
    let breach = |source: &Source| {
        format!("{}: {} lines, at most {FILE_LINES_MAX}", source.path, source.text.lines().count())
    };
    sources.iter().filter(too_long).map(breach).collect()
}

/// Lines longer than [`LINE_CHARS_MAX`], except those that are one long address.
pub fn long_lines(sources: &[Source]) -> Vec<String> {
    each_line(sources, |_, line| {
        let chars = line.chars().count();
        let is_address = line.contains("https://") && !line.trim_start_matches(['/', '!', ' ']).contains(' ');
        (chars > LINE_CHARS_MAX && !is_address)
            .then(|| format!("{chars} characters, at most {LINE_CHARS_MAX}"))
    })
}

/// `unwrap()` in product code: `expect("the invariant")`, or an error.
pub fn unwraps(product: &[Source]) -> Vec<String> {
    each_line(product, |_, line| line.contains(".unwrap()").then(|| "unwrap() outside tests".into()))
}

/// `unsafe` outside the one room that may have it, or without a reason there. `product` is code, `sources`
/// the files as they are written.
pub fn unsafe_code(product: &[Source], sources: &[Source]) -> Vec<String> {
    each_line(product, |place, line| {
        if !words(line).any(|word| word == "unsafe") {
            return None;
        }
        if !place.path.starts_with(UNSAFE_ROOM) {
            return Some(format!("unsafe outside {UNSAFE_ROOM}"));
        }
        let explained = is_explained(sources, place, |comment| comment.contains("SAFETY:"));
        (!explained).then(|| "unsafe without a SAFETY comment above it".into())
    })
}

/// Clocks, the runtime and output in the rooms that decide or remember: all of it is an argument or a value
/// there.
pub fn impure(product: &[Source]) -> Vec<String> {
    each_line(product, |place, line| {
        if !PURE_ROOMS.iter().any(|room| place.path.starts_with(room)) {
            return None;
        }
        let word = words(line).find(|word| IMPURE_WORDS.contains(word));
        let print = IMPURE_MACROS.iter().find(|name| calls(line, name));
        word.or(print.copied()).map(|what| format!("{what} in a pure room"))
    })
}

/// Orderings of atomics without a comment that says what they order.
pub fn unexplained_orderings(product: &[Source], sources: &[Source]) -> Vec<String> {
    each_line(product, |place, line| {
        if !place.path.starts_with(UNSAFE_ROOM) || line.trim_start().starts_with("use ") {
            return None;
        }
        let ordering = words(line).find(|word| ORDERINGS.contains(word))?;
        let explained = is_explained(sources, place, |comment| comment.to_lowercase().contains("order"));
        (!explained).then(|| format!("{ordering} without a comment near it that says what it orders"))
    })
}

struct Place<'a> {
    path: &'a str,
    /// From 0.
    line: usize,
}

fn each_line(sources: &[Source], mut check: impl FnMut(&Place<'_>, &str) -> Option<String>) -> Vec<String> {
    let mut breaches = Vec::new();
    for Source { path, text } in sources {
        for (line, content) in text.lines().enumerate() {
            if let Some(what) = check(&Place { path, line }, content) {
                breaches.push(format!("{path}:{}: {what}", line + 1));
            }
        }
    }
    breaches
}

/// Whether a comment on the line or within [`COMMENT_LINES_MAX`] above it says so.
fn is_explained(sources: &[Source], place: &Place<'_>, says: impl Fn(&str) -> bool) -> bool {
    let Some(source) = sources.iter().find(|source| source.path == place.path) else { return false };
    let first = place.line.saturating_sub(COMMENT_LINES_MAX);
    let near = source.text.lines().skip(first).take(place.line - first + 1);
    near.filter_map(|line| line.split_once("//")).any(|(_, comment)| says(comment))
}

/// Whether a line of code calls the macro: `name!`, not `other_name!`.
fn calls(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        line[at + name.len()..].starts_with('!') && !before.is_some_and(is_word)
    })
}

/// A file past it holds more than one thing.
const FILE_LINES_MAX: usize = 600;

/// rustfmt.toml's max_width, which does not reach comments and text.
const LINE_CHARS_MAX: usize = 110;

/// A comment further up speaks of something else.
const COMMENT_LINES_MAX: usize = 6;

const UNSAFE_ROOM: &str = "dataplane/state/";

const PURE_ROOMS: [&str; 5] = [
    "proto/core/src/",
    "dataplane/core/src/",
    "dataplane/state/src/",
    "controlplane/core/src/",
    "memory/core/src/",
];

const IMPURE_WORDS: [&str; 3] = ["tokio", "Instant", "SystemTime"];

const IMPURE_MACROS: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> [Source; 1] {
        [Source { path: path.into(), text: text.into() }]
    }

    #[test]
    fn a_file_of_600_lines_passes_and_one_of_601_does_not() {
        assert_eq!(long_files(&source("a.rs", &"x\n".repeat(600))), [""; 0]);
        assert_eq!(long_files(&source("a.rs", &"x\n".repeat(601))), ["a.rs: 601 lines, at most 600"]);
    }

    #[test]
    fn a_line_of_110_characters_passes_and_one_of_111_does_not() {
        assert_eq!(long_lines(&source("a.rs", &format!("//{}\n", "ü".repeat(108)))), [""; 0]);
        let long = source("a.rs", &format!("x\n//{}\n", "ü".repeat(109)));
        assert_eq!(long_lines(&long), ["a.rs:2: 111 characters, at most 110"]);
        let address = source("a.rs", &format!("/// https://{}\n", "x".repeat(120)));
        assert_eq!(long_lines(&address), [""; 0]);
        let more = source("a.rs", &format!("/// see https://{}\n", "x".repeat(120)));
        assert_eq!(long_lines(&more).len(), 1);
    }

    #[test]
    fn unwrap_is_found_and_its_relatives_are_not() {
        assert_eq!(unwraps(&source("a.rs", "a.unwrap_or(b);\nc\n    .unwrap();")).len(), 1);
        assert_eq!(unwraps(&source("a.rs", "a.expect(b).unwrap_err()")), [""; 0]);
    }

    #[test]
    fn unsafe_is_found_outside_its_room_and_without_its_reason() {
        let elsewhere = source("dataplane/io/src/a.rs", "fn a() { unsafe { b() } }");
        assert_eq!(
            unsafe_code(&elsewhere, &elsewhere),
            ["dataplane/io/src/a.rs:1: unsafe outside dataplane/state/"]
        );
        let allow = source("dataplane/io/src/a.rs", "#![forbid(unsafe_code)]");
        assert_eq!(unsafe_code(&allow, &allow), [""; 0]);
        let explained = source("dataplane/state/src/a.rs", "// SAFETY: one writer\nunsafe { b() }");
        let bare = source("dataplane/state/src/a.rs", "\nunsafe { b() }");
        assert_eq!(unsafe_code(&bare, &explained), [""; 0]);
        assert_eq!(unsafe_code(&bare, &bare).len(), 1);
    }

    #[test]
    fn clocks_runtime_and_output_are_found_in_pure_rooms_only() {
        for line in ["use tokio::sync;", "let a = std::time::Instant::now();", "println!(x);", "a; dbg!(b)"] {
            assert_eq!(impure(&source("proto/core/src/a.rs", line)).len(), 1, "{line}");
            assert_eq!(impure(&source("dataplane/io/src/a.rs", line)), [""; 0], "{line}");
        }
        for line in ["let instant = Moment(0);", "my_println!(x)", "writeln!(out, x)", "let println = 1;"] {
            assert_eq!(impure(&source("proto/core/src/a.rs", line)), [""; 0], "{line}");
        }
    }

    #[test]
    fn an_ordering_needs_a_comment_about_order_within_six_lines() {
        let code = |blank_lines: usize| format!("\n{}a.load(Ordering::Relaxed);", "\n".repeat(blank_lines));
        let text = |blank_lines: usize, comment: &str| {
            let after = "\n".repeat(blank_lines);
            source("dataplane/state/src/a.rs", &format!("// {comment}\n{after}a.load(Ordering::Relaxed);"))
        };
        let found = |blank_lines: usize, comment: &str| {
            let product = source("dataplane/state/src/a.rs", &code(blank_lines));
            unexplained_orderings(&product, &text(blank_lines, comment)).len()
        };
        assert_eq!(found(0, "Order: relaxed, a count guards nothing."), 0);
        assert_eq!(found(5, "orders the write before it"), 0);
        assert_eq!(found(6, "orders the write before it"), 1);
        assert_eq!(found(0, "a count"), 1);
        let import = source("dataplane/state/src/a.rs", "use std::sync::atomic::Ordering::Relaxed;");
        assert_eq!(unexplained_orderings(&import, &import), [""; 0]);
    }
}
