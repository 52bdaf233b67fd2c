//! Frames of every kind, for properties: all fields, unknown keys in every object, nulls that were sent,
//! numbers at the ends of their ranges, text from all of Unicode.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::super::{CostEst, Number};
use super::*;

pub fn text() -> BoxedStrategy<String> {
    let any_character = vec(any::<char>(), 0..8).prop_map(|chars| chars.into_iter().collect());
    prop_oneof![3 => "[a-zA-Z0-9:_.-]{0,12}", 1 => any_character].boxed()
}

pub fn number() -> BoxedStrategy<Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::Positive),
        any::<u64>().prop_map(Number::Negative),
        (0..100_u64).prop_map(Number::Positive),
        any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(Number::Float),
        prop::sample::select(vec![0.0, -0.0, 1.0, 1e16, 1e15, 1e-4, 1e-5, 5e-324, f64::MAX])
            .prop_map(Number::Float),
    ]
    .boxed()
}

/// JSON text, with blanks and escapes that no writer of ours makes.
pub fn json() -> BoxedStrategy<RawJson> {
    let string =
        |text: &str| serde_json::to_string(text).unwrap().replace('/', "\\/").replace('Z', "\\u005a");
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        number().prop_map(|number| {
            let mut out = String::new();
            number.write_json(&mut out);
            out
        }),
        prop::sample::select(vec!["1.50", "1E5", "0.10e+2", "-1e-7"]).prop_map(str::to_owned),
        text().prop_map(move |text| string(&text)),
    ];
    let nested = leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            btree_map(text(), inner, 0..5).prop_map(move |entries| {
                // Backwards, so that no order of ours is met by luck.
                let entries = entries.iter().rev().map(|(key, value)| format!("{} :{value}", string(key)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }),
        ]
    });
    nested.prop_map(|json| RawJson::parse(json).unwrap()).boxed()
}

/// Unknown keys never collide with fields: those have no `?`.
fn ext(fields: &'static [&'static str]) -> BoxedStrategy<Ext> {
    let unknown = btree_map(text().prop_map(|key| format!("{key}?")), json(), 0..3);
    let nulls = prop::sample::subsequence(fields, 0..=fields.len());
    (unknown, nulls)
        .prop_map(|(unknown, nulls)| {
            let mut ext = Ext::default();
            unknown.into_iter().for_each(|(key, value)| ext.insert(key.into(), value));
            nulls.into_iter().for_each(|field| ext.insert(Text::of_static(field), RawJson::NULL));
            ext
        })
        .boxed()
}

fn name() -> BoxedStrategy<Text> {
    text().prop_map(Text::from).boxed()
}

fn flag_list() -> BoxedStrategy<Flags> {
    let known = vec!["ACK", "SYN", "MORE", "FRAG", "LAST", "FIN", "ECN", "capability", "syn", "X"];
    prop_oneof![
        (0..1_u16 << 13).prop_map(|bits| FlagSet::of_bits(bits).unwrap().into()),
        vec(prop::sample::select(known), 0..5).prop_map(|list| super::flags(&list)),
    ]
    .boxed()
}

fn qos() -> BoxedStrategy<Qos> {
    let words = vec!["gold", "silver", "bronze", "platinum", "Gold", ""];
    prop::sample::select(words).prop_map(|word| Qos::of_text(word.into())).boxed()
}

fn window() -> BoxedStrategy<Window> {
    (any::<u32>(), any::<u64>(), any::<u64>())
        .prop_map(|(max_parallel, max_tokens, max_usd_micros)| Window {
            max_parallel,
            max_tokens,
            max_usd_micros,
        })
        .boxed()
}

/// Takes the nulls of fields that have a value away.
fn settle(ext: &mut Ext, fields: &[(&str, bool)]) {
    fields.iter().filter(|(_, has_value)| *has_value).for_each(|(field, _)| drop(ext.remove(field)));
}

