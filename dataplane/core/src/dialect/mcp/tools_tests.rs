use serde_json::{Value, json};

use super::*;
use crate::dialect::scan::{Profile, Quality, scan};

const NOTE: Fixed =
    Fixed { name: "note", description: "Takes a \"note\"", input: r#"{"type":"object"}"#, output: None };

fn listing<'t>(names: &'t [String]) -> Listing<'t> {
    Listing {
        fixed: vec![NOTE],
        adapters: names.iter().map(|name| AdapterTool { name, models: vec!["m", "n"] }).collect(),
        kinds: vec!["echo", "openai"],
    }
}

fn pages(listing: &Listing<'_>) -> Vec<Vec<Value>> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let mut out = b"[".to_vec();
        let next = listing.page(cursor.as_deref(), &mut out).expect("the cursor is known");
        out.push(b']');
        pages.push(serde_json::from_slice(&out).expect("a page is JSON"));
        cursor = next;
        if cursor.is_none() {
            return pages;
        }
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a value is JSON")
}

#[test]
fn tools_are_listed_route_first_then_fixed_then_adapters_with_their_schemas() {
    let names = ["a".to_owned(), "b".to_owned()];
    let pages = pages(&listing(&names));
    let [tools] = &pages[..] else { panic!("they fit on one page") };
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["route.complete", "note", "adapter.a", "adapter.b"]);
    let route = &tools[0]["inputSchema"];
    assert_eq!(route["required"], json!(["prompt"]));
    let of = &route["properties"];
    assert_eq!(of["quality_target"]["enum"], json!(["fast", "balanced", "high"]));
    assert_eq!(of["quality_target"]["default"], "balanced");
    assert_eq!(
        (&of["max_cost_usd"]["default"], &of["latency_slo_ms"]["default"]),
        (&json!(0.05), &json!(2000))
    );
    assert_eq!(of["adapter_type"]["enum"], json!(["echo", "openai"]));
    let adapter = &tools[2]["inputSchema"]["properties"];
    assert_eq!(adapter["model"], json!({"type": "string", "enum": ["m", "n"], "default": "m"}));
    assert_eq!(adapter["max_tokens"]["default"], 512);
    assert_eq!(
        tools[1],
        json!({"name": "note", "description": "Takes a \"note\"", "inputSchema": {"type": "object"}})
    );
    assert!(
        tools.iter().all(|tool| tool["description"].is_string() && tool["inputSchema"]["type"] == "object")
    );
}

#[test]
fn pages_hold_all_tools_once_also_where_one_goes_between_two_of_them() {
    for (adapters, wanted) in [(PAGE_TOOLS - 2, 1), (PAGE_TOOLS - 1, 2), (3 * PAGE_TOOLS, 4)] {
        let names: Vec<_> = (0..adapters).map(|at| format!("x{at:04}")).collect();
        let pages = pages(&listing(&names));
        assert_eq!(pages.len(), wanted, "{adapters}");
        assert_eq!(pages.concat().len(), adapters + 2);
    }
    let names: Vec<_> = (0..PAGE_TOOLS * 2).map(|at| format!("x{at:04}")).collect();
    let before = listing(&names);
    let cursor = before.page(None, &mut Vec::new()).flatten().expect("there are two");
    let mut after = before.clone();
    after.adapters.retain(|tool| format!("adapter.{}", tool.name) != cursor);
    let mut out = Vec::new();
    after.page(Some(&cursor), &mut out).expect("the cursor is known");
    let first = format!("{{\"name\":\"adapter.x{:04}\"", PAGE_TOOLS - 2);
    assert!(out.starts_with(first.as_bytes()), "{}", String::from_utf8_lossy(&out[..40]));
    assert!(before.page(Some("nonsense"), &mut Vec::new()).is_none());
}

