//! What is taken out of a line, and what is left in it.

use proptest::prelude::*;

use super::*;

const ABOUT: About<'static> =
    About { at: "2026-01-02T03:04:05Z", level: "WARN", target: "dataplane_io::app" };

fn line(fields: &[(&'static str, &str)]) -> Line {
    let mut line = Line::default();
    fields.iter().for_each(|(name, value)| line.text(name, value));
    line
}

/// As both shapes.
fn written(fields: &[(&'static str, &str)]) -> [String; 2] {
    let line = line(fields);
    [Shape::Text, Shape::Json].map(|shape| line.write(shape, &ABOUT, None))
}

#[test]
fn both_shapes_say_the_same() {
    let mut said =
        line(&[("message", "out of reach"), ("error", "reset\nby \"peer\""), ("file", "/etc/a.yaml")]);
    said.plain("count", &3u64);
    said.plain("is_full", &true);
    let text = said.write(Shape::Text, &ABOUT, None);
    let expected = "2026-01-02T03:04:05Z  WARN out of reach error=reset\\nby \"peer\" file=/etc/a.yaml \
                    count=3 is_full=true";
    assert_eq!(text, expected);
    let json: serde_json::Value = serde_json::from_str(&said.write(Shape::Json, &ABOUT, None)).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2026-01-02T03:04:05Z", "level": "WARN", "message": "out of reach",
        "error": "reset\nby \"peer\"", "file": "/etc/a.yaml", "count": 3, "is_full": true,
        "target": "dataplane_io::app",
    });
    assert_eq!(json, expected);
    let painted = said.write(Shape::Text, &ABOUT, Some("\x1b[33m"));
    assert!(painted.contains("\x1b[33m WARN\x1b[0m out"), "{painted}");
}

#[test]
fn nothing_in_a_line_is_obeyed_by_a_terminal_or_begins_another_line() {
    for text in written(&[("message", "a\x1b[2Jb\r\nINFO forged"), ("error", "\x1b]0;x\x07")]) {
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    }
}

#[test]
fn what_keys_and_prompts_look_like_is_taken_out() {
    for (said, left) in [
        ("authorization: Basic dXNlcjpwYXNz", "authorization: [redacted]"),
        ("Authorization=\"Bearer abc\" x", "Authorization=[redacted] x"),
        (r#"{"x-api-key": "short", "model": "m"}"#, r#"{"x-api-key": [redacted], "model": "m"}"#),
        (r#"{\"x-api-key\":\"short\",\"a\":1}"#, r#"{\"x-api-key\":[redacted],\"a\":1}"#),
        ("sent Bearer s3cret, refused", "sent Bearer [redacted], refused"),
        ("key sk-proj-Ab12cd34EF, and on", "key [redacted], and on"),
        ("atp_0a1B2c3D4e5F is nobody's", "[redacted] is nobody's"),
        ("postgres://me:hunter2@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ("https://me:a@b@host/x?api_key=zz&y=1", "https://[redacted]@host/x?api_key=[redacted]&y=1"),
        ("wss://host/ws?key=zz", "wss://host/ws?key=[redacted]"),
        ("cookie: a=b; c=d", "cookie: [redacted]"),
        ("password=hunter2 host=db", "password=[redacted] host=db"),
        ("REDIS_PASSWORD=hunter2 ATP_API_KEY=short", "REDIS_PASSWORD=[redacted] ATP_API_KEY=[redacted]"),
        ("max_tokens: 5, token_file: a", "max_tokens: 5, token_file: a"),
        ("invalid type: string \"why is it\", expected u64", "invalid type: string [redacted], expected u64"),
        (r#"{"prompt":"why \"so\"?","n":1}"#, r#"{"prompt":[redacted],"n":1}"#),
        (r#"{"messages":[{"content":"why"}]}"#, r#"{"messages":[redacted]"#),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "[redacted]"),
        (
            "a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
            "a [redacted]-----END PRIVATE KEY-----",
        ),
    ] {
        assert_eq!(redacted(said), left);
    }
}

#[test]
fn what_operators_need_is_left() {
    for said in [
        "routes[2].retry.budget_permille: 1200 is above 1000",
        "adapters[0].auth.token: names no variable",
        "connection refused (os error 111)",
        "clients: http://127.0.0.1:7443",
        "https://atp-controlplane.atp.svc.cluster.local:7440",
        "atp-dataplane-production-7d9f8b6c5d-x2x4z",
        "/var/lib/atp/sets/local/3.set",
        "content-type: text/event-stream",
        "token_file: cannot be read",
        "atp_controlplane_tls_retired_total",
        "a bearer of news",
        "others can read this token; chmod 600 it",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    ] {
        assert_eq!(redacted(said), said);
    }
}

#[test]
fn a_value_and_a_line_have_an_end() {
    let edge = "x ".repeat(VALUE_BYTES_MAX / 2);
    assert!(written(&[("error", &edge)])[0].ends_with(&edge));
    let past = written(&[("error", &format!("{edge}yz"))]);
    assert!(
        past[0].ends_with("… (2 bytes more)") && past[0].contains(&edge),
        "{}",
        &past[0][VALUE_BYTES_MAX..]
    );
    let long = written(&[("error", &"é ".repeat(100_000))]);
    assert!(long[0].len() < VALUE_BYTES_MAX + 100, "{}", long[0].len());
    let mut line = Line::default();
    (0..FIELDS_MAX).for_each(|_| line.text("error", &"e"));
    assert!(!line.write(Shape::Text, &ABOUT, None).contains("more"));
    line.plain("count", &1);
    assert!(line.write(Shape::Text, &ABOUT, None).ends_with("(1 fields more)"));
    let json: serde_json::Value = serde_json::from_str(&line.write(Shape::Json, &ABOUT, None)).unwrap();
    assert_eq!(json["fields_left_out"], 1);
}

#[test]
fn libraries_tell_no_details() {
    let may = |target, level| About { at: "", level, target }.may_be_written();
    assert!(may("h2::client", "INFO") && may("h2::client", "ERROR"));
    assert!(!may("h2::client", "DEBUG") && !may("tungstenite::protocol", "TRACE"));
    assert!(!may("protobuf", "DEBUG") && !may("memoryless::x", "TRACE"), "only whole names are ours");
    assert!(may("dataplane_io::serve", "TRACE") && may("atp::up", "DEBUG") && may("cli", "DEBUG"));
}

/// Names of fields that log sites use; `tests/house` looks that there are no others.
const FIELDS: [&str; 8] = ["message", "error", "reason", "what", "why", "fault", "url", "malformed"];

/// What comes around a secret in a text.
fn around() -> impl Strategy<Value = String> {
    "[a-z .,:;()\\[\\]{}<>/\"'\\\\=&?\n-]{0,40}"
}

fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_]{6}[A-Z0-9][A-Za-z0-9]{9,40}"
}

fn planted() -> impl Strategy<Value = (String, String)> {
    let quote = prop_oneof![Just(""), Just("\""), Just("'"), Just("\\\"")];
    let name = prop_oneof![
        Just("authorization"),
        Just("Authorization"),
        Just("x-api-key"),
        Just("X-Api-Key"),
        Just("cookie"),
        Just("set-cookie"),
        Just("password"),
        Just("access_token"),
        Just("resume_token"),
        Just("api_key"),
        Just("secret"),
        Just("prompt"),
        Just("content"),
        Just("input"),
    ];
    let sign = prop_oneof![Just(": "), Just(":"), Just("="), Just(" = "), Just("=>")];
    let named = (name, quote, sign, secret(), prop_oneof![Just(""), Just("Bearer "), Just("Basic ")])
        .prop_map(|(name, quote, sign, secret, scheme)| {
            (format!("{quote}{name}{quote}{sign}{quote}{scheme}{secret}{quote}"), secret)
        });
    let shaped =
        (prop_oneof![Just("sk-"), Just("atp_"), Just("sk-ant-api03-"), Just("ghp_"), Just("eyJ")], secret())
            .prop_map(|(prefix, secret)| (format!("{prefix}{secret}"), secret));
    let scheme = (prop_oneof![Just("Bearer"), Just("bearer"), Just("Basic")], secret())
        .prop_map(|(scheme, secret)| (format!("{scheme} {secret}"), secret));
    let url =
        (secret(), "[a-z]{1,8}").prop_map(|(secret, host)| (format!("https://u:{secret}@{host}/x"), secret));
    let query = (secret(), "[a-z]{1,8}")
        .prop_map(|(secret, host)| (format!("wss://{host}?api_key={secret}"), secret));
    prop_oneof![named, shaped, scheme, url, query]
}

proptest! {
    #[test]
    fn a_secret_planted_in_any_field_is_in_no_line(
        at in 0..FIELDS.len(),
        before in around(),
        (text, secret) in planted(),
        after in around(),
    ) {
        let value = format!("{before} {text} {after}");
        for written in written(&[(FIELDS[at], &value)]) {
            prop_assert!(!written.contains(&secret), "{written}");
        }
    }

    #[test]
    fn a_field_that_is_named_like_a_secret_says_nothing(value in "[a-zA-Z0-9 ]{8,40}") {
        for name in ["authorization", "x-api-key", "cookie", "password", "prompt", "content", "body"] {
            for written in written(&[(name, &value)]) {
                prop_assert!(!written.contains(&value), "{written}");
            }
        }
    }

    #[test]
    fn any_text_makes_a_line_of_json(message in any::<String>(), value in any::<String>()) {
        let line = line(&[("message", &message), ("error", &value)]).write(Shape::Json, &ABOUT, None);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        prop_assert!(!line.contains('\n'));
    }
}
