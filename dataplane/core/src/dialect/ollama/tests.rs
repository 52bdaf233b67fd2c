//! Requests as Ollama takes them; golden answers, cut everywhere.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::bill::Usage;
use crate::dialect::openai::chunks::Chunks;
use crate::dialect::openai::merge::Merger;
use crate::dialect::openai::{StreamEnd, StreamReader};
use crate::dialect::rope::Rope;
use crate::fault::{Fault, Kind};

fn rendered(body: Value) -> Value {
    serde_json::from_slice(&render(body.to_string().as_bytes()).unwrap()).unwrap()
}

fn refused(body: Value) -> &'static str {
    match render(body.to_string().as_bytes()) {
        Err(Fault { kind: Kind::InvalidField(field, _), .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_keeps_its_meaning_in_ollamas_words() {
    let told = rendered(json!({
        "model": "llama3.1:8b", "stream": false, "max_tokens": 64, "temperature": 0.2, "top_p": 0.9,
        "seed": 7,
        "stop": "END", "frequency_penalty": 0.5, "user": "u", "keep_alive": "5m", "reasoning_effort": "low",
        "response_format": {"type": "json_object"}, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is"}, {"type": "text", "text": "this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ]},
        ],
    }));
    let options = json!({
        "num_predict": 64, "temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ["END"],
        "frequency_penalty": 0.5,
    });
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is\nthis?", "images": ["aGk="]},
    ]);
    let expected = json!({
        "model": "llama3.1:8b", "stream": false, "format": "json", "keep_alive": "5m", "think": "low",
        "options": options, "messages": messages,
    });
    assert_eq!(told, expected);
}

#[test]
fn a_conversation_with_tools_names_the_tool_each_result_is_of() {
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
    let call = json!({"id": "c1", "type": "function", "function": {
        "name": "weather", "arguments": "{\"city\":\"Oslo\"}",
    }});
    let told = rendered(json!({
        "model": "m", "tools": tools, "tool_choice": "auto", "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
    }));
    assert_eq!(told["tools"], tools);
    let calls = json!([{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]);
    assert_eq!(told["messages"][1], json!({"role": "assistant", "content": "", "tool_calls": calls}));
    let result = json!({"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1"});
    assert_eq!(told["messages"][2], result);
    let none = rendered(json!({"model": "m", "messages": [], "tools": tools, "tool_choice": "none"}));
    assert!(none.get("tools").is_none());
}

#[test]
fn a_schema_is_the_format_and_the_longer_name_of_a_limit_wins() {
    let schema = json!({"type": "object", "properties": {}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let told = rendered(json!({
        "model": "m", "messages": [], "response_format": format, "max_tokens": 1, "max_completion_tokens": 2,
        "stream": true,
        "options": {"num_ctx": 4096, "num_predict": 9}, "stop": ["a", "b"],
    }));
    assert_eq!((&told["format"], &told["stream"]), (&schema, &json!(true)));
    assert_eq!(told["options"], json!({"num_ctx": 4096, "num_predict": 2, "stop": ["a", "b"]}));
    let text = json!({"type": "text"});
    assert!(rendered(json!({"messages": [], "response_format": text})).get("format").is_none());
}

#[test]
fn what_ollama_cannot_do_is_refused_with_the_fields_name() {
    let with = |key: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": []});
        body[key] = value;
        refused(body)
    };
    assert_eq!(with("n", json!(2)), "n");
    assert_eq!(with("logprobs", json!(true)), "logprobs");
    assert_eq!(with("tool_choice", json!("required")), "tool_choice");
    assert_eq!(with("tool_choice", json!({"type": "function"})), "tool_choice");
    assert_eq!(with("messages", json!("hi")), "messages");
    assert_eq!(with("messages", json!(["hi"])), "messages[]");
    assert_eq!(with("messages", json!([{"content": "hi"}])), "messages[].role");
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]);
    assert_eq!(with("messages", image), "messages[].content[].image_url.url");
    let call = json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1"}}]}]);
    assert_eq!(with("messages", call), "messages[].tool_calls[].function.arguments");
    assert_eq!(with("response_format", json!({"type": "xml"})), "response_format.type");
}

#[derive(Debug, PartialEq)]
struct Outcome {
    sent: String,
    result: Result<(), Fault>,
}

fn read(answer: &str, cuts: &[usize]) -> Outcome {
    let mut lines = Lines::new(Chunks::new("chatcmpl-1", 5, "asked"));
    let (mut out, mut from) = (Rope::new(), 0);
    let mut result = Ok(());
    for &cut in cuts.iter().chain([&answer.len()]) {
        let piece = Bytes::copy_from_slice(&answer.as_bytes()[from..cut]);
        from = cut;
        result = result.and_then(|()| lines.push(&piece, &mut out));
    }
    let result = result.and_then(|()| lines.end(&mut out));
    let mut sent = Vec::new();
    out.iter().for_each(|piece| sent.extend_from_slice(piece));
    Outcome { sent: String::from_utf8(sent).unwrap(), result }
}

/// After making sure that every cut in two, and every byte on its own, gives the same.
fn read_all_ways(answer: &str) -> Outcome {
    let whole = read(answer, &[]);
    let every: Vec<usize> = (1..answer.len()).collect();
    for cuts in (0..answer.len()).map(|cut| vec![cut]).chain([every]) {
        assert_eq!(read(answer, &cuts), whole, "cuts {cuts:?}");
    }
    whole
}

