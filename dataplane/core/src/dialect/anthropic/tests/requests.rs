use bytes::Bytes;
use serde_json::{Value, json};

use super::super::super::rope::Rope;
use super::super::request::{MAX_TOKENS_DEFAULT, from_chat, to_chat};
use super::json;
use crate::fault::{Fault, Kind};

/// Its body in two pieces.
fn rope(body: &Value) -> Rope {
    let bytes = Bytes::from(body.to_string());
    let half = bytes.len() / 2;
    [bytes.slice(..half), bytes.slice(half..)].into_iter().collect()
}

fn chat(body: Value) -> Result<Value, Fault> {
    to_chat(&rope(&body), &Bytes::from_static(b"\"up\"")).map(json)
}

fn messages(body: Value) -> Result<Value, Fault> {
    from_chat(&rope(&body)).map(json)
}

#[test]
fn a_request_of_messages_is_a_chat_completion_with_system_first_and_results_before_the_user() {
    let asked = json!({
        "model": "m", "max_tokens": 100, "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 3,
        "stop_sequences": ["END"], "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "Be \"brief\".", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be kind."}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Let me "}, {"type": "text", "text": "see."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"b": 1.5, "a": "x"}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "And?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}]},
                {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}]},
        ],
        "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
    });
    let want = json!({
        "model": "up", "stream": true, "stream_options": {"include_usage": true},
        "max_completion_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "user": "u",
        "messages": [
            {"role": "system", "content": "Be \"brief\".\n\nBe kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "t1", "type": "function",
                "function": {"name": "look", "arguments": "{\"a\":\"x\",\"b\":1.5}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "seen"}]},
            {"role": "user", "content": [{"type": "text", "text": "And?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://a/b.png"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "d",
            "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "required", "parallel_tool_calls": false,
    });
    assert_eq!(chat(asked).unwrap(), want);
}

#[test]
fn each_choice_of_tools_has_its_word_on_the_other_side() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let functions =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let one = json!({"type": "function", "function": {"name": "f"}});
    for (anthropic, openai) in [
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "any"}), json!("required")),
        (json!({"type": "none"}), json!("none")),
        (json!({"type": "tool", "name": "f"}), one),
    ] {
        let told = chat(json!({"messages": [], "tools": tools, "tool_choice": anthropic})).unwrap();
        assert_eq!(told["tool_choice"], openai);
        let back = messages(json!({"messages": [], "tools": functions, "tool_choice": openai})).unwrap();
        assert_eq!(back["tool_choice"], anthropic);
    }
    let alone = messages(json!({"messages": [], "tools": functions, "parallel_tool_calls": false})).unwrap();
    assert_eq!(alone["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
}

#[test]
fn a_chat_completion_is_a_request_of_messages_turn_by_turn() {
    let asked = json!({
        "model": "claude", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50,
        "temperature": 1.7, "stop": "END", "user": "u", "n": 1, "logit_bias": {},
        "response_format": {"type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": [{"type": "text", "text": "there"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
                {"type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"n\": 1}"}},
                {"id": "c2", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "go on"},
        ],
    });
    let want = json!({
        "model": "claude", "stream": true, "max_tokens": 50, "temperature": 1, "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                {"type": "document", "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"n": 1}},
                {"type": "tool_use", "id": "c2", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}]},
                {"type": "text", "text": "go on"}]},
        ],
    });
    assert_eq!(messages(asked).unwrap(), want);
}

#[test]
fn a_chat_completion_that_states_no_most_gets_one_and_the_newer_key_counts() {
    let most = |body: Value| messages(body).unwrap()["max_tokens"].clone();
    assert_eq!(most(json!({"messages": []})), MAX_TOKENS_DEFAULT);
    assert_eq!(most(json!({"messages": [], "max_tokens": 5})), 5);
    assert_eq!(most(json!({"messages": [], "max_tokens": 5, "max_completion_tokens": 6})), 6);
}

#[test]
fn what_cannot_be_said_on_the_other_side_is_refused_with_its_field() {
    let field = |outcome: Result<Value, Fault>| match outcome.unwrap_err().kind {
        Kind::InvalidField(field, _) => field,
        kind => panic!("{kind:?}"),
    };
    let user = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    assert_eq!(field(messages(json!({"messages": [], "n": 2}))), "n");
    assert_eq!(
        field(messages(json!({"messages": [], "response_format": {"type": "json_object"}}))),
        "response_format"
    );
    assert_eq!(field(messages(user(json!({"type": "input_audio", "input_audio": {}})))), "messages");
    assert_eq!(field(messages(user(json!({"type": "file", "file": {"file_id": "x"}})))), "messages");
    assert_eq!(field(messages(json!({"messages": [{"role": "function", "content": "x"}]}))), "messages");
    let arguments = json!({"id": "c", "function": {"name": "f", "arguments": "[1]"}});
    let said = json!({"messages": [{"role": "assistant", "tool_calls": [arguments]}]});
    assert_eq!(field(messages(said)), "messages");
    assert_eq!(field(messages(json!({"messages": [], "tools": [{"type": "custom"}]}))), "tools");
    let server = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    assert_eq!(field(chat(json!({"messages": [], "tools": server}))), "tools");
    assert_eq!(field(chat(user(json!({"type": "search_result"})))), "messages");
    assert_eq!(field(chat(json!({"messages": [{"role": "user", "content": 1}]}))), "messages");
    assert_eq!(field(chat(json!({"system": [{"type": "image"}], "messages": []}))), "system");
}

#[test]
fn numbers_keep_their_digits_and_objects_their_order() {
    let body = r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f",
        "input":{"z":1.0,"a":12345678901234567890123}}]}],
        "tools":[{"name":"f","input_schema":{"z":1e2,"a":1}}]}"#;
    let told =
        to_chat(&Rope::from(Bytes::from_static(body.as_bytes())), &Bytes::from_static(b"\"m\"")).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains(r#"{\"z\":1.0,\"a\":12345678901234567890123}"#), "{told}");
    assert!(told.contains(r#""parameters":{"z":1e2,"a":1}"#), "{told}");
}

#[test]
fn a_long_name_of_a_user_is_left_out_where_openai_would_refuse_it() {
    let user = |length: usize| {
        chat(json!({"messages": [], "metadata": {"user_id": "u".repeat(length)}})).unwrap()["user"].clone()
    };
    assert_eq!((user(64).is_string(), user(65)), (true, Value::Null));
}
