//! The request as the upstream reads it, the lines as clients read them.

use proptest::prelude::*;
use proto_core::units::{Permille, Picodollars};
use serde_json::{Value, json};

use super::super::scan::{Profile, scan};
use super::lines::{Candidate, Final, Plan};
use super::*;
use crate::bill::Usage;

fn line(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "a line is one line");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn asked(body: &str, cuts: &[usize]) -> (Value, String) {
    let head = scan(Profile::Ask, body.as_bytes()).unwrap();
    let whole = Bytes::copy_from_slice(body.as_bytes());
    let mut rope = Rope::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&body.len()]) {
        rope.push(whole.slice(from..cut));
        from = cut;
    }
    let mut sent = Vec::new();
    for_upstream(&rope, &head, &Bytes::new(), &Bytes::from_static(b"\"up\""))
        .iter()
        .for_each(|piece| sent.extend_from_slice(piece));
    let mut prompt = Vec::new();
    prompt_text(&rope, &head, &mut prompt);
    (serde_json::from_slice(&sent).unwrap(), String::from_utf8(prompt).unwrap())
}

#[test]
fn an_ask_becomes_one_user_message_streamed_with_usage() {
    let body = r#"{"model":"auto","prompt":"say \"h\u00ed\"\n\ud83d\ude00","quality":"high"}"#;
    let want = json!({
        "model": "up",
        "messages": [{"role": "user", "content": "say \"hí\"\n😀"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    for cut in 0..body.len() {
        assert_eq!(asked(body, &[cut]), (want.clone(), "say \"hí\"\n😀".to_string()));
    }
    let (sent, _) = asked(r#"{"max_tokens":50.0,"prompt":"p"}"#, &[]);
    assert_eq!(sent["max_tokens"], 50);
}

#[test]
fn context_is_put_before_the_prompt_within_the_same_message() {
    let body = r#"{"prompt":"say \"h\u00ed\""}"#;
    let head = scan(Profile::Ask, body.as_bytes()).unwrap();
    let mut rope = Rope::new();
    rope.push(Bytes::from_static(body.as_bytes()));
    let mut context = context::Context::default();
    context.add("n/k", "{\"a\":1}");
    let mut sent = Vec::new();
    for_upstream(&rope, &head, &context.finish(), &Bytes::from_static(b"\"up\""))
        .iter()
        .for_each(|piece| sent.extend_from_slice(piece));
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["messages"][0]["content"], "Context n/k:\n{\"a\":1}\n\nsay \"hí\"");
}

#[test]
fn a_prompt_is_named_by_the_start_of_its_hash() {
    assert_eq!(PromptHash::of("hi").as_str(), "8f434346648f6b96");
}

#[test]
fn a_plan_line_has_the_keys_clients_know() {
    let candidates = [
        Candidate {
            model: "a",
            cost_per_1k: Picodollars(600_000_000),
            quality: Permille(800),
            latency_p95_ms: Some(900),
        },
        Candidate {
            model: "b\"",
            cost_per_1k: Picodollars(0),
            quality: Permille(1000),
            latency_p95_ms: None,
        },
    ];
    let plan = Plan {
        candidates: &candidates,
        cluster_hint: None,
        prompt_hash: PromptHash::of("hi"),
        reason: "cheapest acceptable first, then the next",
        roles: &[("primary", "a"), ("fallback", "b\"")],
    };
    let want = json!({
        "type": "plan",
        "candidates": [
            {"model": "a", "cost_per_1k": 0.0006, "quality_pred": 0.8, "latency_p95": 900},
            {"model": "b\"", "cost_per_1k": 0, "quality_pred": 1, "latency_p95": null},
        ],
        "cluster_hint": null,
        "prompt_hash": "8f434346648f6b96",
        "reason": "cheapest acceptable first, then the next",
        "roles": [{"role": "primary", "model": "a"}, {"role": "fallback", "model": "b\""}],
    });
    assert_eq!(line(|out| lines::plan(&plan, out)), want);
    let empty = Plan { candidates: &[], roles: &[], cluster_hint: Some("code"), ..plan };
    assert_eq!(line(|out| lines::plan(&empty, out))["cluster_hint"], "code");
}

#[test]
fn chunk_and_escalate_lines_carry_text_as_it_came() {
    let chunk = line(|out| lines::chunk(3, br#"a\"b\n"#, "m", out));
    assert_eq!(chunk, json!({"type": "chunk", "seq": 3, "text": "a\"b\n", "model": "m"}));
    let event = line(|out| lines::escalate("m", out));
    assert_eq!(event, json!({"type": "event", "event": "escalate", "model": "m"}));
}

#[test]
fn a_final_line_says_what_was_measured_and_null_for_the_rest() {
    let answer = Final {
        text: br#"done\n"#,
        model_used: "m",
        usage: Usage { input: 12, output: 34, ..Usage::default() },
        cost: Picodollars(1_234_500_001),
        dearest_cost: Some(Picodollars(4_938_000_004)),
        escalation_count: 1,
        cluster_hint: Some("code"),
        phase: "active",
    };
    let want = json!({
        "type": "final", "text": "done\n", "model_used": "m", "tokens_in": 12, "tokens_out": 34,
        "cost_usd": 0.001235, "savings_pct": 75, "escalation_count": 1, "quality_score": null,
        "cluster_hint": "code", "energy_kwh": null, "co2e_grams": null, "tool_success": null,
        "format_ok": null, "safety_ok": null, "phase": "active",
    });
    assert_eq!(line(|out| lines::last(&answer, out)), want);
    let savings = |cost, dearest: Option<u64>| {
        let answer = Final { cost: Picodollars(cost), dearest_cost: dearest.map(Picodollars), ..answer };
        line(|out| lines::last(&answer, out))["savings_pct"].clone()
    };
    assert_eq!(savings(1, None), Value::Null);
    assert_eq!(savings(0, Some(0)), Value::Null);
    assert_eq!(savings(2, Some(3)), json!(33.33));
    assert_eq!(savings(3, Some(2)), json!(-50));
    assert_eq!(savings(0, Some(u64::MAX)), json!(100));
    let estimated = Final { usage: Usage { estimated: true, ..answer.usage }, ..answer };
    assert_eq!(line(|out| lines::last(&estimated, out))["estimated"], true);
}

proptest! {
    #[test]
    fn any_prompt_arrives_as_it_was_meant(prompt in ".{1,60}", at: prop::sample::Index) {
        let body = json!({"prompt": prompt, "tenant": "x"}).to_string();
        let cut = at.index(body.len() + 1);
        let (sent, plain) = asked(&body, &[cut]);
        prop_assert_eq!(&sent["messages"][0]["content"], &json!(prompt));
        prop_assert_eq!(plain, prompt);
    }

    #[test]
    fn a_cost_is_written_exactly(pico: u64) {
        let answer = Candidate {
            model: "m",
            cost_per_1k: Picodollars(pico),
            quality: Permille(0),
            latency_p95_ms: None,
        };
        let plan = Plan {
            candidates: &[answer],
            cluster_hint: None,
            prompt_hash: PromptHash::of(""),
            reason: "",
            roles: &[],
        };
        let mut out = Vec::new();
        lines::plan(&plan, &mut out);
        let text = String::from_utf8(out).unwrap();
        let written = text.split("cost_per_1k\":").nth(1).unwrap().split(',').next().unwrap();
        let (whole, rest) = written.split_once('.').unwrap_or((written, ""));
        prop_assert_eq!(format!("{whole}{rest:0<12}").parse::<u64>().unwrap(), pico);
    }
}
