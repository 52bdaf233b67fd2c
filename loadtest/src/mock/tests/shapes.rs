//! What a well-behaved answer looks like.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::client::{End, chat, connect, exchange, mock, post, read_until};

#[tokio::test]
async fn a_chat_answer_has_the_fields_that_clients_read() {
    let mock = mock().await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        let body = r#"{"model":"mock--tokens-3","messages":[{"role":"user","content":"hi"}]}"#;
        let read = exchange(&mock, &post(path, body)).await;
        let answer = read.json();
        assert!(read.text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"));
        assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["model"], "mock--tokens-3");
        assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
        let message = json!({"role": "assistant", "content": "tok1 tok2 tok3", "refusal": null});
        assert_eq!(answer["choices"][0]["message"], message);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["prompt_tokens"], 8, "32 bytes of messages, four to a token");
        assert_eq!(answer["usage"]["completion_tokens"], 3);
        assert_eq!(answer["usage"]["total_tokens"], 11);
    }
}

#[tokio::test]
async fn a_chat_stream_opens_with_the_role_and_ends_with_a_reason_and_done() {
    let read = chat(&mock().await, "mock--tokens-3", true).await;
    assert!(read.text.contains("content-type: text/event-stream"));
    assert!(read.ends_like_a_whole_stream());
    assert_eq!(read.events().last(), Some(&"[DONE]"));
    let events = read.parsed_events();
    assert_eq!(events.len(), 5, "role, three tokens, the reason");
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    assert!(events.iter().all(|event| event.get("usage").is_none()), "usage was not asked for");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "tok1 tok2 tok3", "a stream says what the whole answer says");
    assert_eq!(events[3]["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(events[4]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn the_usage_event_comes_last_and_only_when_asked_for() {
    let body =
        r#"{"model":"m--tokens-2","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let events = exchange(&mock().await, &post("/v1/chat/completions", body)).await.parsed_events();
    let (last, others) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 2);
    assert!(others.iter().all(|event| event["usage"].is_null()));
}

