//! The built-in adapter: answers with the words it was sent, in OpenAI's shapes, at a pace that can be set.
//! It makes a first start useful without a model server, and tests repeatable: the same request, the same
//! answer, to the byte.
//!
//! A token is a word here. It is a model server, not a proxy: unlike the path it reads whole bodies.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use proto_core::model::EchoSpeed;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Answer, Call, Path, UpstreamBody};

#[derive(Debug)]
pub struct Echo {
    speed: EchoSpeed,
}

/// An answer in pieces, each with its time.
#[derive(Debug)]
pub struct EchoBody {
    pieces: VecDeque<Bytes>,
    /// Before the first piece, then between two.
    wait: Duration,
    pace: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    length: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    model: String,
    messages: Vec<Message>,
    prompt: Value,
    input: Value,
    stream: bool,
    stream_options: Option<Options>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    role: String,
    content: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    include_usage: bool,
}

impl Echo {
    pub fn new(speed: EchoSpeed) -> Echo {
        Echo { speed }
    }

    pub fn answer(&self, call: Call) -> Answer {
        let whole = joined(call.body);
        match serde_json::from_slice::<Asked>(&whole) {
            Ok(asked) => self.speak(call.path, &asked),
            Err(error) => {
                let message = format!("the request does not read as one: {error}");
                let kind = "invalid_request_error";
                let body = json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
                self.whole(StatusCode::BAD_REQUEST, &body)
            }
        }
    }

    fn speak(&self, path: Path, asked: &Asked) -> Answer {
        if path == Path::Embeddings && asked.input.as_array().is_some_and(|inputs| inputs.len() > INPUTS_MAX)
        {
            let message = format!("at most {INPUTS_MAX} inputs are taken at once");
            let error =
                json!({"message": message, "type": "invalid_request_error", "param": "input", "code": null});
            return self.whole(StatusCode::BAD_REQUEST, &json!({ "error": error }));
        }
        if path == Path::Embeddings {
            return self.whole(StatusCode::OK, &embeddings(asked));
        }
        let told = asked.told(path);
        let most = asked.max_completion_tokens.or(asked.max_tokens).unwrap_or(WORDS_MAX).min(WORDS_MAX);
        let mut words: Vec<&str> = told.split_whitespace().collect();
        let is_cut = words.len() as u64 > most;
        words.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let reply = Reply {
            path,
            model: &asked.model,
            finish: if is_cut { "length" } else { "stop" },
            input: asked.words(path),
            words,
        };
        if asked.stream {
            let with_usage = asked.stream_options.as_ref().is_some_and(|options| options.include_usage);
            self.streamed(reply.events(with_usage))
        } else {
            self.whole(StatusCode::OK, &reply.whole())
        }
    }

    fn whole(&self, status: StatusCode, body: &Value) -> Answer {
        let text = Bytes::from(body.to_string());
        let length = text.len() as u64;
        let tokens = if self.speed.tokens_per_second > 0 { self.pace() } else { Duration::ZERO };
        let body = EchoBody {
            pieces: [text].into(),
            wait: self.speed.first_token + tokens,
            pace: Duration::ZERO,
            timer: None,
            is_waiting: false,
            length: Some(length),
        };
        answer(status, "application/json", body)
    }

    fn streamed(&self, pieces: VecDeque<Bytes>) -> Answer {
        let body = EchoBody {
            pieces,
            wait: self.speed.first_token,
            pace: self.pace(),
            timer: None,
            is_waiting: false,
            length: None,
        };
        answer(StatusCode::OK, "text/event-stream; charset=utf-8", body)
    }

    fn pace(&self) -> Duration {
        match self.speed.tokens_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: EchoBody) -> Answer {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Answer { status, headers, body: UpstreamBody::echo(body) }
}

impl EchoBody {
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.pieces.is_empty() {
            return Poll::Ready(None);
        }
        if self.wait > Duration::ZERO {
            let wait = self.wait;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
            if !self.is_waiting {
                self.is_waiting = true;
                timer.as_mut().reset(Instant::now() + wait);
            }
            ready!(timer.as_mut().poll(cx));
            self.is_waiting = false;
        }
        self.wait = self.pace;
        Poll::Ready(self.pieces.pop_front())
    }
}

struct Reply<'a> {
    path: Path,
    model: &'a str,
    words: Vec<&'a str>,
    finish: &'a str,
    input: u64,
}

