//! Every fault in every dialect and place is well-formed, says its code, and lets nothing out of its quotes.

use serde_json::{Value, json};

use super::*;
use crate::admit::window::Axis;
use crate::fault::{Retry, Whose};

/// One of each.
fn faults() -> Vec<Fault> {
    let malformed = [
        MalformedWhat::Syntax("a value"),
        MalformedWhat::Unfinished,
        MalformedWhat::TooDeep,
        MalformedWhat::NotUtf8,
        MalformedWhat::DuplicateKey("model"),
        MalformedWhat::MissingKey("model"),
        MalformedWhat::WrongType("stream", "true or false"),
        MalformedWhat::NotAnObject,
        MalformedWhat::Trailing,
    ];
    let client = [
        Kind::InvalidField("quality", "`fast`, `balanced` or `high`"),
        Kind::BodyTooLarge { limit: 7 },
        Kind::PromptTooLarge { limit: 6000 },
        Kind::ContextTooLarge { limit: 7 },
        Kind::BodyTimeout,
        Kind::BodyEncoded,
        Kind::KeyMissing,
        Kind::KeyUnknown,
        Kind::Foreign,
        Kind::Loop,
        Kind::PathUnknown,
        Kind::MethodNotAllowed,
        Kind::ModelUnknown,
        Kind::BudgetExceeded,
        Kind::ClientGone,
        Kind::SlowClient,
    ];
    let proxy = [
        Kind::MemoryAway,
        Kind::MemoryRefused,
        Kind::NoPermit,
        Kind::TooLate { wait_s: 7 },
        Kind::WindowFull(Whose::Tenant, Axis::Tokens),
        Kind::BudgetSpent { whose: Whose::Session, axis: Axis::Money, again_s: None },
        Kind::BudgetSpent { whose: Whose::Tenant, axis: Axis::Tokens, again_s: Some(9) },
        Kind::Preempted,
        Kind::Shed { again_s: 5 },
        Kind::Overloaded,
        Kind::TooOften { again_s: 3 },
        Kind::RunsFull,
        Kind::Draining,
        Kind::NotReady,
        Kind::AllTripped,
        Kind::Absent,
        Kind::DeadlineExceeded,
        Kind::Internal,
    ];
    let upstream = [
        Kind::Connect,
        Kind::ConnectTimeout,
        Kind::Tls,
        Kind::Reset,
        Kind::Refused,
        Kind::FirstTokenTimeout,
        Kind::IdleTimeout,
        Kind::Truncated,
        Kind::Garbled,
        Kind::StreamError,
        Kind::Status { code: 429, retry_after_s: Some(3) },
        Kind::Status { code: 529, retry_after_s: None },
        Kind::Status { code: 500, retry_after_s: None },
        Kind::CredentialsRefused,
    ];
    let malformed = malformed.map(|what| Fault::malformed(what, 17));
    let client = client.map(Fault::client);
    let proxy = proxy.map(Fault::proxy);
    let upstream = upstream.map(|kind| Fault::upstream(kind, Retry::Elsewhere));
    malformed.into_iter().chain(client).chain(proxy).chain(upstream).collect()
}

const CONTEXT: Context<'_> = Context {
    request_id: "req-1",
    model: "gpt-5",
    models: &["a", "b"],
    models_total: 2,
    path: "/v1/nothing",
    adapter: "local",
    model_used: "a",
};

