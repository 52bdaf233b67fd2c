//! Anthropic's Messages: requests and answers in the words of OpenAI's chat completions and back, whole or
//! event by event; and what billing needs of an answer that passes as it is.
//!
//! Translated is read whole, since there the order of things differs: a system prompt is no message, results
//! of tools are the user's. What one side cannot say is refused where leaving it out would change what is
//! asked (several answers, tools that run at the provider), and left out where it only tunes it (`top_k`, how
//! long to think). Thinking passes as `reasoning_content`, and is left out of what was said before: its
//! signature is the provider's own.
//!
//! | Messages | chat completions |
//! |---|---|
//! | `system` | messages of `system` and `developer`, put first |
//! | blocks `text`, `image`, `document` | parts `text`, `image_url`, `file` |
//! | `tool_use`, `input` | `tool_calls`, `arguments` |
//! | `tool_result` | messages of `tool`, put before what else the user says |
//! | `tool_choice` `auto`, `any`, `tool`, `none` | `auto`, `required`, a function, `none` |
//! | `disable_parallel_tool_use` | `parallel_tool_calls`, turned round |
//! | `stop_sequences`, `max_tokens`, `metadata.user_id` | `stop`, `max_completion_tokens`, `user` |
//! | `output_config.format` | `response_format` of `json_schema` |
//! | `end_turn`, `max_tokens`, `tool_use`, `refusal` | `stop`, `length`, `tool_calls`, `content_filter` |

pub mod answer;
mod chunks;
mod events;
mod reading;
pub mod request;
mod write;

#[cfg(test)]
mod tests;

pub use self::chunks::ToChunks;
pub use self::events::ToEvents;
pub(super) use self::reading::{Reading, What};

use serde::Deserialize;

use super::json::put;
use crate::bill::Usage;
use crate::fault::{Fault, Kind, Retry};

/// Anthropic's counts, as they stand in `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    /// Neither read from the cache nor written to it.
    pub input_tokens: Option<u64>,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_creation_input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputDetails {
    pub thinking_tokens: Option<u64>,
}

impl Counts {
    /// Counts that came later replace those they name: they are sums, not differences.
    pub fn update(&mut self, later: Counts) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// As it is billed; `None` where nothing was told, or what nobody can have used.
    pub fn usage(&self) -> Option<Usage> {
        let plain = self.input_tokens?;
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let output = self.output_tokens.unwrap_or(0);
        let thought = self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0);
        let all = [plain, read, written, output, thought];
        if all.into_iter().any(|count| count > super::openai::COUNT_MAX) {
            return None;
        }
        Some(Usage {
            input: plain + read + written,
            cached_input: read,
            cache_write: written,
            output,
            reasoning: thought,
            estimated: false,
        })
    }
}

/// As chat completions say it.
fn chat_usage(usage: &Usage, out: &mut Vec<u8>) {
    let Usage { input, cached_input, cache_write, output, reasoning, .. } = *usage;
    put!(out, r#"{{"prompt_tokens":{input},"completion_tokens":{output},"#);
    put!(out, r#""total_tokens":{},"prompt_tokens_details":{{"#, input.saturating_add(output));
    put!(out, r#""cached_tokens":{cached_input},"cache_write_tokens":{cache_write}}},"#);
    put!(out, r#""completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}"#);
}

/// As Messages say it.
fn message_usage(usage: &Usage, out: &mut Vec<u8>) {
    let Usage { input, cached_input, cache_write, output, .. } = *usage;
    let plain = input.saturating_sub(cached_input).saturating_sub(cache_write);
    put!(out, r#"{{"input_tokens":{plain},"cache_creation_input_tokens":{cache_write},"#);
    put!(out, r#""cache_read_input_tokens":{cached_input},"output_tokens":{output}}}"#);
}

/// `stop_reason` as a chat completion's `finish_reason`.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
}

/// `finish_reason` as a message's `stop_reason`.
fn stop_reason(finish_reason: &str) -> &'static str {
    match finish_reason {
        "length" => "max_tokens",
        "tool_calls" | "function_call" => "tool_use",
        "content_filter" => "refusal",
        _ => "end_turn",
    }
}

/// Not what these words say.
#[cold]
fn garbled() -> Fault {
    Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost)
}
