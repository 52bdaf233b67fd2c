//! A change as text: unified, in the YAML form operators write, one part per changed resource.

use std::fmt::Write;

use proto_core::parse::to_yaml;
use similar::TextDiff;

use crate::intent::{Change, Verb};
use crate::stored::Entry;

/// The text of every change; empty where nothing changes.
pub fn unified(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes.iter().filter(|change| change.verb() != Verb::Unchanged) {
        let (before, after) = (yaml(change.before.as_deref()), yaml(change.after.as_deref()));
        let name = format!("{}/{}", change.kind, change.name);
        let side = |side: &str, is_there: bool| {
            if is_there { format!("{side}/{name}") } else { "/dev/null".into() }
        };
        let (from, to) = (side("stored", change.before.is_some()), side("wanted", change.after.is_some()));
        let diff = TextDiff::from_lines(&before, &after);
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", diff.unified_diff().context_radius(CONTEXT_LINES).header(&from, &to));
    }
    text
}

fn yaml(entry: Option<&Entry>) -> String {
    entry.map(|entry| to_yaml(&entry.document.json)).unwrap_or_default()
}

/// As `diff -u` and `kubectl diff` show.
const CONTEXT_LINES: usize = 3;
