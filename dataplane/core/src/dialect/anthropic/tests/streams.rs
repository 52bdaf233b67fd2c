use bytes::Bytes;
use serde_json::{Value, json};

use super::super::super::openai::merge::Merger;
use super::super::super::openai::{StreamEnd, StreamReader};
use super::super::super::rope::Rope;
use super::super::super::words::{Retelling, Words};
use super::super::ToEvents;
use super::{cuts, data, text};
use crate::bill::Usage;
use crate::fault::Kind;

/// Thinking, text and two calls of tools, one of them without arguments.
const MESSAGES: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","#,
    r#""model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"#,
    r#""cache_creation_input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"#,
    r#""content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\n",
    r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"It is \"té\n"}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"😀 so"}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\n",
    r#"data: {"type":"content_block_start","index":2,"#,
    r#""content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":2,"#,
    r#""delta":{"type":"input_json_delta","partial_json":"{\"at\": \"Kö"}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":2,"#,
    r#""delta":{"type":"input_json_delta","partial_json":"ln\", \"n\": 1.0}"}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: content_block_start\n",
    r#"data: {"type":"content_block_start","index":3,"#,
    r#""content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    "event: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"#,
    r#""usage":{"output_tokens":31,"output_tokens_details":{"thinking_tokens":4}}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const USAGE: Usage =
    Usage { input: 32, cached_input: 7, cache_write: 5, output: 31, reasoning: 4, estimated: false };

/// `pieces` told in the hub's words, and what ended it early.
fn chunks(pieces: &[Bytes]) -> (String, Option<Kind>) {
    let mut retelling = Retelling::new(Words::Anthropic, b"text/event-stream; charset=utf-8", 1_700_000_000);
    let mut out = Rope::new();
    for piece in pieces {
        if let Err(fault) = retelling.push(piece, &mut out) {
            return (text(&out), Some(fault.kind));
        }
    }
    retelling.end(&mut out);
    (text(&out), None)
}

#[test]
fn a_stream_of_messages_is_one_of_chunks_however_it_is_cut() {
    let (whole, _) = chunks(&[Bytes::from_static(MESSAGES.as_bytes())]);
    for newline in ["\n", "\r\n"] {
        for pieces in cuts(&MESSAGES.replace('\n', newline)) {
            assert_eq!(chunks(&pieces), (whole.clone(), None));
        }
    }
    assert!(whole.ends_with("data: [DONE]\n\n") && whole.contains(": ping\n\n"));
    let mut merger = Merger::default();
    let events = data(&whole);
    for chunk in &events[..events.len() - 1] {
        assert_eq!((&chunk["id"], &chunk["created"]), (&json!("msg_1"), &json!(1_700_000_000)));
        assert_eq!(
            (&chunk["object"], &chunk["model"]),
            (&json!("chat.completion.chunk"), &json!("claude-x"))
        );
        merger.on_chunk(chunk.to_string().as_bytes()).unwrap();
    }
    let answer: Value = serde_json::from_slice(&merger.finish()).unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let message = &choice["message"];
    assert_eq!((&message["role"], &message["content"]), (&json!("assistant"), &json!("It is \"té\n😀 so")));
    assert_eq!(message["reasoning_content"], "Hm.");
    let call = |id: &str, name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let calls = [call("toolu_1", "look", "{\"at\": \"Köln\", \"n\": 1.0}"), call("toolu_2", "now", "{}")];
    assert_eq!(message["tool_calls"], json!(calls));
    let details = json!({"cached_tokens": 7, "cache_write_tokens": 5});
    assert_eq!(answer["usage"]["prompt_tokens_details"], details);
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]),
        (&json!(32), &json!(63))
    );
}

#[test]
fn what_was_told_is_read_by_the_hub_as_complete_and_billed_to_the_token() {
    let (told, _) = chunks(&[Bytes::from_static(MESSAGES.as_bytes())]);
    let mut reader = StreamReader::new(true);
    let mut out = Rope::new();
    reader.push(&Bytes::from(told), &mut out).unwrap();
    assert_eq!((reader.end(true), reader.progress().usage), (StreamEnd::Complete, Some(USAGE)));
    assert!(!text(&out).contains("usage"), "nobody asked for it");
}

