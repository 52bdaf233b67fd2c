use serde_json::{Value, json};

use super::*;
use crate::dialect::mcp::rpc::{Message, read};
use crate::fault::Kind;

const OLD: Revision = Revision::V2025June;
const NEW: Revision = Revision::V2026July;

/// What is written in answer to a request with the id "a\"b".
fn told(write: impl FnOnce(Id<'_>, &mut Vec<u8>)) -> Value {
    let body = br#"{"jsonrpc":"2.0","id":"a\"b","method":"m"}"#;
    let Ok(Message::Request { id, .. }) = read(body) else { panic!("it is a request") };
    let mut out = Vec::new();
    write(id, &mut out);
    serde_json::from_slice(&out).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&out)))
}

fn info() -> Value {
    json!({"name": "atp", "version": env!("CARGO_PKG_VERSION")})
}

#[test]
fn results_of_the_stateless_revision_say_what_they_are_and_of_whom() {
    let plain = told(|id, out| empty(id, OLD, out));
    assert_eq!(plain, json!({"jsonrpc": "2.0", "id": "a\"b", "result": {}}));
    let of_itself = told(|id, out| empty(id, NEW, out));
    let meta = json!({"io.modelcontextprotocol/serverInfo": info()});
    assert_eq!(of_itself["result"], json!({"resultType": "complete", "_meta": meta}));
    let discovered = told(|id, out| discovered(id, NEW, out));
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
    assert_eq!(discovered["result"]["capabilities"], json!({"tools": {"listChanged": true}}));
    assert!(discovered["result"]["ttlMs"].is_u64() && discovered["result"]["cacheScope"] == "private");
}

#[test]
fn a_session_gets_the_revision_it_wants_or_the_newest_that_has_sessions() {
    for (wanted, given) in [
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let answer = told(|id, out| {
            initialized(id, wanted, out);
        });
        assert_eq!(answer["result"]["protocolVersion"], given, "{wanted}");
        assert_eq!(answer["result"]["serverInfo"], info());
    }
}

#[test]
fn lists_say_how_long_they_are_fresh_where_clients_ask_for_that() {
    let listing = Listing::default();
    let list = |revision| told(|id, out| listed(id, revision, &listing, None, out).expect("there is a page"));
    assert_eq!(list(OLD)["result"]["tools"][0]["name"], "route.complete");
    assert_eq!(list(OLD)["result"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(list(NEW)["result"]["cacheScope"], "private");
    let mut out = Vec::new();
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    let Ok(Message::Request { id, .. }) = read(body) else { panic!("it is a request") };
    assert_eq!(listed(id, NEW, &listing, Some("x"), &mut out).expect_err("no such page").code, Code::Params);
    assert!(out.is_empty());
}

#[test]
fn an_answer_stands_as_text_and_as_structure() {
    let usage = Usage { input: 3, output: 4, estimated: true, ..Usage::default() };
    let done = Completed {
        text: br#"a\nb"#,
        model: "m",
        adapter: "x",
        usage,
        cost: Picodollars(1_500_000),
        latency_ms: 12,
    };
    let structure = json!({
        "text": "a\nb", "model_used": "m", "adapter_id": "x", "tokens_in": 3, "tokens_out": 4,
        "cost_usd": 0.000002, "latency_ms": 12, "estimated": true,
    });
    for revision in Revision::ALL {
        let answer = told(|id, out| completed(id, revision, &done, out));
        assert_eq!(answer["result"]["content"], json!([{"type": "text", "text": "a\nb"}]));
        assert_eq!(answer["result"]["structuredContent"], structure);
        assert_eq!(answer["result"]["isError"], false);
        let answer = told(|id, out| handled(id, revision, r#"{"a":"\""}"#, out));
        assert_eq!(answer["result"]["content"][0]["text"], r#"{"a":"\""}"#);
        assert_eq!(answer["result"]["structuredContent"], json!({"a": "\""}));
    }
}

#[test]
fn a_tools_failure_is_a_result_and_says_when_to_come_back() {
    let fault = Fault::proxy(Kind::NoPermit);
    for revision in Revision::ALL {
        let answer = told(|id, out| failed(id, revision, "all \"full\"", Some(fault), out));
        let result = &answer["result"];
        assert_eq!(
            (&result["isError"], &result["content"][0]["text"]),
            (&json!(true), &json!("all \"full\""))
        );
        let error = json!({"code": "upstream_at_capacity", "retry_after_ms": 1000});
        assert_eq!(result["_meta"]["atp.proxy/error"], error);
        let answer = told(|id, out| failed(id, revision, "x", None, out));
        assert_eq!(answer["result"]["resultType"] == "complete", revision.is_stateless());
    }
}

#[test]
fn errors_name_what_they_answer_and_what_is_served() {
    let refusal = Refusal::new(Code::Version, "no");
    let answer = told(|id, out| refused(Some(id), &refusal, Some("1900-01-01"), out));
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("a\"b"), &json!(-32022)));
    assert_eq!(answer["error"]["data"]["requested"], "1900-01-01");
    assert_eq!(answer["error"]["data"]["supported"][0], "2026-07-28");
    let answer = told(|_, out| refused(None, &Refusal::new(Code::Parse, "no"), None, out));
    assert_eq!(answer, json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "no"}}));
    let answer = told(|id, out| faulted(Some(id), Fault::client(Kind::KeyMissing), "who?", out));
    assert_eq!(
        answer["error"],
        json!({"code": -31000, "message": "who?", "data": {"code": "invalid_api_key"}})
    );
}

#[test]
fn notifications_carry_the_name_their_reader_gave() {
    let answer = told(|id, out| progress(id, 7, br#"tok\""#, out));
    let params = json!({"progressToken": "a\"b", "progress": 7, "message": "tok\""});
    assert_eq!(answer, json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "a\"b"});
    let answer = told(|id, out| listening(id, true, out));
    assert_eq!(answer["params"], json!({"_meta": meta, "notifications": {"toolsListChanged": true}}));
    assert_eq!(told(|id, out| listening(id, false, out))["params"]["notifications"], json!({}));
    assert_eq!(told(|id, out| tools_changed(Some(id), out))["params"], json!({"_meta": meta}));
    assert!(told(|_, out| tools_changed(None, out)).get("params").is_none());
    assert_eq!(told(listened)["result"], json!({"resultType": "complete", "_meta": meta}));
    let mut out = Vec::new();
    event(&mut out, |out| tools_changed(None, out));
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("event: message\ndata: {") && text.ends_with("}\n\n") && text.lines().count() == 3
    );
}
