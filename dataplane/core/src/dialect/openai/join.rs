//! Chunks of a stream that came together, told as one: those that differ in nothing but their text become the
//! first of them with the text of all. For ways where each piece costs a message of its own.
//!
//! Never joins what says more than text (a role that changes, a tool call, log probabilities, a finish
//! reason), never across such a chunk, and never waits for more: whoever has nothing further to push asks for
//! what is there.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The data of one event.
#[derive(Clone)]
pub struct Chunk {
    /// A JSON object.
    pub data: Bytes,
    /// Where its text stands in `data`, between the quotes; `None` where it has none.
    pub text: Option<Range<usize>>,
}

/// Joins what is pushed into it. Its `Debug` tells nothing of what was said.
#[derive(Default)]
pub struct Joiner {
    run: Option<Run>,
    form: Form,
}

/// Chunks that are one so far.
struct Run {
    first: Bytes,
    text: Range<usize>,
    /// All of it but its end, from the second on.
    joined: Vec<u8>,
}

/// What stands around the text of the chunks that were looked at last.
#[derive(Default)]
struct Form {
    before: Vec<u8>,
    after: Vec<u8>,
    may_join: bool,
}

impl Joiner {
    /// Takes the next chunk; what is complete with it goes to `out`.
    pub fn push(&mut self, chunk: Chunk, mut out: impl FnMut(Bytes)) {
        let Chunk { data, text } = chunk;
        let Some(text) = text else {
            self.flush(&mut out);
            return out(data);
        };
        if let Some(run) = &mut self.run {
            let said = &data[text.clone()];
            let is_alike = run.first[..run.text.start] == data[..text.start]
                && run.first[run.text.end..] == data[text.end..];
            let has_room = run.bytes() + said.len() <= JOINED_BYTES_MAX;
            if is_alike && has_room && self.form.may_join(&run.first, &run.text) {
                return run.add(said);
            }
            self.flush(&mut out);
        }
        self.run = Some(Run { first: data, text, joined: Vec::new() });
    }

    /// What was pushed and is not out.
    pub fn flush(&mut self, mut out: impl FnMut(Bytes)) {
        let Some(Run { first, text, mut joined }) = self.run.take() else { return };
        if joined.is_empty() {
            return out(first);
        }
        joined.extend_from_slice(&first[text.end..]);
        out(joined.into());
    }
}

impl Run {
    fn bytes(&self) -> usize {
        self.joined.len().max(self.text.end)
    }

    fn add(&mut self, said: &[u8]) {
        if self.joined.is_empty() {
            self.joined.reserve(self.first.len() + JOINED_BYTES);
            self.joined.extend_from_slice(&self.first[..self.text.end]);
        }
        self.joined.extend_from_slice(said);
    }
}

impl Form {
    /// Chunks of a stream are nearly always of one form: it is looked at once.
    fn may_join(&mut self, data: &[u8], text: &Range<usize>) -> bool {
        let (before, after) = (&data[..text.start], &data[text.end..]);
        if self.before != before || self.after != after {
            *self = Form { before: before.into(), after: after.into(), may_join: is_text_only(data) };
        }
        self.may_join
    }
}

impl fmt::Debug for Joiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.run.as_ref().map_or(0, Run::bytes);
        write!(f, "<{bytes} bytes>")
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.data.len())
    }
}

