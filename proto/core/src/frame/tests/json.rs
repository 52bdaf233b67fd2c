use super::super::json::{decode, encode};
use super::super::{
    DEPTH_MAX, EXT_KEYS_MAX, FRAME_BYTES_MAX, FlagSet, KEYS_MAX, NAME_BYTES_MAX, Number, Shape, VALUES_MAX,
    What,
};
use super::*;

const PLAIN: &str = concat!(
    r#"{"v":1,"session_id":"s1","stream_id":"st1","msg_seq":1,"frag_seq":0,"flags":["SYN"],"qos":"gold","#,
    r#""ttl":8,"window":{"max_parallel":4,"max_tokens":50000,"max_usd_micros":1000000},"#,
    r#""meta":{"task_type":"qa"},"payload":{"type":"agent.result.partial","content":{"text":"héllo"}}}"#
);

fn refusal(message: &str) -> What {
    decode(&bytes(message)).unwrap_err().what
}

/// The plain frame with other words in the place of some.
fn with(from: &str, to: &str) -> String {
    assert!(PLAIN.contains(from));
    PLAIN.replacen(from, to, 1)
}

#[test]
fn a_frame_is_written_as_documented_and_reads_back() {
    assert_eq!(encode(&plain()).unwrap(), PLAIN);
    assert_eq!(decode(&bytes(PLAIN)).unwrap().frame, plain());
    assert_eq!(decode(&bytes(PLAIN)).unwrap().shape, Shape::Plain);
}

