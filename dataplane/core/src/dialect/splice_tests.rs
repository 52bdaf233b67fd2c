//! The spliced body means what serde_json makes of the same change.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::scan::{Profile, scan};
use super::*;

fn rope_of(body: &str, cuts: &[usize]) -> Rope {
    let whole = Bytes::copy_from_slice(body.as_bytes());
    let mut rope = Rope::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&body.len()]) {
        rope.push(whole.slice(from..cut));
        from = cut;
    }
    rope
}

fn text(rope: &Rope) -> String {
    let mut bytes = Vec::new();
    rope.copy(Span { start: 0, end: u64::MAX }, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn spliced(body: &str, model: &str) -> String {
    let head = scan(Profile::Chat, body.as_bytes()).unwrap();
    let model = Bytes::from(format!("\"{model}\""));
    let whole = text(&for_upstream(&rope_of(body, &[]), &head, &model));
    for cut in 0..body.len() {
        assert_eq!(text(&for_upstream(&rope_of(body, &[cut]), &head, &model)), whole, "cut at {cut}");
    }
    let every: Vec<usize> = (1..body.len()).collect();
    assert_eq!(text(&for_upstream(&rope_of(body, &every), &head, &model)), whole);
    whole
}

#[test]
fn only_the_models_name_changes_where_there_is_no_stream() {
    assert_eq!(
        spliced(r#"{ "a" : 1, "model" : "x" ,"b":2 }"#, "up"),
        r#"{ "a" : 1, "model" : "up" ,"b":2 }"#
    );
    assert_eq!(
        spliced(r#"{"model":"x","stream":false,"stream_options":null}"#, "up"),
        r#"{"model":"up","stream":false,"stream_options":null}"#
    );
}

#[test]
fn a_stream_asks_for_usage_whatever_its_options_were() {
    for (body, want) in [
        (
            r#"{"model":"x","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"up","stream":true}"#,
        ),
        (
            r#"{"model":"x","stream":true,"stream_options":null}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{},"model":"x","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"up","stream":true}"#,
        ),
        (
            r#"{"model":"x","stream":true,"stream_options": { "a":1 } }"#,
            r#"{"model":"up","stream":true,"stream_options": {"include_usage":true, "a":1 } }"#,
        ),
        (
            r#"{"model":"x","stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"x","stream":true,"stream_options":{"include_usage":null,"b":2}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true,"b":2}}"#,
        ),
        (
            r#"{"model":"x","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        assert_eq!(spliced(body, "up"), want);
    }
}

#[test]
fn a_body_that_is_right_already_keeps_its_very_pieces() {
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let head = scan(Profile::Chat, body.as_bytes()).unwrap();
    let rope = rope_of(body, &[7, 30]);
    let out = for_upstream(&rope, &head, &Bytes::from_static(b"\"m\""));
    assert_eq!(out.count(), 3);
    assert!(rope.iter().zip(out.iter()).all(|(before, after)| before.as_ptr() == after.as_ptr()));
}

#[test]
fn the_rest_of_the_body_is_the_callers_own_memory() {
    let body = r#"{"model":"m","messages":[]}"#;
    let head = scan(Profile::Chat, body.as_bytes()).unwrap();
    let rope = rope_of(body, &[]);
    let out = for_upstream(&rope, &head, &Bytes::from_static(b"\"longer\""));
    let pieces: Vec<&Bytes> = out.iter().collect();
    let start = rope.iter().next().unwrap().as_ptr();
    assert_eq!((pieces.len(), pieces[0].as_ptr()), (3, start));
    assert_eq!(pieces[2].as_ptr(), start.wrapping_add(12));
}

#[test]
fn a_name_written_with_escapes_is_the_same_name() {
    let body = r#"{"model":"\u006d"}"#;
    assert_eq!(spliced(body, "m"), body);
    // A backslash in our own name is an escape, in the caller's (unescaped here) it is a character.
    assert_eq!(spliced(r#"{"model":"a\\nb"}"#, r"a\nb"), r#"{"model":"a\nb"}"#);
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(200));
    assert_eq!(spliced(&long, "m"), r#"{"model":"m"}"#);
}

proptest! {
    #[test]
    fn the_spliced_body_means_the_callers_with_those_two_values_set(
        body in super::super::scan::tests::body(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        // serde_json refuses numbers beyond an f64; they are not the point here.
        let body = body.replace("1e999999", "7");
        let Ok(head) = scan(Profile::Chat, body.as_bytes()) else { return Ok(()) };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let rope = rope_of(&body, &cuts);
        let out = for_upstream(&rope, &head, &Bytes::from_static(b"\"up/stream\""));
        prop_assert_eq!(out.len(), text(&out).len() as u64);
        let mut want: Value = serde_json::from_str(&body).unwrap();
        want["model"] = json!("up/stream");
        if want["stream"] == json!(true) {
            if !want["stream_options"].is_object() {
                want["stream_options"] = json!({});
            }
            want["stream_options"]["include_usage"] = json!(true);
        }
        let have: Value = serde_json::from_str(&text(&out)).unwrap();
        // Reading an absent key through `[]` leaves a null behind in `want`, not in `have`.
        prop_assert_eq!(without_nulls(have), without_nulls(want));
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, value| !value.is_null());
    }
    value
}
