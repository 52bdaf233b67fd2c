//! The body as the upstream shall see it: the caller's own bytes, with the model's name as the upstream knows
//! it and, in a stream, the wish for a usage event. Nothing is copied: pieces are cut and mended.
//!
//! It never changes a key it does not know, and of those it knows only `model` and
//! `stream_options.include_usage`.

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::rope::Rope;
use super::scan::{Head, Profile, Span, StreamOptions, UsageFlag};

/// `body`, which `head` was read from, for an upstream that calls the model `model_json` (a JSON string,
/// quotes included). A stream always asks for usage, so that it can be billed; where [`Head::wants_usage`] is
/// false the relay drops that event from the answer.
pub fn for_upstream(body: &Rope, head: &Head, model_json: &Bytes) -> Rope {
    let mut edits: ArrayVec<Edit, 2> = ArrayVec::new();
    if let Some(model) = &head.model
        && !is_same_name(model.name.as_str(), model_json)
    {
        edits.push(Edit { span: model.span, with: model_json.clone() });
    }
    // Streams of Messages always tell usage.
    if head.stream
        && head.profile != Profile::Messages
        && let Some(edit) = ask_for_usage(head)
    {
        edits.push(edit);
    }
    edits.sort_unstable_by_key(|edit| edit.span.start);
    apply(body, &edits)
}

/// In place of `span`, `with`.
struct Edit {
    span: Span,
    with: Bytes,
}

fn ask_for_usage(head: &Head) -> Option<Edit> {
    let insert = |at: u64, with: &'static [u8]| {
        Some(Edit { span: Span { start: at, end: at }, with: Bytes::from_static(with) })
    };
    let replace = |span: Span, with: &'static [u8]| Some(Edit { span, with: Bytes::from_static(with) });
    match head.stream_options {
        StreamOptions::Absent if head.is_empty => {
            insert(head.inside, br#""stream_options":{"include_usage":true}"#)
        }
        StreamOptions::Absent => insert(head.inside, br#""stream_options":{"include_usage":true},"#),
        StreamOptions::Null(span) => replace(span, br#"{"include_usage":true}"#),
        StreamOptions::Object { include_usage: Some(UsageFlag { on: true, .. }), .. } => None,
        StreamOptions::Object { include_usage: Some(UsageFlag { span, .. }), .. } => replace(span, b"true"),
        StreamOptions::Object { span, is_empty: true, .. } => {
            insert(span.start + 1, br#""include_usage":true"#)
        }
        StreamOptions::Object { span, .. } => insert(span.start + 1, br#""include_usage":true,"#),
    }
}

/// `json` without its quotes says `name`. With an escape in it, it counts as different: replacing is always
/// right.
fn is_same_name(name: Option<&str>, json: &[u8]) -> bool {
    let inner = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match (name, inner) {
        (Some(name), Some(inner)) => name.as_bytes() == inner && !inner.contains(&b'\\'),
        _ => false,
    }
}

/// `edits` are in order and do not overlap.
fn apply(body: &Rope, edits: &[Edit]) -> Rope {
    let mut out = Rope::new();
    let mut edits = edits.iter().peekable();
    // Bytes of the body before the piece at hand, and how many of it are taken over or replaced.
    let (mut offset, mut done) = (0, 0);
    for piece in body.iter() {
        let end = offset + piece.len() as u64;
        while let Some(edit) = edits.next_if(|edit| edit.span.start < end) {
            let cut = Span { start: done, end: edit.span.start };
            push_part(&mut out, piece, offset, cut);
            out.push(edit.with.clone());
            done = edit.span.end;
        }
        push_part(&mut out, piece, offset, Span { start: done, end });
        offset = end;
    }
    out
}

/// The bytes of `span` that lie in `piece`, which begins at `offset`.
fn push_part(out: &mut Rope, piece: &Bytes, offset: u64, span: Span) {
    let from = span.start.max(offset) - offset;
    let to = (span.end.max(offset) - offset).min(piece.len() as u64);
    if from == 0 && to == piece.len() as u64 {
        out.push(piece.clone());
    } else if from < to {
        out.push(piece.slice(from as usize..to as usize));
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
