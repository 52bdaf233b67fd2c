use proto_core::units::Picodollars;
use serde_json::{Value, json};

use super::*;
use crate::bill::Usage;
use crate::dialect::mcp::tools::AdapterTool;

fn said(message: &str) -> Said<'_> {
    read(message.as_bytes()).expect("it is a message").expect("it is no frame")
}

fn called(message: &str) -> Call<'_> {
    let Said::Call(call) = said(message) else { panic!("it is a call: {message}") };
    call
}

fn told(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    serde_json::from_slice(&out).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn both_forms_of_a_call_say_the_same() {
    let by_object = r#"{"type":"callTool","id":"c1","tool":{"name":"route.complete","arguments":{"a":1}}}"#;
    let by_name = r#"{"type":"callTool","toolCallId":"c1","tool":"route.complete","parameters":{"a":1}}"#;
    for (message, deadline) in [(by_object, None), (by_name, Some(Duration::from_secs(30)))] {
        let call = called(message);
        assert_eq!((call.id.as_json(), &*call.name), ("\"c1\"", "route.complete"));
        assert_eq!(call.arguments.map(RawValue::get), Some(r#"{"a":1}"#));
        assert_eq!((call.streamed, call.deadline, call.qos), (true, deadline, None));
    }
    let full =
        r#"{"type":"callTool","id":7,"tool":"t","stream":false,"timeout_seconds":300,"priority":"urgent"}"#;
    let call = called(full);
    assert_eq!((call.id.as_json(), call.streamed), ("7", false));
    assert_eq!((call.deadline, call.qos), (Some(Duration::from_secs(300)), Some(Qos::Gold)));
    assert_eq!(called(r#"{"type":"callTool","tool":{"name":"t"}}"#).id.as_json(), "null");
    for (priority, qos) in [("low", Qos::Bronze), ("normal", Qos::Silver), ("high", Qos::Gold)] {
        let message = json!({"type": "callTool", "tool": "t", "priority": priority}).to_string();
        assert_eq!(called(&message).qos, Some(qos));
    }
}

#[test]
fn a_call_that_is_none_is_told_what_is_wrong_and_its_connection_goes_on() {
    for (more, named) in [
        (json!({}), "`tool`"),
        (json!({"tool": 7}), "`tool`"),
        (json!({"tool": {"arguments": {}}}), "`tool`"),
        (json!({"tool": "t", "parameters": 7}), "arguments"),
        (json!({"tool": {"name": "t", "arguments": []}}), "arguments"),
        (json!({"tool": "t", "stream": 1}), "`stream`"),
        (json!({"tool": "t", "timeout_seconds": 0}), "`timeout_seconds`"),
        (json!({"tool": "t", "timeout_seconds": 301}), "`timeout_seconds`"),
        (json!({"tool": "t", "priority": "lowest"}), "`priority`"),
        (json!({"tool": "t", "priority": 1}), "`priority`"),
    ] {
        let mut message = json!({"type": "callTool", "id": "c"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let text = message.to_string();
        let (what, id) = read(text.as_bytes()).expect_err("it is wrong");
        assert!(what.contains(named), "{text}: {what}");
        assert_eq!(id.as_json(), "\"c\"");
    }
    for message in ["", "nonsense", "[1]", "7", r#"{"type":"listTools","type":"listTools"}"#, r#"{"id":{}}"#]
    {
        assert!(read(message.as_bytes()).is_err(), "{message}");
    }
}

#[test]
fn frames_are_left_to_those_who_read_frames() {
    for message in [
        r#"{"v":1,"session_id":"s","stream_id":"t","payload":{"type":"completion"}}"#,
        r#"{"type":"completion_request","stream_id":"t","msg_seq":1,"payload":{}}"#,
        r#"{"v":1,"sessionId":"s","streamId":"t"}"#,
        r#"{"type":"heartbeat","ts":1,"window":{},"meta":{},"payload":{}}"#,
    ] {
        assert!(read(message.as_bytes()).expect("it is JSON").is_none(), "{message}");
    }
    assert!(matches!(said(r#"{"type":"heartbeat"}"#), Said::Heartbeat));
    assert!(matches!(said(r#"{"type":"listTools","request_id":"r","filter":{}}"#), Said::ListTools));
    let cancel = said(r#"{"type":"cancelTool","toolCallId":"c"}"#);
    assert!(matches!(cancel, Said::Cancel { call } if call.as_json() == "\"c\""));
    let negotiate = said(r#"{"type":"negotiateSchema","id":"n","requestedVersion":"v9.9"}"#);
    let Said::Negotiate { id } = negotiate else { panic!("it is a negotiation") };
    let wanted = json!({"type": "schemaNegotiated", "id": "n", "negotiatedVersion": "v1.0"});
    assert_eq!(told(|out| negotiated(id, out)), wanted);
    for unknown in [r#"{"type":"resources"}"#, "{}", r#"{"type":7}"#] {
        assert!(matches!(said(unknown), Said::Unknown), "{unknown}");
    }
}

#[test]
fn answers_have_the_shapes_existing_clients_read() {
    let id = CallId::again("\"c\"");
    let piece = told(|out| partial(id, Place { sequence: 2, tokens: 5 }, br#"a\n"#, out));
    let wanted = json!({
        "type": "toolOutput", "toolCallId": "c", "content": [{"type": "text", "text": "a\n"}], "sequence": 2,
        "cumulative_tokens": 5, "is_partial": true, "dp_metrics_emitted": true,
    });
    assert_eq!(piece, wanted);
    let usage = Usage { input: 3, output: 4, ..Usage::default() };
    let cost = Picodollars(2_000_000);
    let done = Completed { text: b"ab", model: "m", adapter: "x", usage, cost, latency_ms: 12 };
    let answer = told(|out| last(id, 3, &done, Some("fast"), out));
    assert_eq!(
        (&answer["final"], &answer["sequence"], &answer["cumulative_tokens"]),
        (&json!(true), &json!(3), &json!(4))
    );
    let metadata = json!({
        "model_used": "m", "adapter_id": "x", "latency_ms": 12, "cost_usd": 0.000002,
        "cost_estimate": 0.000002, "tokens_used": 7, "quality_target": "fast",
    });
    assert_eq!(answer["metadata"], metadata);
    let direct = told(|out| last(CallId::NONE, 3, &done, None, out));
    assert_eq!((&direct["toolCallId"], &direct["metadata"]["direct_call"]), (&Value::Null, &json!(true)));
    let object = told(|out| handled(id, r#"{"success":true}"#, out));
    assert_eq!(object["content"], json!([{"type": "json", "data": {"success": true}}]));
    let failed = told(|out| error(id, "METHOD_NOT_FOUND", "no \"x\"", out));
    let error_told = json!({"code": "METHOD_NOT_FOUND", "message": "no \"x\""});
    assert_eq!(failed, json!({"type": "error", "toolCallId": "c", "error": error_told}));
    assert!(told(|out| error(CallId::NONE, "X", "", out)).get("toolCallId").is_none());
    assert_eq!(told(|out| out.extend_from_slice(HEARTBEAT)), json!({"type": "heartbeat"}));
}

#[test]
fn all_tools_are_listed_in_one_message() {
    let names: Vec<_> = (0..200).map(|at| format!("x{at:03}")).collect();
    let adapters = names.iter().map(|name| AdapterTool { name, models: vec!["m"] }).collect();
    let listing = Listing { adapters, ..Listing::default() };
    let list = told(|out| listed(&listing, out));
    assert_eq!((&list["type"], list["tools"].as_array().map(Vec::len)), (&json!("listTools"), Some(201)));
}

#[test]
fn every_fault_has_a_code_of_this_protocol() {
    use crate::fault::Retry;
    for (fault, wanted) in [
        (Fault::client(Kind::ModelUnknown), "ADAPTER_UNAVAILABLE"),
        (Fault::proxy(Kind::AllTripped), "ADAPTER_UNAVAILABLE"),
        (Fault::upstream(Kind::Reset, Retry::Never), "ADAPTER_UNAVAILABLE"),
        (Fault::client(Kind::InvalidField("a", "b")), "INVALID_REQUEST"),
        (Fault::client(Kind::KeyMissing), "AUTHENTICATION_FAILED"),
        (Fault::client(Kind::Foreign), "PERMISSION_DENIED"),
        (Fault::proxy(Kind::NoPermit), "RATE_LIMITED"),
        (Fault::proxy(Kind::Shed { again_s: 1 }), "RATE_LIMITED"),
        (Fault::client(Kind::ClientGone), "CANCELLED"),
        (Fault::proxy(Kind::Internal), "INTERNAL_ERROR"),
        (Fault::proxy(Kind::DeadlineExceeded), "INTERNAL_ERROR"),
    ] {
        assert_eq!(code(fault), wanted, "{fault:?}");
    }
}