/// How the path reads what was sent, and the answer put together.
fn understood(sent: &str) -> (StreamEnd, Option<Usage>, Value) {
    let (mut reader, mut merger) = (StreamReader::new(false), Merger::default());
    let piece = Bytes::copy_from_slice(sent.as_bytes());
    reader.push_data(&piece, |data| merger.on_chunk(&data).unwrap()).unwrap();
    assert_eq!(reader.progress().unread, 0, "{sent}");
    let end = reader.end(true);
    (end, reader.progress().usage, serde_json::from_slice(&merger.finish()).unwrap())
}

const TEXT: &str = concat!(
    r#"{"model":"llama3.1:8b","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","#,
    r#""content":"","thinking":"Hm. "},"done":false}"#,
    "\n",
    r#"{"model":"llama3.1:8b","message":{"role":"assistant","content":"Hel\"lo \u00e9"},"done":false}"#,
    "\r\n\n",
    r#"{"model":"llama3.1:8b","message":{"role":"assistant","content":" wörld\n"},"done":false}"#,
    "\n",
    r#"{"model":"llama3.1:8b","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"#,
    r#""total_duration":5,"prompt_eval_count":26,"eval_count":3}"#,
    "\n",
);

#[test]
fn an_answer_is_told_event_by_event_with_what_it_took_and_its_end() {
    let whole = read_all_ways(TEXT);
    assert_eq!(whole.result, Ok(()));
    assert!(whole.sent.ends_with("data: [DONE]\n\n"));
    let first = whole.sent.split("\n\n").next().unwrap();
    let expected = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"llama3.1:8b","#,
        r#""choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"Hm. "},"#,
        r#""finish_reason":null}]}"#,
    );
    assert_eq!(first, expected);
    let (end, usage, answer) = understood(&whole.sent);
    assert_eq!(end, StreamEnd::Complete);
    assert_eq!(usage, Some(Usage { input: 26, output: 3, ..Usage::default() }));
    assert_eq!(answer["choices"][0]["message"]["content"], "Hel\"lo é wörld\n");
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "Hm. ");
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["model"]),
        (&json!("stop"), &json!("llama3.1:8b"))
    );
}

#[test]
fn tool_calls_come_whole_with_ids_and_say_so_at_the_end() {
    let answer = concat!(
        r#"{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","#,
        r#""arguments":{"city":"Oslo"}}},{"id":"own","function":{"name":"time"}}]},"done":false}"#,
        "\n",
        r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}"#,
    );
    let (end, usage, answer) = understood(&read_all_ways(answer).sent);
    assert_eq!((end, usage), (StreamEnd::Complete, None));
    let calls = &answer["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["function"], json!({"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}));
    assert_eq!((&calls[0]["id"], &calls[1]["id"]), (&json!("call_1_0"), &json!("own")));
    assert_eq!(calls[1]["function"]["arguments"], "{}");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn an_answer_cut_short_says_so_and_one_that_is_not_done_never_ends() {
    let length = r#"{"message":{"content":"a"},"done":true,"done_reason":"length","eval_count":1}"#;
    let (_, usage, answer) = understood(&read_all_ways(length).sent);
    assert_eq!((usage, &answer["choices"][0]["finish_reason"]), (None, &json!("length")));
    let (end, ..) = understood(&read_all_ways("{\"message\":{\"content\":\"a\"},\"done\":false}\n").sent);
    assert_eq!(end, StreamEnd::Truncated);
    let after = format!("{length}\nno json at all\n");
    assert_eq!(read_all_ways(&after), read(length, &[]), "what comes after the end is nobody's");
}

#[test]
fn an_error_inside_the_stream_is_one_in_openais_words() {
    let sent =
        read_all_ways("{\"message\":{\"content\":\"a\"}}\n{\"error\":\"out of \\\"memory\\\"\"}\n").sent;
    let (end, ..) = understood(&sent);
    assert_eq!(end, StreamEnd::Errored);
    assert!(sent.contains(r#""message":"out of \"memory\"""#), "{sent}");
    assert!(!sent.contains("[DONE]"));
}

#[test]
fn a_refusal_is_read_as_text_whatever_shape_it_has() {
    assert_eq!(error_of(br#"{"error":"model 'x' not found"}"#), "model 'x' not found");
    assert_eq!(error_of(br#"{"error":{"message":"no"}}"#), "no");
    assert_eq!(error_of(br#"{"error":17}"#), "17");
    assert_eq!(error_of(b"404 page not found"), "404 page not found");
    assert_eq!(error_of(&[b'x'; 10_000]).len(), 4096);
}

#[test]
fn a_line_that_is_no_object_or_too_long_is_garbled() {
    for answer in ["<html>\n", "[1]\n", "{\"done\":\n", "{\"message\":{\"content\":1}}\n"] {
        assert_eq!(read_all_ways(answer).result.unwrap_err().kind, Kind::Garbled, "{answer}");
    }
    let line = |bytes: usize| {
        let empty = r#"{"message":{"content":""}}"#.len();
        format!("{{\"message\":{{\"content\":\"{}\"}}}}\n", "x".repeat(bytes - empty))
    };
    for cut in [1, 65_536] {
        assert_eq!(read(&line(LINE_BYTES_MAX), &[cut]).result, Ok(()));
        let longer = read(&line(LINE_BYTES_MAX + 1), &[cut]);
        assert_eq!(longer.result.unwrap_err().kind, Kind::Garbled);
    }
    assert_eq!(read(&line(LINE_BYTES_MAX + 1), &[]).result.unwrap_err().kind, Kind::Garbled);
}