impl Reply<'_> {
    fn id(&self) -> &'static str {
        if self.path == Path::ChatCompletions { "chatcmpl-echo" } else { "cmpl-echo" }
    }

    fn usage(&self) -> Value {
        let output = self.words.len() as u64;
        json!({"prompt_tokens": self.input, "completion_tokens": output, "total_tokens": self.input + output})
    }

    fn whole(&self) -> Value {
        let text = self.words.join(" ");
        let (object, choice) = if self.path == Path::ChatCompletions {
            let message = json!({"role": "assistant", "content": text});
            ("chat.completion", json!({"index": 0, "message": message, "finish_reason": self.finish}))
        } else {
            (
                "text_completion",
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": self.finish}),
            )
        };
        json!({
            "id": self.id(), "object": object, "created": CREATED, "model": self.model,
            "choices": [choice], "usage": self.usage(),
        })
    }

    fn events(&self, with_usage: bool) -> VecDeque<Bytes> {
        let is_chat = self.path == Path::ChatCompletions;
        let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
        let event = |choices: Value, usage: Value| {
            let mut event = json!({
                "id": self.id(), "object": object, "created": CREATED, "model": self.model,
                "choices": choices,
            });
            if with_usage {
                event["usage"] = usage;
            }
            Bytes::from(format!("data: {event}\n\n"))
        };
        let choice = |text: Option<&str>, finish: Value| {
            if is_chat {
                let delta = text.map_or(json!({}), |text| json!({"content": text}));
                json!([{"index": 0, "delta": delta, "finish_reason": finish}])
            } else {
                json!([{"index": 0, "text": text.unwrap_or(""), "finish_reason": finish}])
            }
        };
        let mut events: VecDeque<_> = self
            .words
            .iter()
            .enumerate()
            .map(|(at, word)| {
                let word = if at == 0 { (*word).into() } else { format!(" {word}") };
                event(choice(Some(&word), Value::Null), Value::Null)
            })
            .collect();
        events.push_back(event(choice(None, self.finish.into()), Value::Null));
        if with_usage {
            events.push_back(event(json!([]), self.usage()));
        }
        events.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}

impl Asked {
    /// What is echoed: the last user message, or the prompt.
    fn told(&self, path: Path) -> String {
        if path == Path::ChatCompletions {
            let user = self.messages.iter().rev().find(|message| message.role == "user");
            user.or(self.messages.last()).map(|message| text(&message.content)).unwrap_or_default()
        } else {
            text(&self.prompt)
        }
    }

    fn words(&self, path: Path) -> u64 {
        let count = |value: &Value| text(value).split_whitespace().count() as u64;
        match path {
            // Asked in the hub's words, it never sees the last two.
            Path::ChatCompletions | Path::Messages | Path::CountTokens => {
                self.messages.iter().map(|message| count(&message.content)).sum()
            }
            Path::Completions => count(&self.prompt),
            Path::Embeddings => count(&self.input),
        }
    }
}

/// Text of a content: a string, or the text parts of a list.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| part.get("text").map_or_else(|| text(part), text));
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// A small vector per input, the same for the same text: FNV-1a over its bytes, spread over eight dimensions.
fn embeddings(asked: &Asked) -> Value {
    let inputs: Vec<String> = match &asked.input {
        Value::Array(parts) => parts.iter().map(text).collect(),
        one => vec![text(one)],
    };
    let vector = |input: &String| -> Vec<f64> {
        let hash = input.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.to_be_bytes().iter().map(|byte| f64::from(*byte) / 128.0 - 1.0).collect()
    };
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| json!({"object": "embedding", "index": at, "embedding": vector(input)}))
        .collect();
    let tokens = asked.words(Path::Embeddings);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "data": data, "model": asked.model, "usage": usage})
}

fn joined(mut rope: Rope) -> Vec<u8> {
    let mut whole = Vec::with_capacity(usize::try_from(rope.len()).unwrap_or(0));
    while let Some(piece) = rope.pop_front() {
        whole.extend_from_slice(&piece);
    }
    whole
}

/// Of one answer: events are made before they are sent.
const WORDS_MAX: u64 = 10_000;
/// As OpenAI's own limit.
const INPUTS_MAX: usize = 2048;
/// Deterministic: an echo has no date of birth.
const CREATED: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Value) -> Asked {
        serde_json::from_value(body).unwrap()
    }

    fn events(body: Value) -> String {
        let asked = asked(body);
        let told = asked.told(Path::ChatCompletions);
        let reply = Reply {
            path: Path::ChatCompletions,
            model: "echo",
            words: told.split_whitespace().collect(),
            finish: "stop",
            input: asked.words(Path::ChatCompletions),
        };
        let events = reply.events(true);
        events.iter().map(|event| std::str::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn a_stream_says_the_last_user_message_word_by_word_then_why_it_ends_what_it_took_and_done() {
        let messages = json!([
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "no"},
            {"role": "user", "content": [
                {"type": "text", "text": "hello"}, {"type": "text", "text": "world"},
            ]},
        ]);
        let stream = events(json!({"messages": messages}));
        let found: Vec<_> = stream.split("\n\n").collect();
        assert_eq!(found.len(), 6);
        assert!(found[0].contains(r#""content":"hello""#) && found[1].contains(r#""content":" world""#));
        assert!(found[2].contains(r#""finish_reason":"stop""#));
        assert!(found[3].contains(r#""prompt_tokens":4"#) && found[3].contains(r#""completion_tokens":2"#));
        assert_eq!((found[4], found[5]), ("data: [DONE]", ""));
    }

    #[test]
    fn the_same_text_has_the_same_embedding() {
        let one = embeddings(&asked(json!({"input": ["a", "b", "a"]})));
        assert_eq!(one["data"][0]["embedding"], one["data"][2]["embedding"]);
        assert_ne!(one["data"][0]["embedding"], one["data"][1]["embedding"]);
    }
}
