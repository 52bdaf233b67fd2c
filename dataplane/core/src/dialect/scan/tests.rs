//! What a head says of a body, and which bodies have none.

use proptest::prelude::*;
use proto_core::units::Picodollars;

use super::*;
use crate::fault::{Kind, Malformed, MalformedWhat};

fn chat(body: &str) -> Head {
    scan(Profile::Chat, body.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?} of {body}"))
}

fn ask(body: &str) -> Head {
    scan(Profile::Ask, body.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?} of {body}"))
}

fn refused(profile: Profile, body: &[u8]) -> Kind {
    match scan(profile, body) {
        Ok(head) => panic!("accepted {}: {head:?}", String::from_utf8_lossy(body)),
        Err(fault) => fault.kind,
    }
}

fn malformed(profile: Profile, body: &[u8]) -> MalformedWhat {
    match refused(profile, body) {
        Kind::Malformed(Malformed { what, .. }) => what,
        kind => panic!("{kind:?}"),
    }
}

fn part(body: &str, span: Span) -> &str {
    &body[span.start as usize..span.end as usize]
}

#[test]
fn a_chat_body_yields_what_routing_needs() {
    let body = r#" {"temperature":0.5,"model":"gpt-4o","messages":[{"role":"user","content":"hi"},{}],
        "stream":true,"max_tokens":5,"max_completion_tokens":7.0,"n":2,"tools":[{}],
        "stream_options":{"x":[],"include_usage":false}} "#;
    let head = chat(body);
    assert_eq!((head.body_bytes, head.inside, head.is_empty), (body.len() as u64, 2, false));
    let model = head.model.unwrap();
    assert_eq!((part(body, model.span), model.name.as_str()), ("\"gpt-4o\"", Some("gpt-4o")));
    assert_eq!((head.stream, head.has_tools, head.n), (true, true, Some(2)));
    assert_eq!(
        (head.max_tokens, head.max_completion_tokens, head.answer_tokens_max()),
        (Some(5), Some(7), Some(7))
    );
    assert_eq!(part(body, head.content.unwrap()), r#"[{"role":"user","content":"hi"},{}]"#);
    assert_eq!(head.items, 2);
    let StreamOptions::Object { span, is_empty: false, include_usage: Some(flag) } = head.stream_options
    else {
        panic!("{:?}", head.stream_options);
    };
    assert_eq!(part(body, span), r#"{"x":[],"include_usage":false}"#);
    assert_eq!((part(body, flag.span), flag.on, head.wants_usage()), ("false", false, false));
}

#[test]
fn null_is_as_good_as_absent_where_a_key_is_optional() {
    let body = r#"{"model":"m","stream":null,"max_tokens":null,"n":null,"tools":null,"stream_options":null}"#;
    let head = chat(body);
    assert!(!head.stream && !head.has_tools && head.n.is_none() && head.answer_tokens_max().is_none());
    assert!(matches!(head.stream_options, StreamOptions::Null(span) if part(body, span) == "null"));
    let body = r#"{"prompt":"p","model":null,"quality":null,"max_cost_usd":null,"latency_slo_ms":null,
        "task_type":null,"session_id":null,"context_refs":null,"tenant":null}"#;
    let head = ask(body);
    assert_eq!((head.model_name(), head.ask.quality, head.ask.max_cost), (Some(""), Quality::Balanced, None));
}