#[test]
fn arguments_of_a_route_become_a_request_of_ask() {
    let arguments = raw(&json!({
        "prompt": "hi \"you\"", "quality_target": "high", "max_cost_usd": 0.5, "latency_slo_ms": 300,
        "adapter_type": "echo", "model": "m", "max_tokens": 7, "task_type": "t", "more": [1],
    }));
    let asked = route(Some(&arguments), &["openai", "echo"]).expect("it is well");
    assert_eq!((asked.kind, asked.quality), (Some("echo"), Some("high")));
    let head = scan(Profile::Ask, &asked.content).expect("it is a request");
    assert_eq!(head.model_name(), Some("m"));
    assert_eq!(
        (head.max_tokens, head.ask.latency_slo_ms, head.ask.quality),
        (Some(7), Some(300), Quality::High)
    );
    assert_eq!(head.ask.max_cost.map(|most| most.0), Some(500_000_000_000));
    assert_eq!(head.ask.task_type.as_str(), Some("t"));
    let bare = route(Some(&raw(&json!({"prompt": "x", "model": null}))), &[]).expect("it is well");
    let head = scan(Profile::Ask, &bare.content).expect("it is a request");
    assert_eq!((head.model_name(), head.max_tokens), (Some(""), None));
    assert_eq!(head.ask.max_cost.map(|most| most.0), Some(50_000_000_000));
    assert_eq!((head.ask.latency_slo_ms, head.ask.quality), (Some(2000), Quality::Balanced));
}

#[test]
fn arguments_of_an_adapter_ask_its_first_model_unless_they_name_another() {
    let tool = AdapterTool { name: "a", models: vec!["m", "n"] };
    let ask = |arguments: Value| adapter(Some(&raw(&arguments)), &tool);
    let head = |arguments: Value| {
        let asked = ask(arguments).expect("it is well");
        assert_eq!(asked.quality, None);
        scan(Profile::Ask, &asked.content).expect("it is a request")
    };
    let bare = head(json!({"prompt": "x"}));
    assert_eq!((bare.model_name(), bare.max_tokens, bare.ask.max_cost), (Some("a/m"), Some(512), None));
    let full = head(json!({"prompt": "x", "model": "n", "max_tokens": 1}));
    assert_eq!((full.model_name(), full.max_tokens), (Some("a/n"), Some(1)));
    let told = ask(json!({"model": "o", "max_tokens": 0})).expect_err("all is wrong");
    let wanted = "`model` must be one of m, n. `prompt` must be a string that is not empty. \
                  `max_tokens` must be a whole number from 1.";
    assert_eq!(told, wanted);
}

#[test]
fn every_wrong_argument_is_told_at_once() {
    for (arguments, names) in [
        (json!({}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": 7}), "prompt"),
        (json!({"prompt": "x", "quality_target": "best"}), "quality_target"),
        (json!({"prompt": "x", "quality_target": 1}), "quality_target"),
        (json!({"prompt": "x", "adapter_type": "grpc"}), "adapter_type"),
        (json!({"prompt": "x", "max_cost_usd": 0.0009}), "max_cost_usd"),
        (json!({"prompt": "x", "max_cost_usd": 10.1}), "max_cost_usd"),
        (json!({"prompt": "x", "max_cost_usd": "1"}), "max_cost_usd"),
        (json!({"prompt": "x", "latency_slo_ms": 99}), "latency_slo_ms"),
        (json!({"prompt": "x", "latency_slo_ms": 30001}), "latency_slo_ms"),
        (json!({"prompt": "x", "latency_slo_ms": 200.5}), "latency_slo_ms"),
        (json!({"prompt": "x", "max_tokens": 0}), "max_tokens"),
        (json!({"prompt": "x", "max_tokens": 1.5}), "max_tokens"),
        (json!({"prompt": "x", "model": 1}), "model"),
        (json!({"prompt": "x", "task_type": []}), "task_type"),
        (
            json!({"quality_target": "x", "max_cost_usd": 0, "model": 1}),
            "quality_target prompt max_cost_usd model",
        ),
    ] {
        let told = route(Some(&raw(&arguments)), &["echo"]).expect_err("something is wrong");
        let named: Vec<_> = told.split('`').skip(1).step_by(2).collect();
        assert_eq!(named.join(" "), names, "{arguments}: {told}");
    }
    for edge in [
        json!({"prompt": "x", "max_cost_usd": 0.001}),
        json!({"prompt": "x", "max_cost_usd": 10}),
        json!({"prompt": "x", "latency_slo_ms": 100}),
        json!({"prompt": "x", "latency_slo_ms": 30000}),
    ] {
        let asked = route(Some(&raw(&edge)), &["echo"]).expect("the edge is well");
        assert!(scan(Profile::Ask, &asked.content).is_ok(), "{edge}");
    }
    assert!(route(None, &[]).expect_err("nothing is asked").contains("prompt"));
}