#[test]
fn a_stream_that_passes_as_it_is_is_read_the_same_however_it_is_cut() {
    for pieces in cuts(MESSAGES) {
        let mut reader = StreamReader::of(Words::Anthropic, true);
        let mut out = Rope::new();
        pieces.iter().for_each(|piece| reader.push(piece, &mut out).unwrap());
        assert_eq!(text(&out), MESSAGES);
        let progress = *reader.progress();
        assert_eq!((progress.usage, progress.tokens_received), (Some(USAGE), 7));
        assert_eq!(reader.end(true), StreamEnd::Complete);
    }
}

#[test]
fn a_stream_without_its_last_event_is_whole_only_where_it_said_why_it_stopped() {
    let stop = MESSAGES.find("event: message_stop").unwrap();
    let delta = MESSAGES.find("event: message_delta").unwrap();
    let end = |stream: &'static str| {
        let mut reader = StreamReader::of(Words::Anthropic, false);
        reader.push(&Bytes::from_static(stream.as_bytes()), &mut Rope::new()).unwrap();
        (reader.end(true), reader.last())
    };
    assert_eq!(end(&MESSAGES[..stop]).0, StreamEnd::CompleteWithoutDone);
    assert!(end(&MESSAGES[..stop]).1.starts_with(b"event: message_stop"));
    assert_eq!(end(&MESSAGES[..delta]).0, StreamEnd::Truncated);
    // The blank line after the last event is missing.
    assert_eq!(end(&MESSAGES[..MESSAGES.len() - 1]).0, StreamEnd::CompleteWithoutDone);
    let (told, _) = chunks(&[Bytes::from_static(&MESSAGES.as_bytes()[..MESSAGES.len() - 1])]);
    assert!(told.ends_with("data: [DONE]\n\n"));
    let (told, _) = chunks(&[Bytes::from_static(&MESSAGES.as_bytes()[..delta])]);
    assert!(!told.contains("[DONE]") && !told.contains("\"finish_reason\":\""));
}

#[test]
fn an_error_in_a_stream_is_told_and_an_overloaded_provider_is_known_as_such() {
    let error = concat!(
        "event: error\ndata: {\"type\": \"error\", \"error\": ",
        "{\"type\": \"overloaded_error\", \"message\": \"Over\\nloaded\"}}\n\n"
    );
    let mut native = StreamReader::of(Words::Anthropic, false);
    native.push(&Bytes::from_static(error.as_bytes()), &mut Rope::new()).unwrap();
    assert!(native.progress().has_error && native.progress().is_overloaded);
    assert_eq!(native.end(true), StreamEnd::Errored);
    let (told, fault) = chunks(&[Bytes::from_static(error.as_bytes())]);
    assert_eq!(fault, None);
    let want =
        json!({"message": "Over\nloaded", "type": "server_error", "param": null, "code": "overloaded_error"});
    assert_eq!(data(&told)[0]["error"], want);
    let mut hub = StreamReader::new(false);
    hub.push(&Bytes::from(told), &mut Rope::new()).unwrap();
    assert!(hub.progress().has_error && hub.progress().is_overloaded);
}

#[test]
fn a_stream_that_passes_and_is_cut_is_billed_for_what_came_of_it() {
    let stream = concat!(
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}"#,
        "\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"c"}}"#,
        "\n\n",
    );
    let mut native = StreamReader::of(Words::Anthropic, false);
    native.push(&Bytes::from_static(stream.as_bytes()), &mut Rope::new()).unwrap();
    let usage = native.progress().usage.expect("the input is known");
    assert_eq!((usage.input, usage.output, usage.estimated), (7, 3, true));
    let end = concat!(
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        "\n\n"
    );
    native.push(&Bytes::from_static(end.as_bytes()), &mut Rope::new()).unwrap();
    let usage = native.progress().usage.expect("all is known");
    assert_eq!((usage.input, usage.output, usage.estimated), (7, 9, false));
}

#[test]
fn what_is_no_event_of_these_words_is_garbled_and_what_is_unknown_is_passed_over() {
    for broken in ["data: {oops\n\n", "data: 1\n\n", "data: {\"type\":\"message_start\"}\n\n"] {
        assert_eq!(chunks(&[Bytes::from_static(broken.as_bytes())]).1, Some(Kind::Garbled), "{broken}");
    }
    for passed in
        [": hello\n\n", "data:\n\n", "data: {\"type\":\"new_thing\",\"x\":[1]}\n\n", "event: ping\n\n"]
    {
        assert_eq!(chunks(&[Bytes::from_static(passed.as_bytes())]), (String::new(), None), "{passed}");
    }
}

