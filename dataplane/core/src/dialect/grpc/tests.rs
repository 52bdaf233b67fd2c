//! Chunks, cut everywhere; statuses, each; messages to and fro.

use bytes::Bytes;
use proto_core::wire::atp::adapter::v1::{EstimateResponse, HealthResponse, StreamChunk, StreamRequest};
use serde_json::{Value, json};

use super::*;
use crate::bill::Usage;
use crate::dialect::openai::chunks::Chunks;
use crate::dialect::openai::merge::Merger;
use crate::dialect::openai::{StreamEnd, StreamReader};
use crate::dialect::rope::Rope;
use crate::fault::{Fault, Kind, Retry};

fn chunk(kind: &str, content: Value, tokens: (u64, u64)) -> Vec<u8> {
    framed(&StreamChunk {
        r#type: kind.into(),
        content_json: content.to_string(),
        partial_in_tokens: tokens.0,
        partial_out_tokens: tokens.1,
        ..StreamChunk::default()
    })
}

fn partial(content: Value) -> Vec<u8> {
    chunk("agent.result.partial", content, (0, 1))
}

type Outcome = (String, Result<(), Fault>);

fn read(body: &[u8], cuts: &[usize], status: Status) -> Outcome {
    let mut pieces = Pieces::new(Chunks::new("chatcmpl-1", 5, "m"));
    let (mut out, mut from, mut result) = (Rope::new(), 0, Ok(()));
    for &cut in cuts.iter().chain([&body.len()]) {
        result = result.and_then(|()| pieces.push(&body[from..cut], &mut out));
        from = cut;
    }
    let result = result.and_then(|()| pieces.end(status, &mut out));
    let mut sent = Vec::new();
    out.iter().for_each(|piece| sent.extend_from_slice(piece));
    (String::from_utf8(sent).unwrap(), result)
}

fn read_all_ways(messages: &[Vec<u8>], status: Status) -> Outcome {
    let body = messages.concat();
    let whole = read(&body, &[], status);
    let every: Vec<usize> = (1..body.len()).collect();
    for cuts in (0..body.len()).map(|cut| vec![cut]).chain([every]) {
        assert_eq!(read(&body, &cuts, status), whole, "cuts {cuts:?}");
    }
    whole
}

fn understood(sent: &str) -> (StreamEnd, Option<Usage>, Value) {
    let (mut reader, mut merger) = (StreamReader::new(false), Merger::default());
    reader
        .push_data(&Bytes::copy_from_slice(sent.as_bytes()), |data| merger.on_chunk(&data).unwrap())
        .unwrap();
    assert_eq!(reader.progress().unread, 0, "{sent}");
    let end = reader.end(true);
    (end, reader.progress().usage, serde_json::from_slice(&merger.finish()).unwrap())
}

#[test]
fn partials_are_one_text_and_their_counts_one_bill() {
    let messages = [
        chunk("agent.result.partial", json!({"text": "Hel\nlo"}), (7, 1)),
        chunk("", json!(" wörld"), (0, 2)),
        chunk("agent.result.provisional", json!({"text": "not this"}), (0, 0)),
        chunk("agent.result.final", json!({"content": "!"}), (0, 1)),
        partial(json!("nobody's")),
    ];
    let (sent, result) = read_all_ways(&messages, Status::OK);
    assert_eq!(result, Ok(()));
    let (end, usage, answer) = understood(&sent);
    assert_eq!(end, StreamEnd::Complete);
    assert_eq!(usage, Some(Usage { input: 7, output: 4, ..Usage::default() }));
    assert_eq!(answer["choices"][0]["message"]["content"], "Hel\nlo wörld!");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_final_chunk_that_repeats_what_was_said_adds_only_what_is_new() {
    let text = |last: Value| {
        let messages =
            [partial(json!("one ")), partial(json!("two")), chunk("agent.result.final", last, (0, 0))];
        let (_, _, answer) = understood(&read_all_ways(&messages, Status::OK).0);
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(text(json!({"text": "one two three"})), "one two three");
    assert_eq!(text(json!({"text": "one two"})), "one two");
    assert_eq!(text(json!({"text": " and three"})), "one two and three");
    assert_eq!(text(json!("öne two")), "one twoöne two");
    assert_eq!(text(json!(null)), "one two");
}

#[test]
fn chunks_in_openais_own_words_pass_with_their_tool_calls() {
    let call =
        json!({"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let messages = [
        partial(json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]})),
        partial(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})),
    ];
    let (sent, _) = read_all_ways(&messages, Status::OK);
    let (end, _, answer) = understood(&sent);
    assert_eq!(end, StreamEnd::Complete);
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f");
    assert_eq!(sent.matches("finish_reason\":\"").count(), 1, "the end is said once: {sent}");
}