fn written(fault: Fault, dialect: Dialect, place: Place, context: &Context<'_>) -> String {
    let mut out = Vec::new();
    write(fault, dialect, place, context, &mut out);
    String::from_utf8(out).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn message(fault: Fault, context: &Context<'_>) -> String {
    parsed(&written(fault, Dialect::OpenAi, Place::Body, context))["error"]["message"]
        .as_str()
        .unwrap()
        .into()
}

#[test]
fn every_fault_has_openais_four_keys_and_a_whole_sentence() {
    for fault in faults() {
        for context in [CONTEXT, Context::default()] {
            let body = written(fault, Dialect::OpenAi, Place::Body, &context);
            let value = parsed(&body);
            let error = value["error"].as_object().unwrap();
            assert_eq!(error.len(), 4);
            assert_eq!(error["code"], fault.code());
            let message = error["message"].as_str().unwrap();
            assert!(
                message.ends_with('.') && message.len() > 15 && !message.contains("``"),
                "{fault:?}: {message}"
            );
            assert!(error["type"].as_str().unwrap().ends_with(match fault.kind {
                Kind::BudgetExceeded | Kind::BudgetSpent { .. } => "_quota",
                _ => "_error",
            }));
            let event = written(fault, Dialect::OpenAi, Place::Stream, &context);
            assert_eq!(event, format!("data: {body}\n\n"));
        }
    }
}

#[test]
fn every_fault_has_anthropics_shape_with_a_type_its_clients_know() {
    const TYPES: [&str; 11] = [
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
        "conflict_error",
    ];
    for fault in faults() {
        let body = written(fault, Dialect::Anthropic, Place::Body, &CONTEXT);
        let value = parsed(&body);
        assert_eq!((&value["type"], &value["request_id"]), (&json!("error"), &json!("req-1")));
        assert!(TYPES.contains(&value["error"]["type"].as_str().unwrap()), "{body}");
        assert_eq!(value["error"]["message"], message(fault, &CONTEXT));
        let event = written(fault, Dialect::Anthropic, Place::Stream, &CONTEXT);
        assert_eq!(event, format!("event: error\ndata: {body}\n\n"));
        let is_overloaded = value["error"]["type"] == "overloaded_error";
        let told = status(fault, Dialect::Anthropic);
        assert_eq!(is_overloaded, matches!(told, 503 | 529), "{fault:?}");
        assert!(told == fault.status() || (told, fault.status()) == (529, 503), "{fault:?}");
        assert_eq!(status(fault, Dialect::OpenAi), fault.status());
    }
}

#[test]
fn the_family_of_an_error_follows_its_status() {
    let family =
        |kind| parsed(&written(Fault::proxy(kind), Dialect::OpenAi, Place::Body, &CONTEXT))["error"].clone();
    for (kind, family_of, param) in [
        (Kind::KeyMissing, "authentication_error", Value::Null),
        (Kind::ModelUnknown, "invalid_request_error", json!("model")),
        (Kind::InvalidField("n", "small"), "invalid_request_error", json!("n")),
        (Kind::BodyTooLarge { limit: 1 }, "invalid_request_error", Value::Null),
        (Kind::PromptTooLarge { limit: 1 }, "invalid_request_error", json!("prompt")),
        (Kind::NoPermit, "rate_limit_error", Value::Null),
        (Kind::BudgetExceeded, "insufficient_quota", Value::Null),
        (Kind::DeadlineExceeded, "timeout_error", Value::Null),
        (Kind::Internal, "server_error", Value::Null),
        (Kind::Draining, "server_error", Value::Null),
    ] {
        let error = family(kind);
        assert_eq!((&error["type"], &error["param"]), (&json!(family_of), &param), "{kind:?}");
    }
    let duplicate = Fault::malformed(MalformedWhat::DuplicateKey("stream"), 9);
    assert_eq!(
        parsed(&written(duplicate, Dialect::OpenAi, Place::Body, &CONTEXT))["error"]["param"],
        "stream"
    );
}

#[test]
fn an_ask_is_told_in_the_shapes_its_clients_know() {
    let of = |kind| written(Fault::proxy(kind), Dialect::Ask, Place::Body, &CONTEXT);
    assert_eq!(of(Kind::KeyUnknown), r#"{"error":"unauthorized"}"#);
    assert_eq!(of(Kind::PromptTooLarge { limit: 1 }), r#"{"detail":"prompt_too_large"}"#);
    assert_eq!(of(Kind::BudgetExceeded), r#"{"error":"backpressure","detail":"budget_denied"}"#);
    assert_eq!(of(Kind::NoPermit), r#"{"error":"backpressure","status":429}"#);
    assert_eq!(of(Kind::AllTripped), r#"{"error":"no_models_available","status":503}"#);
    let limited = r#"{"error":"rate_limited","detail":"too_many_requests","correlation_id":"req-1"}"#;
    assert_eq!(of(Kind::Overloaded), limited);
    assert_eq!(of(Kind::TooOften { again_s: 3 }), limited);
    let general = parsed(&of(Kind::Internal));
    assert_eq!((&general["error"], &general["status"]), (&json!("internal_error"), &json!(500)));
    assert!(general["detail"].as_str().unwrap().contains("req-1"));
}

#[test]
fn a_broken_ask_ends_with_an_error_line_and_an_aborted_final_line() {
    for fault in faults() {
        let text = written(fault, Dialect::Ask, Place::Stream, &CONTEXT);
        let lines: Vec<Value> = text.split_terminator('\n').map(parsed).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["type"], &lines[0]["error"]), (&json!("error"), &json!(fault.code())));
        let last = json!({"type": "final", "aborted": true, "error": fault.code(), "model_used": "a"});
        assert_eq!(lines[1], last);
        parsed(&written(fault, Dialect::Ask, Place::Body, &CONTEXT));
    }
    let text = written(Fault::proxy(Kind::Internal), Dialect::Ask, Place::Stream, &Context::default());
    assert!(text.ends_with("\"model_used\":null}\n"));
}

#[test]
fn an_unknown_model_is_told_what_there_is_up_to_a_limit() {
    let fault = Fault::client(Kind::ModelUnknown);
    assert_eq!(
        message(fault, &CONTEXT),
        "There is no model, route or adapter/model `gpt-5`. There is: `a`, `b`."
    );
    let names: Vec<String> = (0..MODELS_NAMED_MAX + 5).map(|at| format!("m{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let context = Context { models: &names, models_total: 1000, ..CONTEXT };
    let text = message(fault, &context);
    assert!(text.contains("`m19` and 980 more") && !text.contains("m20"), "{text}");
    let exact = Context { models: &names[..MODELS_NAMED_MAX], models_total: MODELS_NAMED_MAX, ..CONTEXT };
    assert!(message(fault, &exact).ends_with("`m19`."));
    assert!(message(fault, &Context::default()).contains("None is configured"));
}

#[test]
fn names_others_chose_are_escaped_and_cut() {
    let hostile = "\"}}\r\n\r\ndata: [DONE]\n\n\u{1b}[31m\\".to_string() + &"x".repeat(5000);
    let context = Context {
        request_id: &hostile,
        model: &hostile,
        models: &[&hostile],
        models_total: 1,
        path: &hostile,
        adapter: &hostile,
        model_used: &hostile,
    };
    for fault in faults() {
        let event = written(fault, Dialect::OpenAi, Place::Stream, &context);
        let json = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!json.bytes().any(|byte| byte < 0x20), "{fault:?}: {json:?}");
        assert_eq!(parsed(json)["error"]["code"], fault.code());
        let shown = parsed(json)["error"]["message"].as_str().unwrap().chars().count();
        assert!(shown < 3 * 128 + 200, "{fault:?} shows {shown}");
        assert_eq!(written(fault, Dialect::Ask, Place::Stream, &context).matches('\n').count(), 2);
        parsed(&written(fault, Dialect::Ask, Place::Body, &context));
    }
}

#[test]
fn what_is_ours_or_an_adapters_names_the_request_and_the_adapter() {
    let fault = Fault::upstream(Kind::Status { code: 500, retry_after_s: None }, Retry::ElsewhereAtCost);
    assert_eq!(
        message(fault, &CONTEXT),
        "Adapter `local` answered with status 500. Try again, or another model. Request id: req-1."
    );
    let fault = Fault::malformed(MalformedWhat::Syntax("`,` or `}`"), 17);
    assert_eq!(
        message(fault, &CONTEXT),
        "The request body is not valid JSON: expected `,` or `}` at byte 17."
    );
}