#[tokio::test]
async fn the_clients_limit_cuts_the_answer_with_the_reason_length() {
    let mock = mock().await;
    for field in ["max_tokens", "max_completion_tokens"] {
        let body = format!(r#"{{"model":"m--tokens-9","{field}":2,"messages":[]}}"#);
        let answer = exchange(&mock, &post("/v1/chat/completions", &body)).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], "tok1 tok2");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn n_choices_are_whole_each_and_interleaved_in_a_stream() {
    let mock = mock().await;
    let ask = |streamed| format!(r#"{{"model":"m--tokens-2","n":3,"stream":{streamed},"messages":[]}}"#);
    let answer = exchange(&mock, &post("/v1/chat/completions", &ask(false))).await.json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    assert_eq!(answer["choices"][2]["index"], 2);
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let events = exchange(&mock, &post("/v1/chat/completions", &ask(true))).await.parsed_events();
    let indexes: Vec<_> = events.iter().map(|event| event["choices"][0]["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[tokio::test]
async fn tools_are_called_with_arguments_in_several_chunks() {
    let mock = mock().await;
    let ask = |streamed| {
        let tools = r#"[{"type":"function","function":{"name":"weather","parameters":{}}}]"#;
        format!(r#"{{"model":"m--tokens-4","stream":{streamed},"tools":{tools},"messages":[]}}"#)
    };
    let answer = exchange(&mock, &post("/v1/chat/completions", &ask(false))).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    let whole = call["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(whole).unwrap(), json!({"input": "tok1 tok2 tok3 tok4"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");

    let events = exchange(&mock, &post("/v1/chat/completions", &ask(true))).await.parsed_events();
    let calls: Vec<_> = events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(calls[0]["function"]["name"], "weather");
    let pieces: Vec<_> = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(pieces.len(), 5, "an empty one with the name, then one per token");
    assert_eq!(pieces.concat(), whole);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn completions_speak_their_own_form() {
    let mock = mock().await;
    let ask = |streamed| format!(r#"{{"model":"m--tokens-2","stream":{streamed},"prompt":"hello"}}"#);
    let answer = exchange(&mock, &post("/v1/completions", &ask(false))).await.json();
    assert_eq!(
        (&answer["object"], &answer["choices"][0]["text"]),
        (&json!("text_completion"), &json!("tok1 tok2"))
    );
    let read = exchange(&mock, &post("/completions", &ask(true))).await;
    let events = read.parsed_events();
    let said: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(said, "tok1 tok2");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert_eq!(read.events().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn answer_bytes_are_exact_streamed_or_not() {
    let mock = mock().await;
    for bytes in [1, 3, 500, 501] {
        let model = format!("m--tokens-7--answer-bytes-{bytes}");
        let answer = chat(&mock, &model, false).await.json();
        let whole = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert_eq!(whole.len(), bytes);
        let events = chat(&mock, &model, true).await.parsed_events();
        let said: String =
            events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, whole);
    }
}

#[tokio::test]
async fn echo_repeats_the_last_message_with_its_escapes() {
    let body = r#"{"model":"m--echo","messages":[{"role":"user","content":"say \"a\"\nand ü"}]}"#;
    let answer = exchange(&mock().await, &post("/v1/chat/completions", body)).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "say \"a\"\nand ü");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_base64() {
    use base64::Engine as _;
    let mock = mock().await;
    let body = r#"{"model":"m","input":["a","b"],"dimensions":3}"#;
    let answer = exchange(&mock, &post("/v1/embeddings", body)).await.json();
    assert_eq!(answer["data"][1]["embedding"], json!([0.125, 0.25, 0.375]));
    let body = r#"{"model":"m","input":"a","dimensions":3,"encoding_format":"base64"}"#;
    let answer = exchange(&mock, &post("/v1/embeddings", body)).await.json();
    let coded = answer["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded).unwrap();
    assert_eq!(bytes, [0.0f32, 0.125, 0.25].map(f32::to_le_bytes).concat());
}

#[tokio::test]
async fn models_are_listed_and_found_by_name() {
    let mock = mock().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n");
    let list = exchange(&mock, &get("/v1/models")).await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("mock-model")));
    assert_eq!(exchange(&mock, &get("/models/org/any")).await.json()["id"], "org/any");
    let missing = exchange(&mock, &get("/v1/nothing")).await;
    assert!(missing.text.starts_with("HTTP/1.1 404"));
    assert!(missing.json()["error"]["message"].as_str().unwrap().contains("GET /nothing"));
}

#[tokio::test]
async fn a_bad_body_or_script_is_a_400_that_says_why() {
    let mock = mock().await;
    let refused = exchange(&mock, &post("/v1/chat/completions", "{\"model\"")).await;
    assert!(refused.text.starts_with("HTTP/1.1 400"));
    let refused = chat(&mock, "mock--tokns-5", false).await;
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("`tokns-5`"));
}

#[tokio::test]
async fn a_connection_is_kept_also_for_pipelined_and_chunked_requests() {
    let mock = mock().await;
    let mut stream = connect(&mock).await;
    let chunked = "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        10;x=y\r\n{\"model\":\"m--ech\r\n11\r\no\",\"prompt\":\"one\"\r\n1\r\n}\r\n0\r\nTrailer: t\r\n\r\n";
    let next = r#"{"model":"m--echo","prompt":"two"}"#;
    let both = format!("{chunked}{}", post("/v1/completions", next));
    stream.write_all(both.as_bytes()).await.unwrap();
    let read = read_until(&mut stream, "two").await;
    assert!(read.contains("one") && read.matches("HTTP/1.1 200").count() == 2);
    assert_eq!(mock.stats().connections, 1);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_told_to_go_on() {
    let mock = mock().await;
    let mut stream = connect(&mock).await;
    let body = r#"{"model":"m","prompt":"x"}"#;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(body.as_bytes()).await.unwrap();
    read_until(&mut stream, "tok20").await;
}

#[tokio::test]
async fn a_paced_answer_takes_its_time_and_an_unpaced_one_does_not_wait() {
    let mock = mock().await;
    let started = std::time::Instant::now();
    let paced = chat(&mock, "m--tokens-4--first-token-ms-20--token-rate-100", true).await;
    // A lower bound only: 20 ms, then three gaps of 10 ms.
    assert!(started.elapsed().as_millis() >= 50, "{:?}", started.elapsed());
    assert_eq!((paced.end, paced.events().last()), (End::Closed, Some(&"[DONE]")));
}

#[tokio::test]
async fn a_message_says_in_anthropics_shapes_what_a_chat_answer_does() {
    let mock = mock().await;
    let system = r#""system":[{"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}]"#;
    let body = format!(r#"{{"model":"mock--tokens-3","max_tokens":9,{system},"messages":[]}}"#);
    let answer = exchange(&mock, &post("/v1/messages", &body)).await.json();
    assert_eq!(answer["content"], json!([{"type": "text", "text": "tok1 tok2 tok3"}]));
    assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("end_turn")));
    let written = answer["usage"]["cache_creation_input_tokens"].as_u64().unwrap();
    assert!(written > 10);
    assert_eq!((&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]), (&json!(1), &json!(3)));
    let counted = exchange(&mock, &post("/v1/messages/count_tokens", &body)).await.json();
    assert_eq!(counted["input_tokens"], written + 1);
    let tools = r#""stream":true,"tools":[{"name":"weather","input_schema":{"type":"object"}}]"#;
    let body = format!(r#"{{"model":"mock--tokens-2","max_tokens":9,{tools},"messages":[]}}"#);
    let read = exchange(&mock, &post("/v1/messages", &body)).await;
    assert!(read.text.contains("event: message_stop") && !read.text.contains("[DONE]"));
    let events = read.parsed_events();
    let json: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(json, r#"{"input":"tok1 tok2"}"#);
    assert_eq!(events[1]["content_block"]["name"], "weather");
    let refused = exchange(&mock, &post("/v1/messages", r#"{"model":"m--status-529"}"#)).await;
    assert_eq!(refused.json()["error"]["type"], "overloaded_error");
}