#[test]
fn usage_is_wanted_only_where_the_flag_is_true() {
    let with = |options: &str| chat(&format!(r#"{{"model":"m","stream_options":{options}}}"#)).wants_usage();
    assert!(with(r#"{"include_usage":true}"#));
    assert!(with(r#"{"include_\u0075sage":true,"a":1}"#));
    for options in ["null", "{}", r#"{"include_usage":null}"#, r#"{"include_usage":false}"#, r#"{"b":true}"#]
    {
        assert!(!with(options), "{options}");
    }
}

#[test]
fn an_escaped_key_is_the_key_it_says() {
    let head = chat(r#"{"\u006d\u006fdel":"a\u002fb","str\u0065am":true}"#);
    assert_eq!((head.model_name(), head.stream), (Some("a/b"), true));
    let what = malformed(Profile::Chat, br#"{"model":"a","\u006dodel":"b"}"#);
    assert_eq!(what, MalformedWhat::DuplicateKey("model"));
}

#[test]
fn keys_that_stand_twice_are_refused_only_where_they_are_acted_on() {
    assert!(scan(Profile::Chat, br#"{"a":1,"a":2,"model":"m","messages":[{"x":1,"x":2}]}"#).is_ok());
    for key in ["stream", "max_tokens", "n", "stream_options", "messages", "tools", "max_completion_tokens"] {
        let body = format!(r#"{{"model":"m","{key}":null,"{key}":null}}"#);
        let Kind::Malformed(what) = refused(Profile::Chat, body.as_bytes()) else { panic!("{key}") };
        assert!(matches!(what.what, MalformedWhat::DuplicateKey(name) if name == key), "{key}: {what:?}");
    }
    let body = br#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#;
    assert_eq!(malformed(Profile::Chat, body), MalformedWhat::DuplicateKey("stream_options.include_usage"));
    // A key of that name elsewhere is another key.
    assert!(scan(Profile::Chat, br#"{"model":"m","include_usage":1,"x":{"model":1}}"#).is_ok());
}

#[test]
fn a_value_of_another_type_is_refused_only_where_the_key_is_acted_on() {
    for (pair, key, expected) in [
        (r#""model":5"#, "model", "a string"),
        (r#""model":null"#, "model", "a string"),
        (r#""model":["m"]"#, "model", "a string"),
        (r#""stream":"true""#, "stream", "true or false"),
        (r#""stream":{}"#, "stream", "true or false"),
        (r#""max_tokens":"5""#, "max_tokens", "a whole number of 0 or more"),
        (r#""max_tokens":-1"#, "max_tokens", "a whole number of 0 or more"),
        (r#""max_tokens":1.5"#, "max_tokens", "a whole number of 0 or more"),
        (r#""max_tokens":1e999999"#, "max_tokens", "a whole number of 0 or more"),
        (r#""n":true"#, "n", "a whole number of 0 or more"),
        (r#""stream_options":[]"#, "stream_options", "an object"),
        (r#""stream_options":false"#, "stream_options", "an object"),
        (r#""stream_options":{"include_usage":1}"#, "stream_options.include_usage", "true or false"),
    ] {
        let body = format!("{{{pair}}}");
        assert_eq!(
            malformed(Profile::Chat, body.as_bytes()),
            MalformedWhat::WrongType(key, expected),
            "{pair}"
        );
    }
    let liberal = r#"{"model":"m","messages":5,"tools":"x","prompt":1,"temperature":"hot","seed":1e999999}"#;
    let head = chat(liberal);
    assert_eq!((part(liberal, head.content.unwrap()), head.items, head.has_tools), ("5", 0, false));
}

#[test]
fn tools_count_only_where_there_are_some() {
    for (tools, has) in [("[]", false), ("[{}]", true), ("{}", false), ("null", false), (r#"{"a":1}"#, false)]
    {
        assert_eq!(chat(&format!(r#"{{"model":"m","tools":{tools}}}"#)).has_tools, has, "{tools}");
    }
}

#[test]
fn a_prompt_or_input_of_any_shape_is_measured() {
    for (profile, key) in [(Profile::Completions, "prompt"), (Profile::Embeddings, "input")] {
        for (value, items) in
            [(r#""a\nb""#, 0), ("[1,2,3]", 3), (r#"["a","b"]"#, 2), ("[[1],[2,3]]", 2), ("7", 0)]
        {
            let body = format!(r#"{{"{key}":{value},"model":"m"}}"#);
            let head = scan(profile, body.as_bytes()).unwrap();
            assert_eq!((part(&body, head.content.unwrap()), head.items), (value, items));
        }
    }
}

#[test]
fn a_model_is_required_but_for_an_ask_and_one_longer_than_any_is_no_name() {
    assert_eq!(malformed(Profile::Chat, b"{}"), MalformedWhat::MissingKey("model"));
    assert_eq!(ask(r#"{"prompt":"p"}"#).model_name(), Some(""));
    assert_eq!(chat(&format!(r#"{{"model":"{}"}}"#, "m".repeat(128))).model_name(), Some(&*"m".repeat(128)));
    assert_eq!(chat(&format!(r#"{{"model":"{}"}}"#, "m".repeat(129))).model_name(), None);
    assert_eq!(chat(&format!(r#"{{"model":"{}\n"}}"#, "m".repeat(128))).model_name(), None);
}

#[test]
fn an_ask_yields_its_terms() {
    let body = r#"{"prompt":"h\u00e9llo \ud83d\ude00","quality":"high","max_cost_usd":0.0123,
        "latency_slo_ms":2000.0,"tenant":"acme","task_type":"code",
        "conversation_id":"c","session_id":"s","context_refs":["a","b"],
        "model":"auto","max_tokens":9,"turn_id":3}"#;
    let head = ask(body);
    assert_eq!(part(body, head.content.unwrap()), r#""h\u00e9llo \ud83d\ude00""#);
    assert_eq!((head.ask.prompt_chars, head.ask.quality), (7, Quality::High));
    assert_eq!((head.ask.max_cost, head.ask.latency_slo_ms), (Some(Picodollars(12_300_000_000)), Some(2000)));
    assert_eq!((head.ask.task_type.as_str(), head.ask.session.as_str()), (Some("code"), Some("s")));
    assert_eq!((head.ask.context_refs, head.model_name(), head.max_tokens), (2, Some("auto"), Some(9)));
    assert_eq!(
        ask(r#"{"session_id":"s","conversation_id":"c","prompt":"p"}"#).ask.session.as_str(),
        Some("s")
    );
    assert_eq!(ask(r#"{"conversation_id":"c","prompt":"p"}"#).ask.session.as_str(), Some("c"));
}

#[test]
fn the_terms_of_an_ask_have_limits_and_their_edges_are_inside() {
    let good = [
        ("quality", r#""fast""#),
        ("max_cost_usd", "0.001"),
        ("max_cost_usd", "10"),
        ("max_cost_usd", "1e1"),
        ("latency_slo_ms", "100"),
        ("latency_slo_ms", "30000"),
        ("task_type", r#""""#),
    ];
    for (key, value) in good {
        ask(&format!(r#"{{"prompt":"p","{key}":{value}}}"#));
    }
    ask(&format!(r#"{{"prompt":"p","task_type":"{}","session_id":"{}"}}"#, "t".repeat(64), "s".repeat(100)));
    let long = |length: usize| format!("\"{}\"", "x".repeat(length));
    let bad = [
        ("quality", r#""best""#.to_string()),
        ("max_cost_usd", "0.0009".into()),
        ("max_cost_usd", "10.01".into()),
        ("max_cost_usd", "10.0000000000000001".into()),
        ("max_cost_usd", "-1".into()),
        ("max_cost_usd", "1e999999".into()),
        ("latency_slo_ms", "99".into()),
        ("latency_slo_ms", "30001".into()),
        ("latency_slo_ms", "200.5".into()),
        ("task_type", long(65)),
        ("session_id", long(101)),
        ("conversation_id", long(129)),
        ("quality", long(500)),
    ];
    for (key, value) in bad {
        let body = format!(r#"{{"prompt":"p","{key}":{value}}}"#);
        let kind = refused(Profile::Ask, body.as_bytes());
        assert!(matches!(kind, Kind::InvalidField(name, _) if name == key), "{body}: {kind:?}");
    }
}

#[test]
fn a_prompt_has_one_to_a_hundred_thousand_characters() {
    let of = |prompt: &str| scan(Profile::Ask, format!(r#"{{"prompt":"{prompt}"}}"#).as_bytes());
    assert_eq!(of(&"é".repeat(100_000)).unwrap().ask.prompt_chars, 100_000);
    assert_eq!(of(&"\\n".repeat(100_000)).unwrap().ask.prompt_chars, 100_000);
    for prompt in ["", &"é".repeat(100_001)] {
        assert!(matches!(of(prompt).unwrap_err().kind, Kind::InvalidField("prompt", _)));
    }
    assert_eq!(malformed(Profile::Ask, b"{}"), MalformedWhat::MissingKey("prompt"));
    for value in ["null", "5", "[\"p\"]", "{}", "true"] {
        let body = format!(r#"{{"prompt":{value}}}"#);
        assert_eq!(malformed(Profile::Ask, body.as_bytes()), MalformedWhat::WrongType("prompt", "a string"));
    }
}

#[test]
fn each_hostile_body_is_refused_for_what_it_is_where_it_is() {
    use MalformedWhat::{NotAnObject, NotUtf8, Syntax, TooDeep, Trailing, Unfinished};
    let at = |body: &[u8], what, at| {
        let fault = scan(Profile::Chat, body).expect_err("is refused");
        assert_eq!(fault.kind, Kind::Malformed(Malformed { what, at }), "{}", String::from_utf8_lossy(body));
    };
    at(b"", Unfinished, 0);
    at(b" \n", Unfinished, 2);
    at(b"{\"model\":\"m\"", Unfinished, 12);
    at(b"[]", NotAnObject, 0);
    at(b"\xEF\xBB\xBF{}", NotAnObject, 0);
    at(b"\"m\"", NotAnObject, 0);
    at(b"{\"model\":\"m\"} x", Trailing, 14);
    at(b"{\"model\":\"m\"}{}", Trailing, 13);
    at(b"{\"a\":\"\xFF\"}", NotUtf8, 6);
    at(b"{\"a\":\"\xC3\"}", NotUtf8, 7);
    at(b"{\"a\":\"\xED\xA0\x80\"}", NotUtf8, 7);
    at(b"{\"a\":\"\xF4\x90\x80\x80\"}", NotUtf8, 7);
    at(b"{\"a\":\"\\ud800\"}", NotUtf8, 12);
    at(b"{\"a\":\"\\ud800\\n\"}", NotUtf8, 13);
    at(b"{\"a\":\"\\ud800\\ud800\"}", NotUtf8, 17);
    at(b"{\"a\":\"\\udc00\"}", NotUtf8, 11);
    at(b"{\"\xFF\":1}", NotUtf8, 2);
    at(b"{\"a\":01}", Syntax("`,` or `}`"), 6);
    at(b"{\"a\":[1 2]}", Syntax("`,` or `]`"), 8);
    at(b"{\"a\":-}", Syntax("a digit"), 6);
    at(b"{\"a\":nulL}", Syntax("null"), 8);
    at(b"{\"a\":NaN}", Syntax("a value"), 5);
    at(b"{\"a\":[1,]}", Syntax("a value"), 8);
    at(b"{\"a\":[,1]}", Syntax("a value"), 6);
    at(b"{\"a\":1,}", Syntax("a key in double quotes"), 7);
    at(b"{a:1}", Syntax("a key in double quotes, or `}`"), 1);
    at(b"{\"a\" 1}", Syntax("`:` after the key"), 5);
    at(b"{\"a\":\"\x00\"}", Syntax("control characters written as escapes"), 6);
    at(b"{\"a\":\"\\x\"}", Syntax("a valid escape after `\\`"), 7);
    let deep = format!("{{\"model\":\"m\",\"a\":{}", "[".repeat(100_000));
    at(deep.as_bytes(), TooDeep, 17 + 63);
}

#[test]
fn a_string_of_fifty_megabytes_is_scanned_and_only_measured() {
    let body = format!(r#"{{"model":"m","messages":[{{"content":"{}"}}]}}"#, "x".repeat(50 << 20));
    let head = chat(&body);
    assert_eq!(head.content.unwrap().len(), (50 << 20) + 16);
}

proptest! {
    #[test]
    fn any_split_yields_the_same_head_or_the_same_fault(body in body(), cuts in cuts()) {
        for profile in [Profile::Chat, Profile::Completions, Profile::Embeddings, Profile::Ask] {
            let whole = scan(profile, body.as_bytes());
            prop_assert_eq!(&pieces(profile, body.as_bytes(), &cuts), &whole);
            let mut scanner = Scanner::new(profile);
            let bytes = body.as_bytes().chunks(1).try_for_each(|byte| scanner.push(byte));
            prop_assert_eq!(&bytes.and_then(|()| scanner.finish()), &whole);
        }
    }
}

fn pieces(profile: Profile, body: &[u8], cuts: &[prop::sample::Index]) -> Result<Head, Fault> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    cuts.sort_unstable();
    let mut scanner = Scanner::new(profile);
    let mut from = 0;
    for cut in cuts.into_iter().chain([body.len()]) {
        scanner.push(&body[from..cut])?;
        from = cut;
    }
    scanner.finish()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    proptest::collection::vec(any::<prop::sample::Index>(), 0..5)
}

/// Bodies of the keys acted on, in any order and with any values, good and bad.
pub(in crate::dialect) fn body() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "model",
        "m\\u006fdel",
        "stream",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "stream_options",
        "messages",
        "prompt",
        "input",
        "quality",
        "max_cost_usd",
        "latency_slo_ms",
        "task_type",
        "session_id",
        "conversation_id",
        "context_refs",
        "temperature",
        "ünknown",
        "",
    ]);
    let value = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "1",
        "2000.0",
        "0.05",
        "-3",
        "1e999999",
        "\"\"",
        "\"fast\"",
        "\"gpt-4o\"",
        "\"a\\u0062c\\n\"",
        "\"h\\ud83d\\ude00\"",
        "\"語😀\"",
        "[]",
        "[{\"role\":\"user\",\"content\":\"hi\"},[1,[2]]]",
        "{}",
        "{\"include_usage\":true}",
        "{\"x\":{},\"include_usage\":false}",
        "{\"include_usage\":null}",
        "{\"a\":1}",
    ]);
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t"]);
    proptest::collection::vec((key, value, space), 0..7).prop_map(|members| {
        let members: Vec<String> = members
            .iter()
            .map(|(key, value, space)| format!("{space}\"{key}\":{space}{value}{space}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}
