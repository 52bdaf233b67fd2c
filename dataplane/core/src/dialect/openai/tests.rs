//! Golden streams, cut everywhere: the same bytes, the same counts, the same end.

use proptest::prelude::*;

use super::*;

const CHAT: &str = concat!(
    r#"data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"#,
    r#""delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hel\"lo \u00e9"},"finish_reason":null}]}"#,
    "\n\n: keep-alive\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":" \"usage\":{\"prompt_tokens\":9}"},"#,
    r#""finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13,"#,
    r#""prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
    "\n\ndata: [DONE]\n\n",
);

struct Outcome {
    sent: String,
    progress: Progress,
    end: StreamEnd,
}

fn read(stream: &str, drop_usage: bool, cuts: &[usize]) -> Outcome {
    let mut reader = StreamReader::new(drop_usage);
    let mut out = Rope::new();
    let whole = Bytes::copy_from_slice(stream.as_bytes());
    let mut from = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        reader.push(&whole.slice(from..cut), &mut out).unwrap();
        from = cut;
    }
    let end = reader.end(true);
    let mut sent = Vec::new();
    out.iter().for_each(|piece| sent.extend_from_slice(piece));
    Outcome { sent: String::from_utf8(sent).unwrap(), progress: *reader.progress(), end }
}

/// As [`read`] at once, after making sure that every cut in two, and every byte on its own, gives the same.
fn read_all_ways(stream: &str, drop_usage: bool) -> Outcome {
    let whole = read(stream, drop_usage, &[]);
    let every: Vec<usize> = (1..stream.len()).collect();
    for cuts in (0..stream.len()).map(|cut| vec![cut]).chain([every]) {
        let cut = read(stream, drop_usage, &cuts);
        assert_eq!(
            (&cut.sent, cut.progress, cut.end),
            (&whole.sent, whole.progress, whole.end),
            "cuts {cuts:?}"
        );
    }
    whole
}

fn one(event: &str) -> Outcome {
    read_all_ways(&format!("data: {event}\n\n"), false)
}

#[test]
fn a_stream_passes_through_and_is_counted() {
    for stream in [CHAT.to_string(), CHAT.replace('\n', "\r\n"), CHAT.replace('\n', "\r")] {
        let outcome = read_all_ways(&stream, false);
        assert_eq!((outcome.sent, outcome.end), (stream, StreamEnd::Complete));
        let usage = Usage { input: 11, cached_input: 4, output: 2, reasoning: 1, ..Usage::default() };
        assert_eq!(outcome.progress.usage, Some(usage));
        assert_eq!((outcome.progress.tokens_received, outcome.progress.unread), (2, 0));
        assert!(outcome.progress.is_done && outcome.progress.is_finished() && !outcome.progress.has_error);
    }
}

#[test]
fn the_usage_event_is_dropped_where_the_caller_did_not_ask() {
    for newline in ["\n", "\r\n", "\r"] {
        let stream = CHAT.replace('\n', newline);
        let outcome = read_all_ways(&stream, true);
        let start = stream.find(r#"data: {"id":"c1","choices":[]"#).unwrap();
        let end = stream.find("data: [DONE]").unwrap();
        assert_eq!(outcome.sent, format!("{}{}", &stream[..start], &stream[end..]));
        assert_eq!(outcome.progress.usage.unwrap().input, 11);
    }
    let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
    let stream = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}}}}],{usage}}}\n\n");
    let outcome = read(&stream, true, &[]);
    assert_eq!((outcome.sent, outcome.progress.usage.unwrap().output), (stream, 2));
}

