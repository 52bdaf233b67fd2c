//! A line of a log, as text or as JSON, of which secrets and prompts were taken out: by the name a field or a
//! part of a text has, and by the shape keys have. It is the last look before a line is written,
//! not the only one: what callers say is handed to no log in the first place. Writes nothing itself.

mod redact;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};

pub use self::redact::{REDACTED, redacted};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    #[default]
    Text,
    /// An object: `timestamp`, `level`, `message`, then the fields, `target` last.
    Json,
}

impl Shape {
    /// `text` or `json`.
    pub fn parse(text: &str) -> Option<Shape> {
        match text {
            "text" => Some(Shape::Text),
            "json" => Some(Shape::Json),
            _ => None,
        }
    }
}

/// What is said, redacted as it comes.
#[derive(Debug, Default)]
pub struct Line {
    message: String,
    fields: Vec<(&'static str, Value)>,
    left_out: usize,
}

#[derive(Debug)]
enum Value {
    Text(String),
    /// A number or a truth: JSON as it is.
    Plain(String),
}

impl Line {
    /// A field that may say anything; `message` is what the line says.
    pub fn text(&mut self, name: &'static str, value: &dyn fmt::Display) {
        let mut said = Cut { text: String::new(), left_out: 0 };
        // Whoever cannot say what it is has said as much as it could.
        let _ = write!(said, "{value}");
        let mut value = match redact::is_secret(name) {
            true => REDACTED.to_owned(),
            false => redacted(&said.text).into_owned(),
        };
        let at = value.floor_char_boundary(VALUE_BYTES_MAX);
        let left_out = value.len() - at + said.left_out;
        if left_out > 0 {
            value.truncate(at);
            let _ = write!(value, "… ({left_out} bytes more)");
        }
        match name {
            "message" => self.message = value,
            _ => self.push(name, Value::Text(value)),
        }
    }

    /// A field that is a number or a truth.
    pub fn plain(&mut self, name: &'static str, value: &dyn fmt::Display) {
        self.push(name, Value::Plain(value.to_string()));
    }

    fn push(&mut self, name: &'static str, value: Value) {
        match self.fields.len() < FIELDS_MAX {
            true => self.fields.push((name, value)),
            false => self.left_out += 1,
        }
    }

    /// The line without its end. `colour`: what the level is painted with, for people.
    pub fn write(&self, shape: Shape, about: &About<'_>, colour: Option<&str>) -> String {
        match shape {
            Shape::Text => self.as_text(about, colour),
            Shape::Json => self.as_json(about),
        }
    }

    fn as_text(&self, about: &About<'_>, colour: Option<&str>) -> String {
        let mut out = String::with_capacity(128);
        out.push_str(about.at);
        match colour {
            Some(colour) => drop(write!(out, " {colour}{:>5}\x1b[0m ", about.level)),
            None => drop(write!(out, " {:>5} ", about.level)),
        }
        visible(&self.message, &mut out);
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}=");
            match value {
                Value::Text(text) => visible(text, &mut out),
                Value::Plain(text) => out.push_str(text),
            }
        }
        if self.left_out > 0 {
            let _ = write!(out, " ({} fields more)", self.left_out);
        }
        out
    }

    fn as_json(&self, about: &About<'_>) -> String {
        let mut out = String::with_capacity(192);
        let mut start = '{';
        let mut text = |name: &str, value: &str, out: &mut String| {
            out.push(std::mem::replace(&mut start, ','));
            quoted(name, out);
            out.push(':');
            quoted(value, out);
        };
        text("timestamp", about.at, &mut out);
        text("level", about.level, &mut out);
        text("message", &self.message, &mut out);
        for (name, value) in &self.fields {
            match value {
                Value::Text(value) => text(name, value, &mut out),
                Value::Plain(value) => {
                    out.push(',');
                    quoted(name, &mut out);
                    out.push(':');
                    out.push_str(value);
                }
            }
        }
        if self.left_out > 0 {
            let _ = write!(out, ",\"fields_left_out\":{}", self.left_out);
        }
        text("target", about.target, &mut out);
        out.push('}');
        out
    }
}

/// Of whose doing a line tells, and when.
#[derive(Debug, Clone, Copy)]
pub struct About<'l> {
    pub at: &'l str,
    pub level: &'l str,
    pub target: &'l str,
}

impl About<'_> {
    /// Whether such a line may be written at all. Libraries tell at their lower levels what passes through
    /// them, whole messages included, and nobody can know where in it the secrets are.
    pub fn may_be_written(&self) -> bool {
        let is_ours = |own: &str| {
            let after = self.target.strip_prefix(own);
            after.is_some_and(|after| after.is_empty() || after.starts_with([':', '_']))
        };
        !matches!(self.level, "DEBUG" | "TRACE") || OURS.iter().any(|own| is_ours(own))
    }
}

/// Takes so much of a text and counts the rest.
struct Cut {
    text: String,
    left_out: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // More than is written, so that a key that stands across the end is still seen as one.
        let room = (VALUE_BYTES_MAX + KEY_BYTES).saturating_sub(self.text.len());
        let at = if self.left_out > 0 { 0 } else { text.floor_char_boundary(room) };
        self.text.push_str(&text[..at]);
        self.left_out += text.len() - at;
        Ok(())
    }
}

/// On one line, and without what a terminal would obey.
fn visible(text: &str, out: &mut String) {
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a text is JSON"));
}

/// Crates of this project, by how their names start.
const OURS: [&str; 8] = ["atp", "cli", "controlplane", "dataplane", "loadtest", "memory", "proto", "sdk"];
/// Of one value: a mistake of a file with its place, a chain of errors.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Of any key.
const KEY_BYTES: usize = 1024;
/// Of a line: twice what any of ours has.
pub const FIELDS_MAX: usize = 16;
