//! What a request asks for, read from its body in either dialect.
//!
//! What it is for: the few fields that shape an answer. It never copies the messages: their raw length gives
//! the prompt tokens, and only tools or `echo` make it look inside.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One request body; fields that do not shape the answer are skipped.
#[derive(Deserialize)]
pub(crate) struct Ask<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Cow<'a, str>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    /// Anthropic's.
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) input: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) dimensions: Option<u32>,
    #[serde(borrow, default)]
    pub(crate) encoding_format: Option<&'a str>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(default)]
    function: Option<Function>,
    /// Where Anthropic's tools have it.
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

impl Message {
    /// It tells what a tool said.
    fn is_result(&self) -> bool {
        let parts = match &self.content {
            Some(Content::Parts(parts)) => parts.as_slice(),
            _ => &[],
        };
        self.role == "tool" || parts.iter().any(|part| part.kind == "tool_result")
    }
}

impl<'a> Ask<'a> {
    /// The error is the text of the 400 that answers it.
    pub(crate) fn read(body: &'a [u8]) -> Result<Ask<'a>, String> {
        let ask: Ask<'a> = serde_json::from_slice(body).map_err(|e| format!("request body: {e}"))?;
        if ask.model.is_empty() {
            return Err("request body: `model` is missing or empty; name a model".into());
        }
        if ask.n.is_some_and(|n| n == 0 || n > CHOICES_MAX) {
            return Err(format!("request body: `n` must be 1..{CHOICES_MAX}"));
        }
        Ok(ask)
    }

    pub(crate) fn choices(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    pub(crate) fn tokens_allowed(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// A token for every four bytes begun of the raw prompt: deterministic, near what tokenizers give for
    /// English.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let raw = self.messages.or(self.prompt).or(self.input);
        raw.map_or(0, |raw| raw.get().len().div_ceil(4) as u64) + self.system_tokens()
    }

    fn system_tokens(&self) -> u64 {
        self.system.map_or(0, |raw| raw.get().len().div_ceil(4) as u64)
    }

    /// Of those, what the client wants kept in a cache.
    pub(crate) fn cache_tokens(&self) -> u64 {
        let is_kept = self.system.is_some_and(|system| system.get().contains("\"cache_control\""));
        if is_kept { self.system_tokens() } else { 0 }
    }

    /// The function to call: the first one offered, unless the client forbids tools or has just answered a
    /// call.
    pub(crate) fn tool(&self) -> Option<String> {
        let tools: Vec<Tool> = serde_json::from_str(self.tools?.get()).ok()?;
        let forbidden =
            self.tool_choice.is_some_and(|choice| matches!(choice.get(), "\"none\"" | r#"{"type":"none"}"#));
        let answered = || self.messages().last().is_some_and(Message::is_result);
        let first = tools.into_iter().next()?;
        let name = first.function.map(|function| function.name).or(first.name)?;
        (!forbidden && !answered()).then_some(name)
    }

    /// The text that `echo` repeats: the prompt, or the last message.
    pub(crate) fn last_text(&self) -> String {
        if let Some(prompt) = self.prompt {
            return serde_json::from_str(prompt.get()).unwrap_or_else(|_| prompt.get().to_owned());
        }
        match self.messages().pop().and_then(|message| message.content) {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts.into_iter().map(|part| part.text).collect(),
            None => String::new(),
        }
    }

    /// How many texts an embeddings request holds: an array of strings or of token arrays is many, the rest
    /// one.
    pub(crate) fn inputs(&self) -> usize {
        let Some(input) = self.input else { return 1 };
        match serde_json::from_str::<serde_json::Value>(input.get()) {
            Ok(serde_json::Value::Array(items)) if !items.iter().all(serde_json::Value::is_number) => {
                items.len()
            }
            _ => 1,
        }
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

/// The dialect's own bound.
const CHOICES_MAX: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_model_or_with_too_many_choices_is_refused() {
        assert!(Ask::read(b"{}").err().unwrap().contains("`model`"));
        assert!(Ask::read(b"{").is_err());
        assert!(Ask::read(br#"{"model":"m","n":129}"#).is_err());
        assert_eq!(Ask::read(br#"{"model":"m","n":128}"#).ok().unwrap().choices(), 128);
    }

    #[test]
    fn a_tool_is_called_unless_forbidden_or_just_answered() {
        let tools = r#""tools":[{"type":"function","function":{"name":"weather"}}]"#;
        let tool =
            |rest: &str| Ask::read(format!(r#"{{"model":"m",{rest}}}"#).as_bytes()).ok().unwrap().tool();
        assert_eq!(tool(tools).as_deref(), Some("weather"));
        assert_eq!(tool(&format!(r#"{tools},"tool_choice":"none""#)), None);
        assert_eq!(tool(&format!(r#"{tools},"messages":[{{"role":"tool","content":"12 C"}}]"#)), None);
        assert_eq!(tool(r#""tools":[]"#), None);
    }

    #[test]
    fn the_last_text_is_read_from_every_form_of_content() {
        let text = |body: &str| Ask::read(body.as_bytes()).ok().unwrap().last_text();
        assert_eq!(text(r#"{"model":"m","prompt":"hello"}"#), "hello");
        assert_eq!(text(r#"{"model":"m","messages":[{"role":"user","content":"a\nb"}]}"#), "a\nb");
        let parts = r#"{"model":"m","messages":[{"content":[{"type":"text","text":"x"},{"text":"y"}]}]}"#;
        assert_eq!(text(parts), "xy");
    }

    #[test]
    fn an_array_of_strings_is_many_inputs_and_of_numbers_one() {
        let inputs = |input: &str| {
            Ask::read(format!(r#"{{"model":"m","input":{input}}}"#).as_bytes()).ok().unwrap().inputs()
        };
        assert_eq!(
            (inputs(r#""a""#), inputs(r#"["a","b"]"#), inputs("[1,2,3]"), inputs("[[1],[2]]")),
            (1, 2, 1, 2)
        );
    }
}