#[test]
fn nulls_and_unknown_keys_are_written_as_they_came() {
    let message = with(r#""meta":{"#, r#""meta":{"risk":null,"x":[1, 2],"#);
    let message = message.replace(r#"}}}"#, r#"},"confidence":null},"sig":null,"y":{"z": 1.50}}"#);
    let frame = decode(&bytes(&message)).unwrap().frame;
    assert_eq!((frame.meta.risk.as_ref(), frame.sig.as_ref()), (None, None));
    let again = encode(&frame).unwrap();
    assert_eq!(decode(&again).unwrap().frame, frame);
    for part in [r#""risk":null"#, r#""x":[1, 2]"#, r#""confidence":null"#, r#""sig":null"#, r#"{"z": 1.50}"#]
    {
        assert!(std::str::from_utf8(&again).unwrap().contains(part), "{part}");
    }
}

#[test]
fn what_is_carried_stays_where_it_came_in() {
    let message = bytes(PLAIN);
    let frame = decode(&message).unwrap().frame;
    let range = message.as_ptr_range();
    assert!(range.contains(&frame.payload.content.as_bytes().as_ptr()));
    assert!(range.contains(&frame.session_id.as_str().as_ptr()));
}

#[test]
fn flat_frames_have_their_content_where_the_payload_is() {
    let message = concat!(
        r#"{"type":"completion_request","ts":1700000000000,"stream_id":"st","msg_seq":1,"qos":"gold","#,
        r#""ttl":8,"#,
        r#""window":{"max_parallel":4,"max_tokens":50000,"max_usd_micros":1000000},"#,
        r#""meta":{"task_type":"completion","environment_id":"acme"},"#,
        r#""payload":{"prompt":"hi","max_tokens":5}}"#
    );
    let received = decode(&bytes(message)).unwrap();
    assert_eq!(received.shape, Shape::Flat);
    let frame = received.frame;
    assert_eq!(frame.payload.kind.as_str(), "completion_request");
    assert_eq!(frame.payload.content, raw(r#"{"prompt":"hi","max_tokens":5}"#));
    assert_eq!(frame.ext.get("ts"), Some(&raw("1700000000000")));
    assert!(frame.session_id.is_empty());
    assert_eq!(decode(&encode(&frame).unwrap()).unwrap().frame, frame);
    // As a content the payload has the limits of one.
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    let flat = |depth| message.replace(r#"{"prompt":"hi","max_tokens":5}"#, &nested(depth));
    assert!(decode(&bytes(&flat(DEPTH_MAX + 1))).is_ok());
    assert_eq!(refusal(&flat(DEPTH_MAX + 2)), What::Depth);
}

#[test]
fn flat_heartbeats_leave_out_what_is_zero() {
    let message = concat!(
        r#"{"type":"heartbeat","ts":1,"stream_id":"","qos":"bronze","ttl":8,"#,
        r#""window":{},"meta":{},"payload":{}}"#
    );
    let frame = decode(&bytes(message)).unwrap().frame;
    assert_eq!((frame.msg_seq, frame.window), (0, Window::default()));
    let shorter = decode(&bytes(r#"{"type":"heartbeat","window":{},"meta":{},"payload":{}}"#)).unwrap().frame;
    assert_eq!((shorter.qos, shorter.ttl > 0), (Qos::Bronze, true));
    assert_eq!(refusal(r#"{"type":7,"window":{},"meta":{},"payload":{}}"#), What::WrongType);
    assert_eq!(refusal(r#"{"type":"heartbeat","window":{},"meta":{}}"#), What::Missing);
}

#[test]
fn names_in_camel_case_mean_the_same_fields() {
    let message = PLAIN
        .replace("session_id", "sessionId")
        .replace("stream_id", "streamId")
        .replace("msg_seq", "msgSeq")
        .replace("frag_seq", "fragSeq")
        .replace("max_parallel", "maxParallel")
        .replace("max_tokens", "maxTokens")
        .replace("max_usd_micros", "maxUsdMicros")
        .replace("task_type", "taskType");
    let received = decode(&bytes(&message)).unwrap();
    assert_eq!((received.frame, received.shape), (plain(), Shape::Camel));
    let unversioned = decode(&bytes(&message.replace(r#""v":1,"#, ""))).unwrap();
    assert_eq!((unversioned.frame, unversioned.shape), (plain(), Shape::Camel));
    let costs = r#""payload":{"costEst":{"inTokens":1,"outTokens":2,"usdMicros":3},"expiryMs":null,"#;
    let frame = decode(&bytes(&message.replace(r#""payload":{"#, costs))).unwrap().frame;
    assert_eq!(frame.payload.cost_est.unwrap().usd_micros, 3);
    assert_eq!(frame.payload.ext.get("expiry_ms"), Some(&RawJson::NULL));
}

#[test]
fn fields_may_come_in_any_order() {
    let value: serde_json::Value = serde_json::from_str(PLAIN).unwrap();
    // Sorted, so that the payload comes before the version.
    let message = serde_json::to_string(&value).unwrap();
    assert!(message.find("payload") < message.find(r#""v""#));
    assert_eq!(decode(&bytes(&message)).unwrap().frame, plain());
}

#[test]
fn a_key_that_comes_twice_is_refused_wherever_it_is() {
    let twice = [
        with(r#""ttl":8"#, r#""ttl":8,"ttl":8"#),
        with(r#""ttl":8"#, r#""ttl":8,"\u0074tl":8"#),
        with(r#""msg_seq":1"#, r#""msg_seq":1,"msgSeq":1"#),
        with(r#""ttl":8"#, r#""ttl":8,"x":1,"x":1"#),
        with(r#""ttl":8"#, r#""ttl":8,"sig":null,"sig":null"#),
        with(r#""ttl":8"#, r#""ttl":8,"sig":null,"sig":"00""#),
        with(r#""max_tokens":50000"#, r#""max_tokens":50000,"max_tokens":1"#),
        with(r#"{"text":"héllo"}"#, r#"{"text":"a","te\u0078t":"b"}"#),
        with(r#"{"text":"héllo"}"#, r#"[[{"a":{"b":1,"b":2}}]]"#),
    ];
    for message in twice {
        assert_eq!(refusal(&message), What::Duplicate, "{message}");
    }
    let null_beside = with(r#""task_type":"qa""#, r#""task_type":"qa","taskType":null"#);
    assert_eq!(refusal(&null_beside), What::Duplicate);
}

#[test]
fn what_every_frame_has_must_be_there() {
    for field in ["v", "session_id", "stream_id", "msg_seq", "qos", "ttl", "max_tokens", "meta", "type"] {
        let message = PLAIN.replacen(&format!("\"{field}\""), "\"other\"", 1);
        let refused = decode(&bytes(&message)).unwrap_err();
        assert_eq!((refused.what, refused.field), (What::Missing, field));
        assert_eq!(refused.to_string(), format!("{field} is missing"));
    }
    assert!(decode(&bytes(&with(r#""frag_seq":0,"flags":["SYN"],"#, ""))).is_ok());
}

#[test]
fn numbers_and_words_out_of_range_are_refused() {
    for (from, to, what) in [
        (r#""v":1"#, r#""v":2"#, What::Version),
        (r#""ttl":8"#, r#""ttl":256"#, What::Range),
        (r#""ttl":8"#, r#""ttl":-1"#, What::Range),
        (r#""ttl":8"#, r#""ttl":8.0"#, What::WrongType),
        (r#""ttl":8"#, r#""ttl":"8""#, What::WrongType),
        (r#""msg_seq":1"#, r#""msg_seq":18446744073709551616"#, What::Unrepresentable),
        (r#""frag_seq":0"#, r#""frag_seq":4294967296"#, What::Range),
        (r#"["SYN"]"#, r#"[" "]"#, What::Range),
        (r#"["SYN"]"#, r#"null"#, What::WrongType),
        (r#""content":"#, r#""confidence":1.1,"content":"#, What::Range),
        (r#""content":"#, r#""cost_est":{"in_tokens":1},"content":"#, What::Missing),
        (r#""ttl":8"#, r#""ttl":8,"telemetry":[]"#, What::WrongType),
    ] {
        assert_eq!(refusal(&with(from, to)), what, "{to}");
    }
}

#[test]
fn text_that_is_no_json_is_refused() {
    for (message, what) in [
        ("", What::Truncated),
        ("[]", What::WrongType),
        ("{} {}", What::Trailing),
        ("{\"a\":01}", What::Syntax),
        ("{\"a\":1,}", What::Syntax),
        ("{\"a\":NaN}", What::Syntax),
        ("{\"a\":1e999}", What::Unrepresentable),
        ("{\"a\":\"\\ud800\"}", What::Utf8),
        ("{\"a\":\"\\ud800\\u0041\"}", What::Utf8),
        ("{\"a\":\"\n\"}", What::Syntax),
        ("{\"a\":\"\\x\"}", What::Syntax),
        ("{\"a\":tru", What::Syntax),
    ] {
        assert_eq!(refusal(message), what, "{message}");
    }
    assert_eq!(decode(&Bytes::from_static(b"{\"\xff\":1}")).unwrap_err().what, What::Utf8);
    assert_eq!(raw(r#""\ud83d\ude00""#), raw("\"😀\""));
}

#[test]
fn integers_are_taken_to_the_end_of_their_range_and_minus_zero_is_zero() {
    for (text, number) in [
        ("18446744073709551615", Some(Number::Positive(u64::MAX))),
        ("18446744073709551616", None),
        ("-18446744073709551616", Some(Number::Negative(u64::MAX))),
        ("-18446744073709551617", None),
        ("-0", Some(Number::Positive(0))),
        ("-0.0", Some(Number::Float(-0.0))),
    ] {
        assert_eq!(Number::of_json(text), number, "{text}");
    }
}

#[test]
fn each_limit_holds_at_its_edge_and_refuses_one_more() {
    let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
    let object = |keys: usize| {
        let entries: Vec<_> = (0..keys).map(|key| format!("\"{key}\":0")).collect();
        format!("{{{}}}", entries.join(","))
    };
    for (edge, past, what) in [
        (nested(DEPTH_MAX), nested(DEPTH_MAX + 1), What::Depth),
        (list(VALUES_MAX), list(VALUES_MAX + 1), What::TooLong),
        (object(KEYS_MAX), object(KEYS_MAX + 1), What::TooLong),
        ("1".repeat(20), "1".repeat(129), What::TooLong),
    ] {
        let edge = with(r#"{"text":"héllo"}"#, &edge);
        assert!(decode(&bytes(&edge)).is_ok());
        // Also where the payload waits for the version.
        let last = edge.replace(r#""v":1,"#, "");
        let last = format!("{},\"v\":1}}", last.strip_suffix('}').unwrap());
        assert!(decode(&bytes(&last)).is_ok());
        assert_eq!(refusal(&with(r#"{"text":"héllo"}"#, &past)), what);
    }
    let named = |length: usize| Frame { session_id: "s".repeat(length).into(), ..plain() };
    assert!(encode(&named(NAME_BYTES_MAX)).is_ok());
    assert_eq!(encode(&named(NAME_BYTES_MAX + 1)).unwrap_err().what, What::TooLong);
    let extended = |keys: usize| {
        let mut frame = plain();
        (0..keys).for_each(|key| frame.ext.insert(format!("x{key}").into(), RawJson::NULL));
        frame
    };
    let edge = encode(&extended(EXT_KEYS_MAX)).unwrap();
    assert!(decode(&edge).is_ok());
    assert_eq!(encode(&extended(EXT_KEYS_MAX + 1)).unwrap_err().what, What::TooLong);
}

#[test]
fn a_frame_of_one_mebibyte_passes_and_one_byte_more_does_not() {
    let room = FRAME_BYTES_MAX - PLAIN.len() + "héllo".len();
    let edge = with("héllo", &"x".repeat(room));
    assert_eq!(edge.len(), FRAME_BYTES_MAX);
    let frame = decode(&bytes(&edge)).unwrap().frame;
    assert_eq!(encode(&frame).unwrap().len(), FRAME_BYTES_MAX);
    assert_eq!(refusal(&with("héllo", &"x".repeat(room + 1))), What::FrameBytes);
    let longer = Frame { flags: FlagSet::ACK.union(FlagSet::SYN).into(), ..frame };
    assert_eq!(encode(&longer).unwrap_err().what, What::FrameBytes);
}