#[test]
fn a_token_is_what_a_model_produced() {
    for (event, tokens) in [
        (r#"{"choices":[{"delta":{"content":"a"}}]}"#, 1),
        (r#"{"choices":[{"delta":{"content":""}}]}"#, 0),
        (r#"{"choices":[{"delta":{"content":null}}]}"#, 0),
        (r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, 0),
        (r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#, 1),
        (r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#, 1),
        (r#"{"choices":[{"delta":{"tool_calls":[]}}]}"#, 0),
        (r#"{"choices":[{"delta":{"refusal":"no"}}]}"#, 1),
        (r#"{"choices":[{"text":"a","index":0}]}"#, 1),
        (r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#, 1),
        (r#"{"content":"a","delta":{"content":"a"},"text":"a"}"#, 0),
        (r#"{"choices":[{"x":{"content":"a"}}]}"#, 0),
        (r#"{"choices":[{"delta":{"x":{"content":"a"}}}]}"#, 0),
        (r#"{"choices":{"delta":{"content":"a"}}}"#, 0),
        (r#"{"choices":["a",["a"],{"delta":"a"}]}"#, 0),
        (r#"{"choices":[{"text":""},"a",["a"]]}"#, 0),
        (r#"{"ch\u006fices":[{"delta":{"c\u006fntent":"a"}}]}"#, 1),
    ] {
        assert_eq!(one(event).progress.tokens_received, tokens, "{event}");
    }
}

#[test]
fn a_stream_is_finished_when_each_choice_that_appeared_is() {
    let choice = |index: u32, reason: &str| {
        format!(r#"{{"choices":[{{"finish_reason":{reason},"delta":{{}},"index":{index}}}]}}"#)
    };
    let events = [choice(0, "null"), choice(1, "null"), choice(0, "\"stop\""), choice(1, "\"length\"")];
    let stream =
        |count: usize| events[..count].iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
    for count in 0..4 {
        assert_eq!(read_all_ways(&stream(count), false).end, StreamEnd::Truncated, "{count} events");
    }
    assert_eq!(read_all_ways(&stream(4), false).end, StreamEnd::CompleteWithoutDone);
    let two = r#"{"choices":[{"index":1,"finish_reason":"stop"},{"finish_reason":null}]}"#;
    assert_eq!(one(two).end, StreamEnd::Truncated, "what one choice says is not taken for the next");
    let two = r#"{"choices":[{"index":0,"finish_reason":null},{"index":1},{"finish_reason":"stop"}]}"#;
    assert_eq!(one(two).end, StreamEnd::Truncated, "a choice without an index is the first");
    assert_eq!(one(&choice(0, "\"\"")).end, StreamEnd::Truncated);
    assert_eq!(one(&choice(500, "\"stop\"")).end, StreamEnd::CompleteWithoutDone);
}

#[test]
fn how_a_stream_ends_follows_from_what_came() {
    let finish = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
    let token = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let error = "data: {\"error\":{\"message\":\"x\"}}\n\n";
    let done = "data: [DONE]\n\n";
    use StreamEnd::{Complete, CompleteWithoutDone, Errored, Truncated};
    for (stream, clean, cut) in [
        (String::new(), Truncated, Truncated),
        (token.into(), Truncated, Truncated),
        (format!("{token}{done}"), Complete, Complete),
        (format!("{token}{finish}"), CompleteWithoutDone, Truncated),
        (format!("{token}{finish}{done}"), Complete, Complete),
        (format!("{token}{finish}data: [DONE]"), CompleteWithoutDone, Truncated),
        (format!("{token}data: [DONE]\n"), CompleteWithoutDone, Truncated),
        (format!("{token}data: {{\"choi"), Truncated, Truncated),
        (format!("{token}{error}"), Errored, Errored),
        (format!("{token}{error}{done}"), Errored, Errored),
        (format!("{token}event: error\ndata: {{\"message\":\"x\"}}\n\n"), Errored, Errored),
        (format!("{token}data: {{\"object\":\"error\",\"message\":\"x\"}}\n\n"), Errored, Errored),
        (format!("{token}data: {{\"error\":null}}\n\n{finish}{done}"), Complete, Complete),
        ("<html>502 Bad Gateway</html>\n\n".into(), Truncated, Truncated),
    ] {
        for (is_clean, want) in [(true, clean), (false, cut)] {
            let mut reader = StreamReader::new(false);
            reader.push(&Bytes::from(stream.clone()), &mut Rope::new()).unwrap();
            assert_eq!(reader.end(is_clean), want, "{stream} clean={is_clean}");
        }
    }
}

#[test]
fn what_is_not_understood_passes_through() {
    for data in ["", " ", "{}", "{\"choices\":7,\"usage\":\"x\",\"error\":false}"] {
        let stream = format!("event: other\nid: 7\ndata: {data}\n\n");
        let outcome = read_all_ways(&stream, true);
        assert_eq!((&outcome.sent, outcome.progress.tokens_received), (&stream, 0));
        assert!(!outcome.progress.has_error && outcome.progress.usage.is_none());
        assert_eq!(outcome.progress.unread, 0);
    }
}

#[test]
fn what_is_no_object_is_taken_out_and_counted_unless_it_is_called_an_error() {
    for data in ["nonsense", "[]", "{\"a\":"] {
        let outcome = read_all_ways(&format!("data: {data}\n\n"), false);
        assert_eq!((outcome.sent.as_str(), outcome.progress.unread), ("", 1));
    }
    let stream = "event: error\ndata: nonsense\n\n";
    let outcome = read_all_ways(stream, false);
    assert_eq!((outcome.sent.as_str(), outcome.progress.unread), (stream, 0));
    assert!(outcome.progress.has_error);
}

#[test]
fn data_of_several_lines_is_one_object() {
    let outcome = read_all_ways(
        "data: {\"usage\":\ndata: {\"prompt_tokens\":3,\ndata:\"completion_tokens\":4}}\n\n",
        false,
    );
    assert_eq!(outcome.progress.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
}

#[test]
fn usage_is_the_last_one_reported_and_only_whole_numbers_count() {
    let stream = "data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n\
                  data: {\"usage\":null}\n\n\
                  data: {\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":5.0}}\n\n\
                  data: {\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":\"9\"}}\n\n\
                  data: {\"x\":{\"usage\":{\"prompt_tokens\":8}}}\n\n";
    let usage = read_all_ways(stream, false).progress.usage;
    assert_eq!(usage, Some(Usage { input: 2, output: 5, ..Usage::default() }));
}

#[test]
fn a_report_with_a_count_that_no_model_reaches_is_as_good_as_none() {
    for (count, is_believed) in
        [(1 << 30, true), ((1 << 30) + 1, false), (u64::from(u32::MAX), false), (u64::MAX, false)]
    {
        for key in ["prompt_tokens", "completion_tokens"] {
            let stream = format!("data: {{\"usage\":{{\"total_tokens\":1,\"{key}\":{count}}}}}\n\n");
            let usage = read_all_ways(&stream, false).progress.usage;
            assert_eq!(usage.is_some(), is_believed, "{key} {count}");
        }
        let details = format!("\"prompt_tokens\":3,\"prompt_tokens_details\":{{\"cached_tokens\":{count}}}");
        let details = format!("data: {{\"usage\":{{{details}}}}}\n\n");
        assert_eq!(read_all_ways(&details, false).progress.usage.is_some(), is_believed, "{count}");
    }
    let earlier = "data: {\"usage\":{\"prompt_tokens\":4}}\n\n\
                   data: {\"usage\":{\"prompt_tokens\":18446744073709551615}}\n\n";
    let usage = read_all_ways(earlier, false).progress.usage;
    assert_eq!(usage, Some(Usage { input: 4, ..Usage::default() }), "what was believed before stays");
}

#[test]
fn text_is_handed_out_as_it_stands_and_nothing_is_sent_on() {
    let every: Vec<usize> = (1..CHAT.len()).collect();
    for cuts in [vec![], vec![300], every] {
        let mut reader = StreamReader::new(true);
        let mut text = Vec::new();
        let whole = Bytes::from_static(CHAT.as_bytes());
        let mut from = 0;
        for &cut in cuts.iter().chain([&CHAT.len()]) {
            reader.push_text(&whole.slice(from..cut), |raw| text.push(raw.to_vec())).unwrap();
            from = cut;
        }
        let joined: Vec<u8> = text.concat();
        let mut plain = Vec::new();
        unescape(&joined, &mut plain);
        assert_eq!(String::from_utf8(plain).unwrap(), "Hel\"lo é \"usage\":{\"prompt_tokens\":9}");
        assert_eq!((reader.progress().tokens_received, reader.end(true)), (2, StreamEnd::Complete));
    }
    let mut plain = Vec::new();
    assert!(text_of(br#"{"choices":[{"message":{"content":"a\nb"},"finish_reason":"stop"}]}"#, &mut plain));
    assert_eq!(plain, b"a\nb");
    assert!(!text_of(br#"{"choices":[]}"#, &mut plain) && !text_of(b"[DONE]", &mut plain));
}

#[test]
fn an_answer_in_one_says_its_usage_however_it_is_cut() {
    let body = concat!(
        r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"{\"usage\":1}"},"#,
        r#""finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"#,
        r#""prompt_tokens_details":null}}"#
    )
    .as_bytes();
    let usage = Some(Usage { input: 7, output: 3, ..Usage::default() });
    for cut in 0..=body.len() {
        let mut reader = BodyReader::new();
        reader.push(&body[..cut]);
        reader.push(&body[cut..]);
        assert_eq!(reader.end(), Answer { usage, is_error: false, is_sound: true });
    }
    let of = |body: &[u8]| {
        let mut reader = BodyReader::new();
        reader.push(body);
        reader.end()
    };
    assert!(of(br#"{"error":{"message":"x"}}"#).is_error);
    let embeddings =
        of(br#"{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#);
    assert_eq!(embeddings.usage, Some(Usage { input: 5, ..Usage::default() }));
    assert!(!of(&body[..40]).is_sound && !of(b"not json").is_sound);
}

proptest! {
    #[test]
    fn random_streams_never_panic_and_lose_no_byte(
        parts in proptest::collection::vec(prop::sample::select(PARTS), 0..12),
        cut: prop::sample::Index,
    ) {
        let stream = parts.concat();
        let whole = read(&stream, false, &[]);
        let cut = cut.index(stream.len() + 1);
        if stream.is_char_boundary(cut) {
            let halves = read(&stream, false, &[cut]);
            prop_assert_eq!(&halves.sent, &whole.sent);
            prop_assert_eq!((halves.progress, halves.end), (whole.progress, whole.end));
        }
        prop_assert!(whole.progress.unread > 0 || stream.starts_with(&whole.sent));
    }
}

const PARTS: &[&str] = &[
    "data: ",
    "data:",
    "{",
    "}",
    "[",
    "]",
    "\"choices\":",
    "\"delta\":{\"content\":\"é\"}",
    "\"usage\":{\"prompt_tokens\":1}",
    "\"finish_reason\":\"stop\"",
    "\"error\":{}",
    "\"index\":0",
    ",",
    "\n",
    "\n\n",
    "\r\n\r\n",
    "[DONE]",
    ": ping\n",
    "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
    "data: [DONE]\n\n",
    "event: error\n",
];
