//! Any tree a resource can be, written in any style: it means the same and has the same canonical bytes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::read;
use crate::parse::{Source, documents, resource_json, to_yaml};

/// An object of fields, each there or not.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            prop::option::of(value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object.as_object_mut().unwrap().insert(name.into(), value);
    object
}

fn number(range: std::ops::RangeInclusive<u64>) -> BoxedStrategy<Value> {
    range.prop_map(|number| json!(number)).boxed()
}

fn word(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(words).prop_map(|word| json!(word)).boxed()
}

/// Exact decimals as number and as text, with and without an exponent.
fn usd() -> BoxedStrategy<Value> {
    (0..=1_000_000_000u64, any::<bool>())
        .prop_map(|(micros, as_text)| {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            if as_text { json!(text) } else { serde_json::from_str(&text).unwrap() }
        })
        .boxed()
}

fn name() -> BoxedStrategy<String> {
    // Words YAML could take for something else are names as well.
    let tricky = prop::sample::select(vec![
        "null", "true", "no", "y", "007", "1e3", "0x1f", "1.5", "a--b", "0o7", "12",
    ]);
    prop_oneof![tricky.prop_map(str::to_owned), "[a-z0-9][a-z0-9._-]{0,20}"]
        .prop_filter("auto is reserved", |name| name != "auto")
        .boxed()
}

fn model_name() -> BoxedStrategy<String> {
    prop_oneof![name(), "[A-Za-z0-9_.:/@+?=&-]{1,40}"]
        .prop_filter("auto is reserved", |name| name != "auto")
        .boxed()
}

fn reference() -> BoxedStrategy<Value> {
    prop_oneof!["\\$\\{[A-Z_][A-Z0-9_]{0,9}\\}", "file:[ -~]{1,20}", "file:\\PC{1,20}"]
        .prop_map(|text| json!(text))
        .boxed()
}

fn adapter() -> BoxedStrategy<Value> {
    let price =
        (usd(), usd(), object(vec![("cached_in", usd()), ("cache_write", usd()), ("reasoning", usd())]))
            .prop_map(|(input, output, rest)| with(with(rest, "in", input), "out", output));
    let quality = (0..=1000u32).prop_map(|permille| json!(f64::from(permille) / 1000.0));
    let model = object(vec![
        ("upstream_name", model_name().prop_map(|name| json!(name)).boxed()),
        ("context_tokens", number(1..=1_000_000_000_000)),
        ("price", price.boxed()),
        ("quality", quality.boxed()),
        ("latency_p95_ms", number(1..=86_400_000)),
        ("status", word(&["active", "shadow", "fallback"])),
        ("safety_grade", word(&["A", "B", "C", "D"])),
    ]);
    let models = prop::collection::btree_map(model_name(), model, 1..4).prop_map(|models| {
        models.into_iter().map(|(name, model)| with(model, "name", json!(name))).collect::<Vec<_>>()
    });
    let auth = prop_oneof![
        reference().prop_map(|bearer| json!({ "bearer": bearer })),
        reference().prop_map(|value| json!({ "header": "X-Api-Key", "value": value })),
    ];
    let openai = object(vec![("auth", auth.boxed()), ("tls", Just(json!({ "ca": "a: b # c" })).boxed())])
        .prop_map(|openai| {
            with(with(openai, "kind", json!("openai")), "endpoint", json!("https://[::1]:8443/v1"))
        });
    let echo =
        object(vec![("first_token_ms", number(0..=600_000)), ("tokens_per_second", number(0..=1_000_000))])
            .prop_map(|echo| json!({ "kind": "echo", "echo": echo }));
    let limits = object(vec![
        ("max_parallel", number(1..=1_000_000)),
        ("max_tokens_in_flight", number(1..=1_000_000_000_000)),
    ]);
    (prop_oneof![openai, echo], models, limits)
        .prop_map(|(kind, models, limits)| with(with(kind, "models", json!(models)), "limits", limits))
        .boxed()
}

fn route() -> BoxedStrategy<Value> {
    let candidates = prop::collection::btree_map((name(), model_name()), number(1..=1_000_000), 1..5)
        .prop_map(|all| {
            all.into_iter()
            .map(|((adapter, model), weight)| json!({ "adapter": adapter, "model": model, "weight": weight }))
            .collect::<Vec<_>>()
        });
    let matches = object(vec![
        ("task_type", "\\PC{1,30}".prop_map(|text| json!(text)).boxed()),
        (
            "model",
            prop_oneof![Just("auto".to_owned()), Just("*".to_owned()), model_name()]
                .prop_map(|text| json!(text))
                .boxed(),
        ),
        ("tenant", prop_oneof![Just("*".to_owned()), name()].prop_map(|text| json!(text)).boxed()),
    ]);
    let rest = object(vec![
        ("match", matches),
        ("strategy", word(&["weighted", "cheapest_acceptable", "ucb", "thompson"])),
        ("fallback", word(&["on-refusal", "on-error", "never"])),
        ("retry", object(vec![("attempts", number(1..=8)), ("budget_permille", number(0..=1000))])),
        (
            "timeout",
            object(vec![("first_token_ms", number(1..=86_400_000)), ("total_ms", Just(Value::Null).boxed())]),
        ),
        ("challenger", object(vec![("enabled", any::<bool>().prop_map(|on| json!(on)).boxed())])),
    ]);
    (candidates, rest).prop_map(|(candidates, rest)| with(rest, "candidates", json!(candidates))).boxed()
}

