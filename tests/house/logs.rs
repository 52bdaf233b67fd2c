//! What log sites may say: fields of names on a list, each of which holds names, places and causes. What
//! callers say and who they prove to be has no name here, so it is handed to no log. (What a log is handed
//! all the same is redacted, `proto/core/src/logline`.)

use crate::sources::Source;

/// Fields of other names, and events of the logging library that do not name it (and would not be seen here).
pub fn unknown_fields(product: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in product {
        for level in LEVELS {
            for (at, _) in source.text.match_indices(&format!("{level}!(")) {
                let line = source.text[..at].matches('\n').count() + 1;
                let place = format!("{}:{line}", source.path);
                if !source.text[..at].ends_with("tracing::") {
                    breaches.push(format!("{place}: write tracing::{level}!(…)"));
                    continue;
                }
                let unknown =
                    fields(&source.text[at..]).into_iter().filter(|name| !FIELDS.contains(&&**name));
                breaches.extend(unknown.map(|name| format!("{place}: the field `{name}` is on no list")));
            }
        }
    }
    breaches
}

/// Names of the fields before the message. In code of which literals became blanks, that is the first
/// argument that is empty.
fn fields(code: &str) -> Vec<String> {
    let inside = code.split_once('(').map_or("", |(_, inside)| inside);
    let (mut depth, mut arguments) = (0u32, vec![String::new()]);
    for character in inside.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().expect("one at least").push(character);
    }
    let arguments = arguments.iter().map(|argument| argument.trim());
    let named = arguments.take_while(|argument| !argument.is_empty());
    named
        .map(|named| named.split('=').next().unwrap_or(named).trim().trim_start_matches(['%', '?']).into())
        .collect()
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const FIELDS: &[&str] = &[
    "adapter",
    "adapters",
    "address",
    "addresses",
    "bytes",
    "cert",
    "changed",
    "code",
    "delay_ms",
    "ended",
    "endpoint",
    "epoch",
    "error",
    "fault",
    "file",
    "first",
    "found",
    "generation",
    "grace_ms",
    "grpc",
    "host",
    "http",
    "jobs",
    "join",
    "kind",
    "left_out",
    "malformed",
    "mistakes",
    "mode",
    "name",
    "node",
    "number",
    "path",
    "reason",
    "reasons",
    "rejects",
    "routes",
    "seconds",
    "session",
    "stream",
    "tenant",
    "tenants",
    "uncut",
    "url",
    "version",
    "violation",
    "what",
    "why",
];

#[test]
fn a_field_that_is_on_no_list_is_found_however_it_is_written() {
    let told = |code: &str| {
        let text = crate::rust::code_of(code);
        unknown_fields(&[Source { path: "a.rs".into(), text }])
    };
    assert_eq!(told("tracing::warn!(%error, file = %path.display(), \"gone: {x}\", prompt);"), [""; 0]);
    assert_eq!(told("tracing::info!(\"clients: {}\", prompt.text);"), [""; 0]);
    for found in ["tracing::warn!(%prompt, \"x\")", "\ntracing::warn!(error, prompt = a(b, c), \"x\")"] {
        let told = told(found);
        assert!(told.len() == 1 && told[0].ends_with("the field `prompt` is on no list"), "{told:?}");
    }
    assert_eq!(told("use tracing::warn;\nwarn!(\"x\");"), ["a.rs:2: write tracing::warn!(…)"]);
}
