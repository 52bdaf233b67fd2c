//! Calls to adapters that dialled in, without a connection.

use std::future::poll_fn;

use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::Words;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use proto_core::units::Moment;

use super::*;
use crate::upstream::Path;

fn call() -> Call {
    let body = Rope::from(Bytes::from_static(br#"{"messages":[]}"#));
    Call {
        path: Path::ChatCompletions,
        headers: HeaderMap::new(),
        body,
        streamed: true,
        deadline: Moment(u64::MAX),
        model: 0,
        prompt_bytes: 0,
        heard: Words::OpenAi,
    }
}

fn name() -> Name {
    Name::resource("far").unwrap()
}

fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(u64::MAX))
}

async fn next(answer: &mut Answer) -> Option<Result<Bytes, Fault>> {
    poll_fn(|cx| answer.body.poll_data(cx)).await
}

#[tokio::test]
async fn a_call_goes_to_a_line_and_its_answer_comes_back_in_pieces() {
    let (lines, name) = (Lines::default(), name());
    let mut desk = lines.join(&name, 1);
    let (lines, desk) = (&lines, &mut desk);
    let asking = async { lines.send(&Name::resource("far").unwrap(), &call(), &ledger()).await.unwrap() };
    let working = async {
        let work = desk.work.recv().await.unwrap();
        work.to.send(Piece::Data(Bytes::from_static(b"a"), 1)).unwrap();
        work
    };
    let (mut answer, work) = tokio::join!(asking, working);
    assert_eq!(work.body, br#"{"messages":[]}"#.as_slice());
    assert_eq!(next(&mut answer).await.unwrap().unwrap(), b"a".as_slice());
    work.to.send(Piece::Last).unwrap();
    assert!(next(&mut answer).await.is_none());
    drop(answer);
    assert!(desk.back.try_recv().is_err(), "an answer that is whole needs no cancelling");
}

#[tokio::test]
async fn an_adapter_is_told_of_many_pieces_at_once_and_of_few_after_a_while() {
    let (lines, name) = (Lines::default(), name());
    let mut desk = lines.join(&name, 1);
    let say = |work: &Work, mark, bytes| {
        work.to.send(Piece::Data(Bytes::from(vec![b'a'; bytes]), mark)).unwrap();
    };
    let asking = async { lines.send(&Name::resource("far").unwrap(), &call(), &ledger()).await.unwrap() };
    let working = async {
        let work = desk.work.recv().await.unwrap();
        say(&work, 1, 1);
        work
    };
    let (mut answer, work) = tokio::join!(asking, working);
    let most = TAKEN_PIECES as u64;
    (2..=most).for_each(|mark| say(&work, mark, 1));
    for mark in 1..=most {
        assert!(desk.back.try_recv().is_err(), "not before {mark} of them");
        next(&mut answer).await.unwrap().unwrap();
    }
    assert_eq!(desk.back.try_recv().unwrap(), Back::Taken { id: work.id, mark: most });
    say(&work, most + 1, TAKEN_BYTES - 1);
    next(&mut answer).await.unwrap().unwrap();
    assert!(desk.back.try_recv().is_err());
    say(&work, most + 2, 1);
    next(&mut answer).await.unwrap().unwrap();
    assert_eq!(desk.back.try_recv().unwrap(), Back::Taken { id: work.id, mark: most + 2 });
    say(&work, most + 3, 1);
    next(&mut answer).await.unwrap().unwrap();
    assert!(desk.back.try_recv().is_err());
    let told = tokio::select! {
        _ = next(&mut answer) => panic!("nothing else was said"),
        told = desk.back.recv() => told,
    };
    assert_eq!(told.unwrap(), Back::Taken { id: work.id, mark: most + 3 });
}

#[tokio::test]
async fn who_has_no_line_or_takes_no_more_is_not_asked_and_another_candidate_is() {
    let (lines, name) = (Lines::default(), name());
    let refused = lines.send(&name, &call(), &ledger()).await.unwrap_err();
    assert_eq!((refused.kind, refused.retry), (Kind::Absent, Retry::Elsewhere));
    assert!(!refused.is_upstream_failure(), "who attaches next is asked at once");
    let desk = lines.join(&name, 4);
    desk.line.set_most(0);
    let busy = lines.send(&name, &call(), &ledger()).await.unwrap_err();
    assert_eq!((busy.kind, busy.retry), (Kind::NoPermit, Retry::Elsewhere));
    assert!(!busy.is_upstream_failure(), "who is ready again is asked at once");
    let embedding = Call { path: Path::Embeddings, ..call() };
    let unable = lines.send(&name, &embedding, &ledger()).await.unwrap_err();
    assert!(matches!(unable.kind, Kind::InvalidField("model", _)), "{unable:?}");
    assert!(!unable.is_upstream_failure(), "it was not asked");
    assert_eq!(unable.retry, Retry::Elsewhere, "another candidate may do it");
}

#[tokio::test]
async fn who_wants_no_stream_gets_the_answer_in_one() {
    let (lines, name) = (Lines::default(), name());
    let mut desk = lines.join(&name, 1);
    let (lines, own) = (&lines, &name);
    let asking = async { lines.send(own, &Call { streamed: false, ..call() }, &ledger()).await };
    let working = async {
        let work = desk.work.recv().await.unwrap();
        let chunk = |text: &str, reason: &str| {
            let delta = format!(r#""delta":{{"content":"{text}"}},"finish_reason":{reason}"#);
            let event = format!("data: {{\"choices\":[{{{delta}}}]}}\n\n");
            work.to.send(Piece::Data(event.into(), 1)).unwrap();
        };
        chunk("he", "null");
        chunk("llo", "\"stop\"");
        work.to.send(Piece::Data(Bytes::from_static(b"data: [DONE]\n\n"), 3)).unwrap();
        work.to.send(Piece::Last).unwrap();
    };
    let (answer, ()) = tokio::join!(asking, working);
    let mut answer = answer.unwrap();
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    let whole = next(&mut answer).await.unwrap().unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "hello");
    assert!(next(&mut answer).await.is_none());
}

#[tokio::test]
async fn a_refusal_before_the_first_piece_is_a_fault_and_no_answer() {
    let (lines, name) = (Lines::default(), name());
    let mut desk = lines.join(&name, 1);
    let (lines, own) = (&lines, &name);
    let asking = async { lines.send(own, &call(), &ledger()).await };
    let working = async {
        let work = desk.work.recv().await.unwrap();
        work.to.send(Piece::Failed(Fault::upstream(Kind::Refused, Retry::Elsewhere))).unwrap();
    };
    let (answer, ()) = tokio::join!(asking, working);
    assert_eq!(answer.unwrap_err().retry, Retry::Elsewhere);
    assert!(desk.back.try_recv().is_err());
}

#[tokio::test]
async fn a_line_that_is_lost_before_it_began_hands_its_call_to_another() {
    let (lines, name) = (Lines::default(), name());
    let mut first = lines.join(&name, 2);
    let mut second = lines.join(&name, 1);
    let (lines, own) = (&lines, &name);
    let asking = async { lines.send(own, &call(), &ledger()).await.unwrap() };
    let working = async {
        drop(first.work.recv().await.unwrap());
        lines.leave(own, &first.line);
        drop(first);
        let work = second.work.recv().await.unwrap();
        work.to.send(Piece::Data(Bytes::from_static(b"b"), 1)).unwrap();
        work
    };
    let (mut answer, work) = tokio::join!(asking, working);
    assert_eq!(next(&mut answer).await.unwrap().unwrap(), b"b".as_slice());
    drop(work);
    let lost = next(&mut answer).await.unwrap().unwrap_err();
    assert_eq!(lost.kind, Kind::Truncated, "what had begun is not begun again");
    assert_eq!(lines.count(own), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_is_told_to_the_line_and_its_place_is_free_again() {
    let (lines, name) = (Lines::default(), name());
    let mut desk = lines.join(&name, 1);
    let (lines, own) = (&lines, &name);
    for _ in 0..2 {
        let asking = async { lines.send(own, &call(), &ledger()).await.unwrap() };
        let working = async {
            let work = desk.work.recv().await.unwrap();
            work.to.send(Piece::Data(Bytes::from_static(b"c"), 1)).unwrap();
            work
        };
        let (answer, work) = tokio::join!(asking, working);
        assert!(lines.send(own, &call(), &ledger()).await.is_err(), "one at a time");
        drop(answer);
        assert_eq!(desk.back.recv().await.unwrap(), Back::Gone { id: work.id });
    }
}

#[tokio::test]
async fn an_answer_that_is_put_together_is_accounted_for_and_shed_where_there_is_no_room() {
    const CHUNK: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    const END: &[u8] = b"data: [DONE]\n\n";
    for (room, is_shed) in [(CHUNK.len() + END.len(), false), (CHUNK.len() + END.len() - 1, true)] {
        let (lines, name) = (Lines::default(), name());
        let mut desk = lines.join(&name, 1);
        let ledger = Arc::new(Ledger::new(room as u64));
        let (lines, own, of) = (&lines, &name, &ledger);
        let asking = async { lines.send(own, &Call { streamed: false, ..call() }, of).await };
        let working = async {
            let work = desk.work.recv().await.unwrap();
            work.to.send(Piece::Data(Bytes::from_static(CHUNK), 1)).unwrap();
            work.to.send(Piece::Data(Bytes::from_static(END), 2)).unwrap();
            // Refused already where it is shed.
            let _ = work.to.send(Piece::Last);
        };
        let (answer, ()) = tokio::join!(asking, working);
        match answer {
            Ok(answer) => assert_eq!((is_shed, answer.status), (false, StatusCode::OK)),
            Err(fault) => assert!(is_shed && matches!(fault.kind, Kind::Shed { .. }), "{fault:?}"),
        }
        assert_eq!(ledger.buffered_bytes(), 0, "given back once it is put together");
    }
}
