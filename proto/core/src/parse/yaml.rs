//! Block YAML for people, from canonical JSON. What it writes reads back as the same resource; it never
//! shortens, reorders lists or adds defaults.

use super::Source;
use super::fields::Reader;
use super::json::{write_scalar, write_text};
use super::scalar::{ScalarKind, resolve};
use super::tree::{self, Map, Node, Value};

/// One resource as block YAML, ending with a line break. JSON that is none comes back unchanged.
pub fn to_yaml(json: &str) -> String {
    let reader = Reader::new("");
    let nodes = tree::read(&Source { file: "", content: json.as_bytes() }, &reader);
    match nodes.as_slice() {
        [node] if reader.finish().is_ok() && names_are_short(node) => {
            let mut out = String::new();
            write_value(&mut out, node, Place::Top);
            out
        }
        _ => json.into(),
    }
}

/// Where a value is written, which decides what stands before it.
#[derive(Clone, Copy)]
enum Place {
    Top,
    /// Behind `name:`, at this indentation.
    Field(usize),
    /// Behind `- `, at this indentation.
    Element(usize),
}

fn write_value(out: &mut String, node: &Node, place: Place) {
    match &node.value {
        Value::Map(map) if !map.is_empty() => write_map(out, map, place),
        Value::List(items) if !items.is_empty() => write_list(out, items, place),
        value => {
            if matches!(place, Place::Field(_)) {
                out.push(' ');
            }
            match value {
                Value::Scalar(scalar) if scalar.kind == ScalarKind::Text => write_word(out, &scalar.text),
                Value::Scalar(scalar) => write_scalar(out, scalar),
                Value::List(_) => out.push_str("[]"),
                Value::Map(_) => out.push_str("{}"),
            }
            out.push('\n');
        }
    }
}

fn write_map(out: &mut String, map: &Map, place: Place) {
    let indent = match place {
        Place::Top => 0,
        Place::Field(outer) | Place::Element(outer) => outer + 2,
    };
    if matches!(place, Place::Field(_)) {
        out.push('\n');
    }
    let mut names: Vec<_> = map.keys().collect();
    names.sort_by_key(|name| FIRST.iter().position(|first| *first == &***name).unwrap_or(FIRST.len()));
    for (at, name) in names.into_iter().enumerate() {
        // The first field of an element stands on the line of its dash.
        if at > 0 || !matches!(place, Place::Element(_)) {
            indent_by(out, indent);
        }
        write_word(out, name);
        out.push(':');
        write_value(out, &map[name].node, Place::Field(indent));
    }
}

fn write_list(out: &mut String, items: &[Node], place: Place) {
    let indent = match place {
        Place::Top => 0,
        Place::Field(outer) | Place::Element(outer) => outer + 2,
    };
    if matches!(place, Place::Field(_)) {
        out.push('\n');
    }
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !matches!(place, Place::Element(_)) {
            indent_by(out, indent);
        }
        out.push_str("- ");
        write_value(out, item, Place::Element(indent));
    }
}

fn indent_by(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// Plain where nobody could read it as anything else, else in JSON's quotes, which YAML reads the same way.
fn write_word(out: &mut String, text: &str) {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:+@".contains(&byte);
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(inside)
        && !text.ends_with(':')
        && resolve(text) == ScalarKind::Text;
    if is_plain { out.push_str(text) } else { write_text(out, text) }
}

/// YAML reads a name of up to 1024 characters before its colon; resources have none that long.
fn names_are_short(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(_) => true,
        Value::List(items) => items.iter().all(names_are_short),
        Value::Map(map) => {
            map.iter().all(|(name, entry)| name.len() <= NAME_BYTES_MAX && names_are_short(&entry.node))
        }
    }
}

/// Each byte takes at most six characters when escaped.
const NAME_BYTES_MAX: usize = 1024 / 6 - 2;

/// What people look for first; the other names follow in alphabetical order.
const FIRST: [&str; 4] = ["kind", "name", "adapter", "model"];
