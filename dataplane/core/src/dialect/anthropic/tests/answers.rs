use serde_json::json;

use super::super::super::openai::BodyReader;
use super::super::super::words::Words;
use super::super::answer::{from_chat, to_chat};
use super::json;
use crate::bill::Usage;

const MESSAGE: &str = concat!(
    r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":["#,
    r#"{"type":"thinking","thinking":"Hm.","signature":"x"},{"type":"text","text":"One. "},"#,
    r#"{"type":"text","text":"Two."},"#,
    r#"{"type":"tool_use","id":"toolu_1","name":"look","input":{"b":1.0,"a":[1,2]}}],"#,
    r#""stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":4,"#,
    r#""cache_creation_input_tokens":null,"output_tokens":5}}"#,
);

#[test]
fn a_message_is_a_chat_completion_with_its_arguments_to_the_byte() {
    let chat = json(to_chat(MESSAGE.as_bytes(), 7).unwrap());
    let message = &chat["choices"][0]["message"];
    assert_eq!(message["content"], "One. Two.");
    assert_eq!(message["reasoning_content"], "Hm.");
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], r#"{"b":1.0,"a":[1,2]}"#);
    assert_eq!((&chat["choices"][0]["finish_reason"], &chat["created"]), (&json!("tool_calls"), &json!(7)));
    assert_eq!(
        (&chat["usage"]["prompt_tokens"], &chat["usage"]["completion_tokens"]),
        (&json!(7), &json!(5))
    );
}

#[test]
fn a_message_that_passes_as_it_is_is_billed_the_same_as_one_that_is_translated() {
    for (words, answer) in [
        (Words::Anthropic, MESSAGE.as_bytes().to_vec()),
        (Words::OpenAi, to_chat(MESSAGE.as_bytes(), 7).unwrap()),
    ] {
        let mut reader = BodyReader::of(words);
        answer.chunks(3).for_each(|piece| reader.push(piece));
        let answer = reader.end();
        let usage = Usage { input: 7, cached_input: 4, output: 5, ..Usage::default() };
        assert_eq!((answer.usage, answer.is_error, answer.is_sound), (Some(usage), false, true), "{words:?}");
    }
}

#[test]
fn a_chat_completion_is_a_message() {
    let chat = json!({
        "id": "c1", "object": "chat.completion", "model": "gpt-x",
        "choices": [{"index": 0, "finish_reason": "length", "message": {
            "role": "assistant", "content": "Hi \"you\"", "reasoning_content": "Hm.",
            "tool_calls": [{"id": "call_1", "type": "function",
                "function": {"name": "look", "arguments": " {\"n\": 1.0} "}},
                {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "oops"}}],
        }}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    });
    let usage = Usage { input: 10, cached_input: 4, output: 2, ..Usage::default() };
    let told = from_chat(chat.to_string().as_bytes(), 200, &usage, "r1").unwrap();
    assert!(String::from_utf8_lossy(&told).contains(r#""input":{"n": 1.0}"#));
    let message = json(told);
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&message["stop_reason"], &message["model"]), (&json!("max_tokens"), &json!("gpt-x")));
    let blocks: Vec<&str> =
        message["content"].as_array().unwrap().iter().filter_map(|block| block["type"].as_str()).collect();
    assert_eq!(blocks, ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(message["content"][3]["input"], json!({}), "what is no object is none there");
    assert_eq!(
        (&message["usage"]["input_tokens"], &message["usage"]["output_tokens"]),
        (&json!(6), &json!(2))
    );
}

#[test]
fn a_refusal_is_told_in_the_callers_shape_both_ways() {
    let refusal =
        r#"{"type":"error","error":{"type":"not_found_error","message":"no \"x\""},"request_id":"q"}"#;
    let want = json!({"error": {"message": "no \"x\"", "type": "invalid_request_error", "param": null,
        "code": "not_found_error"}});
    assert_eq!(json(to_chat(refusal.as_bytes(), 7).unwrap()), want);
    for error in [json!({"message": "no", "type": "t"}), json!("no")] {
        let chat = json!({ "error": error }).to_string();
        let told = json(from_chat(chat.as_bytes(), 404, &Usage::default(), "r1").unwrap());
        let error = json!({"type": "not_found_error", "message": "no"});
        assert_eq!(told, json!({"type": "error", "error": error, "request_id": "r1"}));
    }
}

#[test]
fn what_is_no_answer_of_either_is_left_as_it_is() {
    for odd in ["", "<html>", "[]", "{}", r#"{"type":"other"}"#, r#"{"choices":[]}"#] {
        assert_eq!(to_chat(odd.as_bytes(), 7), None, "{odd}");
        assert_eq!(from_chat(odd.as_bytes(), 200, &Usage::default(), ""), None, "{odd}");
    }
}
