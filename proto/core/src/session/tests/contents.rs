//! Contents of the protocol's own frames, as they are on the wire.

use std::time::Duration;

use super::kit::window;
use super::*;
use crate::frame::{Code, Encoding, RawJson};
use crate::session::content::{Missing, Said, of_missing, of_refusal, said};
use crate::session::syn::Asked;

fn raw(json: &str) -> RawJson {
    RawJson::parse(json.to_owned()).unwrap()
}

const LIMITS: &str = r#"{"frame_bytes":1048576,"message_bytes":16777216,"fragments":4096,
    "streams":1024,"replay_bytes":262144,"session_bytes":1048576}"#;

fn received() -> Vec<Received> {
    vec![Received { stream_id: "s1".into(), msg_seq: 3 }, Received { stream_id: "~1".into(), msg_seq: 0 }]
}

#[test]
fn an_opening_is_read_back_as_it_was_written() {
    let mut asked = Asked {
        encodings: vec![Encoding::Bin, Encoding::Json],
        heartbeat: Duration::from_secs(5),
        wants_resume: true,
        resume: None,
        limits: Limits::default(),
    };
    let fresh =
        format!(r#"{{"encodings":["bin","json"],"heartbeat_ms":5000,"resume":true,"limits":{LIMITS}}}"#);
    assert_eq!(asked.content(), raw(&fresh));
    assert_eq!(Asked::parse(&raw(&fresh)), Ok(asked.clone()));
    asked.resume = Some(Resume { token: "t".into(), received: received() });
    let again = asked.content();
    assert!(again.as_str().contains(r#""resume_token":"t","received":[["s1",3],["~1",0]]"#), "{again:?}");
    assert_eq!(Asked::parse(&again), Ok(asked));
}

#[test]
fn a_grant_is_read_back_as_it_was_written() {
    let terms = Terms {
        encoding: Encoding::Cbor,
        heartbeat: Duration::from_secs(5),
        idle: Duration::from_secs(30),
        resume_token: Some("t".into()),
        resume: Duration::from_secs(30),
        is_resumed: true,
        limits: Limits { streams: 7, ..Limits::default() },
    };
    let content = terms.content(&received());
    assert_eq!(Terms::parse(&content, Encoding::Json), Ok((terms, received())));
}

#[test]
fn what_an_opening_leaves_out_is_as_the_protocol_has_it_and_what_is_wrong_is_refused() {
    for said in ["null", "{}", r#"{"encodings":["xml"],"new":1}"#] {
        let asked = Asked::parse(&raw(said)).unwrap();
        assert_eq!((asked.limits, asked.wants_resume, asked.encodings), (Limits::default(), false, vec![]));
    }
    for wrong in ["7", "[]", r#"{"resume":"yes"}"#, r#"{"received":[["a"]]}"#, r#"{"limits":{"streams":-1}}"#]
    {
        assert_eq!(Asked::parse(&raw(wrong)), Err(WrongContent), "{wrong}");
    }
    let (terms, _) = Terms::parse(&raw("{}"), Encoding::Bin).unwrap();
    assert_eq!((terms.encoding, terms.heartbeat), (Encoding::Bin, Duration::from_secs(5)));
    for wrong in ["null", r#"{"encoding":"xml"}"#] {
        assert_eq!(Terms::parse(&raw(wrong), Encoding::Bin), Err(WrongContent), "{wrong}");
    }
    let (eager, _) = Terms::parse(&raw(r#"{"heartbeat_ms":0}"#), Encoding::Bin).unwrap();
    assert_eq!(eager.heartbeat, Duration::from_millis(100));
}

#[test]
fn a_status_is_read_back_as_it_was_written_and_dollars_are_read_too() {
    let mut status = AgentStatus::new(AgentState::Ready);
    assert_eq!(status.content(), raw(r#"{"status":"READY"}"#));
    status = AgentStatus {
        state: AgentState::Pause,
        reason: Some("gpu_oom".into()),
        suggested: Some(window(9)),
        grace: Duration::from_millis(700),
        retry_after_ms: Some(3),
        metrics: Some(raw(r#"{"queue_depth":4}"#)),
    };
    assert_eq!(AgentStatus::parse(&status.content()), Ok(status));
    let dollars = r#"{"status":"BUSY","suggested_window":{"max_parallel":2,"max_usd":0.5}}"#;
    let suggested = AgentStatus::parse(&raw(dollars)).unwrap().suggested.unwrap();
    assert_eq!((suggested.max_parallel, suggested.max_tokens), (2, u64::MAX));
    assert_eq!(suggested.max_usd_micros, 500_000);
    for wrong in ["null", r#"{"status":"ready"}"#, r#"{"status":"BUSY","suggested_window":{"max_usd":-1}}"#] {
        assert_eq!(AgentStatus::parse(&raw(wrong)), Err(WrongContent), "{wrong}");
    }
}

#[test]
fn an_error_is_an_error_whatever_it_says() {
    let again = |bytes: usize| Refusal {
        resume_token: Some("t".repeat(bytes).into()),
        ..Refusal::new(Code::Preempt, "for gold")
    };
    assert_eq!(said(&of_refusal(&again(128))), Said::Error(again(128)));
    let without = Refusal { resume_token: None, ..again(1) };
    assert_eq!(said(&of_refusal(&again(129))), Said::Error(without));
    let refusal = Refusal { retry_after_ms: Some(5), ..Refusal::new(Code::Window, "full") };
    assert_eq!(of_refusal(&refusal), raw(r#"{"code":"EWINDOW","reason":"full","retry_after_ms":5}"#));
    assert_eq!(said(&of_refusal(&refusal)), Said::Error(refusal));
    let missing = Missing { msg_seq: 4, fragments: vec![1, 3] };
    assert_eq!(said(&of_missing(&missing)), Said::Again(missing));
    let of = |json| match said(&raw(json)) {
        Said::Error(refusal) => (refusal.code, refusal.reason.as_str().to_owned()),
        Said::Again(missing) => panic!("{missing:?}"),
    };
    assert_eq!(of(r#"{"code":"ebudget"}"#), (Code::Budget, String::new()));
    assert_eq!(of(r#"{"code":"ESEQ_RETRY","reason":"never came: 2"}"#).0, Code::SeqRetry);
    assert_eq!(of(r#"{"code":"ENEW","reason":"why"}"#), (Code::Proto, "ENEW: why".to_owned()));
    assert_eq!(of("null").1, "an error that cannot be read");
}

#[test]
fn a_reason_is_told_up_to_its_limit_and_cut_between_characters() {
    let of = |reason: String| {
        let refusal = Refusal { reason: reason.into(), ..Refusal::new(Code::Proto, "") };
        match said(&of_refusal(&refusal)) {
            Said::Error(refusal) => refusal.reason.len(),
            Said::Again(missing) => panic!("{missing:?}"),
        }
    };
    assert_eq!([of("x".repeat(512)), of("x".repeat(513)), of("é".repeat(257))], [512, 512, 512]);
    assert_eq!(of(format!("x{}", "é".repeat(256))), 511);
}