#[test]
fn an_answer_ends_only_with_its_status() {
    let messages = [partial(json!("a"))];
    assert_eq!(understood(&read_all_ways(&messages, Status::OK).0).0, StreamEnd::Complete);
    let (sent, result) = read_all_ways(&messages, Status(14));
    assert_eq!(result.unwrap_err().kind, Kind::Status { code: 503, retry_after_s: None });
    assert_eq!(understood(&sent).0, StreamEnd::Truncated);
    let cut = [partial(json!("a")), partial(json!("b"))[..9].to_vec()];
    assert_eq!(read_all_ways(&cut, Status::OK).1.unwrap_err().kind, Kind::Truncated);
    let error = [chunk("agent.result.error", json!({"error": {"message": "no"}}), (0, 0))];
    let (sent, result) = read_all_ways(&error, Status::OK);
    assert_eq!((result, understood(&sent).0), (Ok(()), StreamEnd::Errored));
    assert!(sent.contains(r#""message":"no""#), "{sent}");
}

#[test]
fn what_is_no_message_is_garbled_and_so_is_one_past_its_limit() {
    let garbled = |body: &[u8]| read(body, &[], Status::OK).1.unwrap_err().kind;
    assert_eq!(garbled(&[1, 0, 0, 0, 0]), Kind::Garbled, "compressed");
    assert_eq!(garbled(&[0, 0, 0, 0, 1, 0xff]), Kind::Garbled);
    let not_json = StreamChunk { content_json: "{".into(), ..StreamChunk::default() };
    assert_eq!(garbled(&framed(&not_json)), Kind::Garbled);
    let of = |length: usize| [&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat();
    assert_eq!(garbled(&of(MESSAGE_BYTES_MAX + 1)), Kind::Garbled);
    assert_eq!(garbled(&of(MESSAGE_BYTES_MAX)), Kind::Truncated);
}

#[test]
fn each_status_is_the_fault_its_meaning_is() {
    let of = |code: u32| fault(Status(code)).map(|fault| (fault.kind, fault.retry));
    let status = |code: u16| Kind::Status { code, retry_after_s: None };
    assert_eq!(of(0), None);
    let expected = [
        (1, Kind::Reset, Retry::ElsewhereAtCost),
        (2, status(500), Retry::ElsewhereAtCost),
        (3, status(400), Retry::Never),
        (4, status(504), Retry::ElsewhereAtCost),
        (5, status(404), Retry::Never),
        (6, status(409), Retry::Never),
        (7, Kind::CredentialsRefused, Retry::Elsewhere),
        (8, status(429), Retry::Elsewhere),
        (9, status(400), Retry::Never),
        (10, status(409), Retry::Never),
        (11, status(400), Retry::Never),
        (12, status(501), Retry::ElsewhereAtCost),
        (13, status(500), Retry::ElsewhereAtCost),
        (14, status(503), Retry::Elsewhere),
        (15, status(500), Retry::ElsewhereAtCost),
        (16, Kind::CredentialsRefused, Retry::Elsewhere),
        (99, status(500), Retry::ElsewhereAtCost),
    ];
    for (code, kind, retry) in expected {
        assert_eq!(of(code), Some((kind, retry)), "{code}");
    }
    assert_eq!(
        (Status::parse(b"14"), Status::parse(b"x"), Status::parse(b"")),
        (Status(14), Status(2), Status(2))
    );
}

#[test]
fn a_prompt_carries_the_request_and_the_text_of_its_last_message() {
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]});
    let told: Value = serde_json::from_str(&prompt(body.to_string().as_bytes()).unwrap()).unwrap();
    assert_eq!((&told["prompt"], &told["messages"]), (&json!("a\nb"), &body["messages"]));
    let own: Value = serde_json::from_str(&prompt(br#"{"prompt":"own"}"#).unwrap()).unwrap();
    assert_eq!(own["prompt"], "own");
    let frame = stream("s1", "{}".into());
    let told = <StreamRequest as prost::Message>::decode(&frame[5..]).unwrap();
    assert_eq!((told.stream_id.as_str(), told.prompt_json.as_str(), frame[0]), ("s1", "{}", 0));
}

#[test]
fn a_prompt_past_what_a_message_holds_is_refused() {
    let body = |bytes: usize| {
        let empty = r#"{"prompt":""}"#.len();
        format!("{{\"prompt\":\"{}\"}}", "x".repeat(bytes - empty))
    };
    let most = MESSAGE_BYTES_MAX - 1024;
    assert!(prompt(body(most).as_bytes()).is_ok());
    for body in [body(most + 1), json!({"messages": [{"content": "x".repeat(most / 2 + 1)}]}).to_string()] {
        assert_eq!(prompt(body.as_bytes()).unwrap_err().kind, Kind::BodyTooLarge { limit: most as u64 });
    }
}

#[test]
fn a_message_is_read_without_its_percent_signs() {
    assert_eq!(message(b"no%20such%20m%C3%B6del"), "no such m\u{f6}del");
    assert_eq!(message(b"100% %zz %4"), "100% %zz %4");
    assert_eq!(message(&[b'x'; 5000]).len(), 4096);
    assert_eq!(message(b"%ff"), "\u{fffd}");
}

#[test]
fn estimates_and_health_are_read_and_nonsense_is_not_believed() {
    let told = EstimateResponse { in_tokens: 9, out_tokens: 4, variance_tokens: 2.5, ..Default::default() };
    assert_eq!(Estimate::read(&framed(&told)), Some(Estimate { input: 9, variance: 2.5 }));
    let most = EstimateResponse { in_tokens: 1 << 30, ..told.clone() };
    assert!(Estimate::read(&framed(&most)).is_some());
    let nonsense = EstimateResponse { in_tokens: (1 << 30) + 1, ..told.clone() };
    assert_eq!(Estimate::read(&framed(&nonsense)), None);
    let endless = EstimateResponse { variance_tokens: f64::INFINITY, ..told };
    assert_eq!(Estimate::read(&framed(&endless)).map(|estimate| estimate.variance), Some(0.0));
    assert_eq!(Estimate::read(b""), None);
    assert_eq!(health_of(&framed(&HealthResponse { p95_ms: 12.0, error_rate: 0.5 })), Some((12.0, 0.5)));
    assert_eq!(health_of(&framed(&HealthResponse { p95_ms: 12.0, error_rate: 7.0 })), None);
    assert_eq!(health_of(&framed(&HealthResponse { p95_ms: f64::NAN, error_rate: 0.0 })), None);
}
