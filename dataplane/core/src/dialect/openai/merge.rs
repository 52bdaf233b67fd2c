//! A stream's chunks as the one answer they amount to: for callers that want it whole from an adapter that
//! only streams. Reads trees, since such answers are small and such adapters few; nothing of it is on the
//! path of a relayed stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Chunks so far.
#[derive(Debug, Default)]
pub struct Merger {
    head: Map<String, Value>,
    choices: BTreeMap<u64, Choice>,
    usage: Option<Value>,
    /// Of the chunks, as they came.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Choice {
    message: Map<String, Value>,
    tool_calls: BTreeMap<u64, Map<String, Value>>,
    finish_reason: Value,
}

/// The answer is longer than is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Merger {
    /// One `chat.completion.chunk`. What is none adds nothing.
    pub fn on_chunk(&mut self, data: &[u8]) -> Result<(), TooLong> {
        self.bytes += data.len();
        if self.bytes > BYTES_MAX {
            return Err(TooLong);
        }
        let Ok(Value::Object(chunk)) = serde_json::from_slice(data) else { return Ok(()) };
        for (key, value) in chunk {
            match (key.as_str(), value) {
                ("choices", Value::Array(choices)) => {
                    choices.into_iter().for_each(|choice| self.on_choice(choice))
                }
                ("usage", usage @ Value::Object(_)) => self.usage = Some(usage),
                ("object" | "choices" | "usage", _) => {}
                (_, value) => drop(self.head.entry(key).or_insert(value)),
            }
        }
        Ok(())
    }

    fn on_choice(&mut self, choice: Value) {
        let Value::Object(mut choice) = choice else { return };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0).min(CHOICES_MAX);
        let own = self.choices.entry(index).or_default();
        if let Some(reason @ Value::String(_)) = choice.remove("finish_reason") {
            own.finish_reason = reason;
        }
        let Some(Value::Object(mut delta)) = choice.remove("delta") else { return };
        if let Some(Value::Array(calls)) = delta.remove("tool_calls") {
            for call in calls {
                let Value::Object(mut call) = call else { continue };
                let at = call.remove("index").and_then(|at| at.as_u64()).unwrap_or(0).min(CHOICES_MAX);
                join(own.tool_calls.entry(at).or_default(), call);
            }
        }
        join(&mut own.message, delta);
    }

    /// The whole answer.
    pub fn finish(self) -> Bytes {
        let choices: Vec<Value> = self
            .choices
            .into_iter()
            .map(|(index, choice)| {
                let mut message = choice.message;
                message.entry("role").or_insert(json!("assistant"));
                message.entry("content").or_insert(Value::Null);
                if !choice.tool_calls.is_empty() {
                    let calls = choice.tool_calls.into_values().map(Value::Object).collect();
                    message.insert("tool_calls".into(), Value::Array(calls));
                }
                json!({ "index": index, "message": message, "finish_reason": choice.finish_reason })
            })
            .collect();
        let mut whole = self.head;
        whole.insert("object".into(), json!("chat.completion"));
        whole.insert("choices".into(), Value::Array(choices));
        if let Some(usage) = self.usage {
            whole.insert("usage".into(), usage);
        }
        Value::Object(whole).to_string().into()
    }
}

/// Text grows, objects are joined, the rest is what came last; but names and ids stay what they were.
fn join(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (_, Value::Null) => {}
            (Some(Value::String(_)), Value::String(_)) if matches!(key.as_str(), "role" | "id" | "type") => {}
            (Some(Value::String(text)), Value::String(rest)) => text.push_str(&rest),
            (Some(Value::Object(own)), Value::Object(rest)) => join(own, rest),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Longer than any model writes at once.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Indexes beyond it are one.
const CHOICES_MAX: u64 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(chunks: &[&str]) -> Value {
        let mut merger = Merger::default();
        chunks.iter().for_each(|chunk| merger.on_chunk(chunk.as_bytes()).unwrap());
        serde_json::from_slice(&merger.finish()).unwrap()
    }

    #[test]
    fn pieces_of_text_and_of_tool_calls_are_one_answer() {
        let text = |index: u8, text: &str| {
            format!(r#"{{"id":"c{index}","choices":[{{"index":{index},"delta":{{"content":"{text}"}}}}]}}"#)
        };
        let call = |call: &str, end: &str| {
            format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,{call}}}]}}{end}}}]}}"#)
        };
        let begun = r#""id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\""}"#;
        let ended = r#""function":{"arguments":":1}"}"#;
        let whole = merged(&[
            &text(0, "he"),
            &text(0, "llo"),
            &text(1, "x"),
            &call(begun, ""),
            &call(ended, r#","finish_reason":"tool_calls""#),
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            "no json",
        ]);
        assert_eq!((&whole["id"], &whole["object"]), (&json!("c0"), &json!("chat.completion")));
        let first = &whole["choices"][0];
        assert_eq!(first["message"]["content"], "hello");
        assert_eq!(first["finish_reason"], "tool_calls");
        let call = &first["message"]["tool_calls"][0];
        assert_eq!(call["function"], json!({"name": "f", "arguments": "{\"a\":1}"}));
        assert_eq!((&call["id"], &call["type"]), (&json!("t1"), &json!("function")));
        assert_eq!(whole["choices"][1]["message"], json!({"role": "assistant", "content": "x"}));
        assert_eq!(whole["usage"]["completion_tokens"], 4);
    }

    #[test]
    fn an_answer_without_end_is_not_put_together() {
        let mut merger = Merger::default();
        let chunk = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(1 << 20));
        assert!((0..15).all(|_| merger.on_chunk(chunk.as_bytes()).is_ok()));
        assert_eq!(merger.on_chunk(chunk.as_bytes()), Err(TooLong));
    }
}