/// Reasoning, text and two calls of tools that come by turns.
const CHUNKS: &[&str] = &[
    r#"{"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    r#"{"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"Hm."}}]}"#,
    concat!(
        r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"It \"is\""}},"#,
        r#"{"index":1,"delta":{"content":"no"}}]}"#
    ),
    r#"{"id":"c1","choices":[{"index":0,"delta":{"content":" té😀"}}]}"#,
    concat!(
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","#,
        r#""type":"function","function":{"name":"look","arguments":""}}]}}]}"#
    ),
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"at\":"}}]}}]}"#,
    concat!(
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","#,
        r#""function":{"name":"now","arguments":"{}"}}]}}]}"#
    ),
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1.0}"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
];

#[test]
fn a_stream_of_chunks_is_one_of_messages_with_each_call_in_a_block_of_its_own() {
    let mut events = ToEvents::new();
    let mut out = Vec::new();
    CHUNKS.iter().for_each(|chunk| events.on_chunk(chunk.as_bytes(), &mut out));
    events.on_chunk(b"no json", &mut out);
    events.finish(&USAGE, &mut out);
    let stream = String::from_utf8(out).unwrap();
    let names: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let told = data(&stream);
    assert_eq!(names.len(), told.len());
    assert!(names.iter().zip(&told).all(|(name, event)| event["type"] == *name));
    let want = "message_start content_block_start content_block_delta content_block_stop content_block_start \
                content_block_delta content_block_delta content_block_stop content_block_start \
                content_block_delta content_block_start content_block_delta content_block_delta \
                content_block_stop content_block_stop message_delta message_stop";
    assert_eq!(names.join(" "), want);
    assert_eq!((&told[0]["message"]["id"], &told[0]["message"]["model"]), (&json!("c1"), &json!("gpt-x")));
    assert_eq!(
        told[8]["content_block"],
        json!({"type": "tool_use", "id": "call_a", "name": "look", "input": {}})
    );
    let arguments = |block: u64| -> String {
        let of = told.iter().filter(|event| event["index"] == block);
        of.filter_map(|event| event["delta"]["partial_json"].as_str()).collect()
    };
    assert_eq!((arguments(2).as_str(), arguments(3).as_str()), ("{\"at\":1.0}", "{}"));
    let text: String = told.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "It \"is\" té😀");
    let last = &told[told.len() - 2];
    assert_eq!(last["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    let usage = json!({"input_tokens": 20, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7,
        "output_tokens": 31});
    assert_eq!(last["usage"], usage);
}

#[test]
fn an_answer_told_there_and_back_says_the_same() {
    let (told, _) = chunks(&[Bytes::from_static(MESSAGES.as_bytes())]);
    let mut events = ToEvents::new();
    let mut out = Vec::new();
    let chunks = data(&told);
    chunks.iter().for_each(|chunk| events.on_chunk(chunk.to_string().as_bytes(), &mut out));
    events.finish(&USAGE, &mut out);
    let pieces = |stream: &str, key: &str| -> String {
        data(stream).iter().filter_map(|event| event["delta"][key].as_str().map(str::to_owned)).collect()
    };
    let back = String::from_utf8(out).unwrap();
    for key in ["text", "thinking", "stop_reason"] {
        assert_eq!(pieces(&back, key), pieces(MESSAGES, key), "{key}");
    }
    assert_eq!(pieces(&back, "partial_json"), format!("{}{{}}", pieces(MESSAGES, "partial_json")));
}

#[test]
fn calls_without_an_index_are_told_apart_by_their_ids_and_are_bounded() {
    let call = |id: &str| {
        let call = json!({"id": id, "function": {"name": "f", "arguments": "{}"}});
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).to_string()
    };
    let mut events = ToEvents::new();
    let mut out = Vec::new();
    (0..300).for_each(|at| events.on_chunk(call(&format!("c{at}")).as_bytes(), &mut out));
    let stream = String::from_utf8(out).unwrap();
    let starts = data(&stream).iter().filter(|event| event["type"] == "content_block_start").count();
    assert_eq!(starts, 128);
}
