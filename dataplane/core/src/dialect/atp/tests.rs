//! Contents in, contents out.

use super::*;

fn read(content: &'static str) -> Result<Request, Fault> {
    Request::read(&Bytes::from_static(content.as_bytes()))
}

fn text(rope: &Rope) -> String {
    rope.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

#[test]
fn a_chat_request_is_passed_on_as_it_stands() {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}],"seed":7}"#;
    let request = read(body).unwrap();
    assert_eq!((request.head.profile, text(&request.body).as_str()), (Profile::Chat, body));
    assert!(request.head.stream);
}

#[test]
fn a_chat_request_that_names_no_model_or_does_not_speak_of_streams_gets_both() {
    let request = read(r#" {"messages":[]}"#).unwrap();
    assert_eq!(text(&request.body), r#" {"stream":true,"model":"auto","messages":[]}"#);
    assert_eq!((request.head.model_name(), request.head.stream), (Some("auto"), true));
    let whole = read(r#"{"model":"m","stream":false,"messages":[]}"#).unwrap();
    assert!(!whole.head.stream, "who wants it whole gets it whole");
}

#[test]
fn a_prompt_is_read_like_an_ask() {
    let request = read(r#"{"prompt":"hi","max_tokens":5,"quality":"fast","unknown":[1]}"#).unwrap();
    assert_eq!((request.head.profile, request.head.max_tokens), (Profile::Ask, Some(5)));
}

#[test]
fn what_is_neither_is_refused_with_what_it_should_be() {
    let neither = Kind::InvalidField("content", "an object with `messages` or `prompt`");
    for content in ["{}", " { } ", r#"{"model":"m"}"#, r#"{"text":"hi"}"#] {
        assert_eq!(read(content).unwrap_err().kind, neither, "{content}");
    }
    for content in
        ["null", "[]", "7", "", "{\"prompt\":", r#"{"prompt":7}"#, r#"{"prompt":"a","quality":"x"}"#]
    {
        assert!(read(content).is_err(), "{content}");
    }
}

#[test]
fn a_final_tells_what_it_took_in_numbers_that_are_exact() {
    let usage = Usage { input: 7, output: 5, estimated: true, ..Usage::default() };
    let cost = Picodollars(1_250_000);
    let last = Final { text: Some(br"h\u00e9"), model_used: "m", adapter: "a", usage, cost };
    assert_eq!(
        last.content(),
        concat!(
            r#"{"text":"h\u00e9","model_used":"m","adapter":"a","tokens_in":7,"tokens_out":5,"#,
            r#""cost_usd":0.000002,"estimated":true}"#
        )
        .as_bytes()
    );
    let told = |first| String::from_utf8(last.telemetry(12, first).to_vec()).unwrap();
    let tokens = r#""tokens_in":7,"tokens_out":5,"model":"m""#;
    assert_eq!(told(None), format!(r#"{{"tokens":12,"usd":0.000002,"latency_ms":12,{tokens}}}"#));
    let timed = r#""latency_ms":12,"first_token_ms":7"#;
    assert_eq!(told(Some(7)), format!(r#"{{"tokens":12,"usd":0.000002,{timed},{tokens}}}"#));
    assert_eq!(partial(br"a\n"), br#"{"text":"a\n"}"#.as_slice());
}

#[test]
fn an_adapters_words_become_the_events_of_a_stream_whichever_form_they_have() {
    let chunk = Bytes::from_static(br#"{"choices":[{"delta":{"content":"a"}}]}"#);
    let mut retold = Retold::default();
    assert_eq!(retold.partial(&chunk), [b"data: ", chunk.as_ref(), b"\n\n"].concat());
    assert_eq!(retold.last(&Bytes::from_static(b"null")), super::super::openai::DONE);
    let mut retold = Retold::of(br#"{"messages":[],"model":"m"}"#);
    let event = retold.partial(&Bytes::from_static(r#"{"text":"h\"\u00e9"}"#.as_bytes()));
    let data: serde_json::Value = serde_json::from_slice(&event[6..]).unwrap();
    assert_eq!(data["choices"][0]["delta"]["content"], "h\"\u{e9}");
    assert_eq!((&data["model"], &data["object"]), (&"m".into(), &"chat.completion.chunk".into()));
    let last = retold.last(&Bytes::from_static(br#"{"usage":{"prompt_tokens":3}}"#));
    let last = String::from_utf8(last.to_vec()).unwrap();
    assert!(last.contains(r#""finish_reason":"stop""#) && last.contains(r#""usage":{"prompt_tokens":3}"#));
    assert!(last.ends_with("data: [DONE]\n\n"));
}

#[test]
fn an_adapters_line_ends_are_no_ends_of_events() {
    let spread = Bytes::from_static(b"{\r\n\n\"choices\":\n\n[]\n}");
    let mut retold = Retold::default();
    assert_eq!(retold.partial(&spread), b"data: {   \"choices\":  [] }\n\n".as_slice());
    let last = retold.last(&Bytes::from_static(b"{\"usage\":{\n\n\"prompt_tokens\":3}}"));
    let told = b"data: {\"choices\":[],\"usage\":{  \"prompt_tokens\":3}}\n\n";
    assert_eq!(last, [told, super::super::openai::DONE].concat());
}