fn tenant() -> BoxedStrategy<Value> {
    let keys = prop::collection::vec("[0-9a-fA-F]{64}", 1..4)
        .prop_map(|hashes| hashes.into_iter().map(|hash| json!({ "sha256": hash })).collect::<Vec<_>>());
    let rest = object(vec![
        ("weight", number(1..=1000)),
        ("qos", word(&["gold", "silver", "bronze"])),
        (
            "window",
            object(vec![
                ("max_parallel", number(1..=1_000_000)),
                ("max_usd_micros", number(1..=18_446_744_073_709)),
            ]),
        ),
        ("budget", object(vec![("tokens_per_minute", number(0..=1_000_000_000_000))])),
    ]);
    (keys, rest).prop_map(|(keys, rest)| with(rest, "keys", json!(keys))).boxed()
}

fn document() -> BoxedStrategy<Value> {
    let specs = prop_oneof![
        adapter().prop_map(|spec| ("Adapter", spec)),
        route().prop_map(|spec| ("Route", spec)),
        tenant().prop_map(|spec| ("Tenant", spec)),
    ];
    (specs, name())
        .prop_map(|((kind, spec), name)| {
            let name = if kind == "Tenant" && name == "public" { "publik".into() } else { name };
            json!({ "kind": kind, "name": name, "spec": spec })
        })
        .boxed()
}

/// The same value in one of several spellings: pretty or compact, escaped or not, names in another order.
fn spelled(value: &Value, style: u8) -> String {
    match style {
        0 => value.to_string(),
        1 => serde_json::to_string_pretty(value).unwrap(),
        2 => serde_json::to_string_pretty(value).unwrap().replace('\n', "\r\n"),
        _ => to_yaml(&value.to_string()),
    }
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect();
            Value::Object(fields)
        }
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn any_resource_in_any_spelling_means_the_same(value in document()) {
        let first = resource_json(value.to_string().as_bytes());
        let first = first.map_err(|mistakes| TestCaseError::fail(format!("{value}: {mistakes:?}")))?;
        for style in 0..4 {
            let spelled = spelled(&value, style);
            let again = documents(&[Source { file: "f", content: spelled.as_bytes() }]);
            let again = again.map_err(|mistakes| TestCaseError::fail(format!("{spelled}: {mistakes:?}")))?;
            prop_assert_eq!(&again.documents[0].resource, &first.resource, "{}", spelled);
            prop_assert_eq!(&again.documents[0].json, &first.json, "{}", spelled);
        }
        let backwards = resource_json(reversed(&value).to_string().as_bytes()).unwrap();
        prop_assert_eq!(backwards.json, first.json);
    }

    #[test]
    fn canonical_json_is_json_with_the_same_value(value in document()) {
        let canonical = resource_json(value.to_string().as_bytes()).unwrap().json;
        prop_assert_eq!(serde_json::from_str::<Value>(&canonical).unwrap(), value);
        prop_assert_eq!(&resource_json(canonical.as_bytes()).unwrap().json, &canonical);
    }

    #[test]
    fn any_text_survives_json_and_yaml(text in "\\PC{1,40}|[ -~]{1,40}|[\u{80}-\u{ffff}]{1,10}") {
        let text: String = text.chars().filter(|character| !character.is_control()).collect();
        prop_assume!(!text.is_empty() && text.len() <= 128);
        let value = json!({
            "kind": "Route", "name": "r",
            "spec": { "candidates": [{ "adapter": "a", "model": "m" }], "match": { "task_type": text } },
        });
        let document = resource_json(value.to_string().as_bytes()).unwrap();
        let crate::model::Resource::Route(route) = &document.resource else { panic!("a route") };
        if text != "*" {
            prop_assert_eq!(route.matches.task_type.as_deref(), Some(&*text));
        }
        let yaml = to_yaml(&document.json);
        let again = read(&yaml).map_err(|mistakes| TestCaseError::fail(format!("{yaml}: {mistakes:?}")))?;
        prop_assert_eq!(&again.documents[0].json, &document.json);
    }
}