/// One choice, whose delta is text and nothing besides. Members that are unknown may be there where they are
/// empty; what they would say could not be joined.
fn is_text_only(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Told {
        choices: [Choice; 1],
        #[serde(default)]
        usage: Value,
    }
    #[derive(Deserialize)]
    struct Choice {
        #[serde(default, rename = "index")]
        _index: Value,
        delta: Delta,
        #[serde(flatten)]
        more: Map<String, Value>,
    }
    #[derive(Deserialize)]
    struct Delta {
        #[serde(rename = "content")]
        _content: String,
        #[serde(default, rename = "role")]
        _role: Value,
        #[serde(flatten)]
        more: Map<String, Value>,
    }
    let Ok(Told { choices: [choice], usage }) = serde_json::from_slice::<Told>(data) else { return false };
    usage.is_null() && choice.more.values().chain(choice.delta.more.values()).all(is_empty)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Of what becomes one: some thousand tokens, and a fraction of the credit of a stream.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;
/// Room for the text that follows, at first.
const JOINED_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::super::StreamReader;
    use super::*;

    fn events(each: &[&str]) -> Bytes {
        each.iter().fold(String::new(), |all, data| all + "data: " + data + "\n\n").into()
    }

    /// What becomes of chunks that come together.
    fn joined(each: &[&str]) -> Vec<String> {
        let (mut joiner, mut reader, mut out) = (Joiner::default(), StreamReader::new(false), Vec::new());
        reader.push_chunks(&events(each), |chunk| joiner.push(chunk, |data| out.push(data))).unwrap();
        joiner.flush(|data| out.push(data));
        assert_eq!(reader.progress().tokens_received, each.len() as u64, "each is counted");
        out.iter().map(|data| String::from_utf8(data.to_vec()).unwrap()).collect()
    }

    fn chunk(more: &str, text: &str) -> String {
        let delta = format!(r#"{{"content":"{text}"{more}}}"#);
        format!(r#"{{"id":"a","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
    }

    #[test]
    fn chunks_that_differ_in_their_text_alone_become_one() {
        let each = ["He", r#"l\"l"#, r"o \u00e9"].map(|text| chunk("", text));
        let whole = chunk("", r#"Hel\"lo \u00e9"#);
        assert_eq!(joined(&each.each_ref().map(String::as_str)), [whole]);
        let one = chunk("", "alone");
        let told = joined(&[&one]);
        assert_eq!(told, [one]);
    }

    #[test]
    fn what_says_more_than_text_is_joined_with_nothing() {
        for more in [
            r#","tool_calls":[{"index":0}]"#,
            r#","reasoning_content":"x""#,
            r#","token_ids":[7]"#,
            r#","unknown":7"#,
        ] {
            let said = chunk(more, "ha");
            assert_eq!(joined(&[&said, &said]), [said.clone(), said.clone()], "{more}");
        }
        for said in [
            r#"{"choices":[{"index":0,"delta":{"content":"ha"},"logprobs":{"content":[]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"ha"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"ha"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"ha"}},{"index":1,"delta":{"content":"ha"}}]}"#,
            r#"{"choices":[{"index":0,"text":"ha"}]}"#,
        ] {
            assert_eq!(joined(&[said, said]), [said, said]);
        }
        for empty in [r#","tool_calls":[],"refusal":null"#, r#","role":"assistant","reasoning":"""#] {
            let said = chunk(empty, "ha");
            assert_eq!(joined(&[&said, &said]), [chunk(empty, "haha")], "{empty}");
        }
    }

    #[test]
    fn nothing_is_joined_across_another_chunk() {
        let (a, b) = (chunk("", "a"), chunk("", "b"));
        let tool = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#;
        let other = a.replace(r#""id":"a""#, r#""id":"b""#);
        let (ab, ba) = (chunk("", "ab"), chunk("", "ba"));
        assert_eq!(joined(&[&a, &b, tool, &b, &a]), [&*ab, tool, &*ba]);
        assert_eq!(joined(&[&a, &other, &b]), [&*a, &*other, &*b]);
    }

    #[test]
    fn what_becomes_one_has_a_bound() {
        let before = chunk("", "").find(r#""},"#).unwrap();
        let long = chunk("", &"x".repeat(JOINED_BYTES_MAX - before - 1));
        let (fits, one_more) = (chunk("", "y"), chunk("", "z"));
        assert_eq!(joined(&[&long, &fits]).len(), 1);
        assert_eq!(joined(&[&long, &fits, &one_more]).len(), 2);
    }
}