fn meta() -> BoxedStrategy<Meta> {
    let list = || of(vec(name(), 0..4));
    let trace = of(json().prop_filter("null is no value", |json| !json.is_null()));
    let fields = &["task_type", "languages", "trace", "environment_id"];
    let names = (of(name()), of(name()), of(name()));
    (names, (list(), list(), list(), list()), trace, ext(fields))
        .prop_map(|(names, lists, trace, ext)| {
            let mut meta = Meta {
                task_type: names.0,
                risk: names.1,
                environment_id: names.2,
                languages: lists.0,
                data_scope: lists.1,
                tool_permissions: lists.2,
                security_groups: lists.3,
                trace,
                ext,
            };
            let set = [
                ("task_type", meta.task_type.is_some()),
                ("languages", meta.languages.is_some()),
                ("trace", meta.trace.is_some()),
                ("environment_id", meta.environment_id.is_some()),
            ];
            settle(&mut meta.ext, &set);
            meta
        })
        .boxed()
}

fn payload() -> BoxedStrategy<Payload> {
    let share = prop_oneof![
        (0.0..=1.0).prop_map(Number::Float),
        (0..=1_u64).prop_map(Number::Positive),
        Just(Number::Float(-0.0)),
    ];
    let cost = of(((any::<u64>(), any::<u64>(), any::<u64>()), ext(&[])));
    let numbers = (of(any::<u64>()), of(any::<u64>()), of(any::<u64>()));
    let names = (of(name()), of(name()), of(name()));
    let fields = &["confidence", "cost_est", "checksum", "expiry_ms", "seq"];
    (name(), json(), of(share), cost, numbers, names, ext(fields))
        .prop_map(|(kind, content, confidence, cost, numbers, names, ext)| {
            let mut payload = Payload { confidence, ext, ..Payload::new(kind, content) };
            if let Some(((in_tokens, out_tokens, usd_micros), ext)) = cost {
                payload.cost_est = Some(CostEst { in_tokens, out_tokens, usd_micros });
                payload.cost_ext = ext;
            }
            (payload.expiry_ms, payload.clone_id, payload.seq) = numbers;
            (payload.checksum, payload.session_id, payload.persona_id) = names;
            let set = [
                ("confidence", payload.confidence.is_some()),
                ("cost_est", payload.cost_est.is_some()),
                ("checksum", payload.checksum.is_some()),
                ("expiry_ms", payload.expiry_ms.is_some()),
                ("seq", payload.seq.is_some()),
            ];
            settle(&mut payload.ext, &set);
            payload
        })
        .boxed()
}

pub fn frame() -> BoxedStrategy<Frame> {
    let telemetry = of(json().prop_filter("an object", |json| json.as_str().starts_with('{')));
    let numbers = (any::<u64>(), any::<u32>(), any::<u8>());
    let names = (of(name()), of(name()), of(name()), of(name()), of(name()));
    let words = (flag_list(), qos(), window(), ext(&[]));
    let fields = &["sig", "checksum", "nonce", "kid", "telemetry", "adapter"];
    ((name(), name()), numbers, words, meta(), payload(), names, telemetry, ext(fields))
        .prop_map(|(ids, numbers, words, meta, payload, names, telemetry, ext)| {
            let mut frame = Frame {
                session_id: ids.0,
                stream_id: ids.1,
                msg_seq: numbers.0,
                frag_seq: numbers.1,
                ttl: numbers.2,
                flags: words.0,
                qos: words.1,
                window: words.2,
                window_ext: words.3,
                meta,
                payload,
                sig: names.0,
                checksum: names.1,
                nonce: names.2,
                kid: names.3,
                adapter: names.4,
                telemetry,
                ext,
            };
            let set = [
                ("sig", frame.sig.is_some()),
                ("checksum", frame.checksum.is_some()),
                ("nonce", frame.nonce.is_some()),
                ("kid", frame.kid.is_some()),
                ("adapter", frame.adapter.is_some()),
                ("telemetry", frame.telemetry.is_some()),
            ];
            settle(&mut frame.ext, &set);
            frame
        })
        .boxed()
}
