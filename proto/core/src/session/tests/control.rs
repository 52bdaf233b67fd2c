//! What passes beside the messages: openings, heartbeats, windows, statuses, ends, and peers of old.

use std::time::Duration;

use super::kit::{End, Pair, at, dialer, say, window};
use super::*;
use crate::frame::{Code, Encoding, FlagSet, Frame, RawJson};
use crate::session::machine::STREAM_ID_BYTES_MAX;

fn frame(stream_id: &str, msg_seq: u64) -> Frame {
    let place = Place { session_id: "s".into(), stream_id: stream_id.into(), msg_seq, ..Place::default() };
    say("x").into_frame(place)
}

fn flagged(stream_id: &str, flags: FlagSet, kind: &'static str) -> Frame {
    let mut frame = frame(stream_id, 0);
    (frame.flags, frame.payload.kind) = (flags.into(), kind.into());
    frame
}

fn refusals(frames: &[Frame]) -> Vec<(&str, bool, String)> {
    let errors = frames.iter().filter(|frame| frame.payload.kind.as_str() == kind::ERROR);
    let of = |frame: &'_ Frame| frame.payload.content.as_str().to_owned();
    errors.map(|frame| (frame.stream_id.as_str(), frame.flags.has(FlagSet::RST), of(frame))).collect()
}

fn plain() -> End {
    let mut end = End::new(Session::accept(Settings::default(), "s".into(), at(0)));
    end.session.on_frame(frame("q", 7), at(0));
    assert!(matches!(end.told()[..], [Event::Opening { is_plain: true, resume: None, .. }]));
    end.session.grant(window(5), Some("t".into()), at(0));
    end
}

#[test]
fn the_first_requests_go_with_the_opening_and_are_heard_after_the_grant() {
    let mut end = End::new(dialer());
    let stream = end.session.open(None, at(0)).unwrap();
    end.session.send(stream, say("early"), at(0)).unwrap();
    let mut acceptor = End::new(Session::accept(Settings::default(), "s".into(), at(0)));
    end.frames(at(0)).into_iter().for_each(|frame| acceptor.session.on_frame(frame, at(0)));
    assert!(matches!(acceptor.told()[..], [Event::Opening { .. }]));
    acceptor.session.grant(window(5), None, at(0));
    assert!(matches!(acceptor.told()[..], [Event::StreamOpened { .. }, Event::Message { .. }]));
}

#[test]
fn the_grant_says_what_both_keep() {
    let mut pair = Pair::open();
    let settings = Settings { heartbeat: Duration::from_secs(9), ..Settings::default() };
    pair.dialer = End::new(Session::dial(settings, "s".into(), kit::opening(), at(0)));
    let limits = Limits { replay_bytes: 10, ..Limits::default() };
    let settings = Settings { limits, encoding: Encoding::Bin, ..Settings::default() };
    pair.acceptor = End::new(Session::accept(settings, "s".into(), at(0)));
    pair.pump();
    pair.acceptor.told();
    pair.acceptor.session.grant(window(5), Some("t".into()), at(0));
    pair.pump();
    let told = pair.dialer.told();
    let [Event::Granted { window: granted, terms }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (*granted, terms.encoding, terms.heartbeat),
        (window(5), Encoding::Bin, Duration::from_secs(9))
    );
    assert_eq!((&terms.resume_token, terms.limits), (&Some("t".into()), limits));
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    assert_eq!(pair.dialer.session.room(stream), 10);
}

#[test]
fn an_open_session_beats_and_one_that_hears_nothing_ends_idle() {
    let mut pair = Pair::open();
    pair.pass(at(60_000));
    assert_eq!((pair.dialer.told(), pair.acceptor.told()), (vec![], vec![]));
    // The dialer falls silent.
    let mut beats = 0;
    while pair.acceptor.session.phase() == Phase::Open {
        let due = pair.acceptor.session.due().unwrap();
        pair.acceptor.session.on_time(due);
        let frames = pair.acceptor.frames(due);
        beats += frames.iter().filter(|frame| frame.flags.has(FlagSet::HB)).count();
        pair.now = due;
    }
    assert!((5..=6).contains(&beats), "{beats}");
    assert_eq!(pair.acceptor.told(), [Event::Closed(Ended::Idle)]);
    assert!((at(85_000)..=at(90_000)).contains(&pair.now), "{:?}", pair.now);
}

#[test]
fn whoever_sends_does_not_beat() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    pair.dialer.session.on_time(at(4000));
    pair.dialer.session.send(stream, say("x"), at(4000)).unwrap();
    assert_eq!(pair.dialer.session.due(), Some(at(5000)));
    assert_eq!(pair.dialer.frames(at(4000)).len(), 1);
    // Once to give memory back.
    assert_eq!(pair.dialer.session.due(), Some(at(4250)));
    pair.dialer.session.on_time(at(4250));
    assert_eq!(pair.dialer.session.due(), Some(at(9000)));
}

#[test]
fn an_opening_nobody_answers_is_over_after_10_seconds() {
    for mut end in [End::new(dialer()), End::new(Session::accept(Settings::default(), "s".into(), at(0)))] {
        end.frames(at(0));
        assert_eq!(end.session.due(), Some(at(10_000)));
        end.session.on_time(at(9_999));
        assert_eq!(end.told(), []);
        end.session.on_time(at(10_000));
        assert!(matches!(&end.told()[..], [Event::Closed(Ended::Refused(why))] if why.code == Code::Timeout));
    }
}

#[test]
fn a_window_that_has_changed_is_told_and_heard() {
    let mut pair = Pair::open();
    pair.acceptor.session.set_window(window(900), at(10));
    assert_eq!(pair.acceptor.session.due(), Some(at(10)));
    pair.pass(at(10));
    assert_eq!(pair.dialer.told(), [Event::Window(window(900))]);
    pair.acceptor.session.set_window(window(100), at(20));
    pair.pass(at(509));
    assert_eq!(pair.dialer.told(), []);
    pair.pass(at(510));
    assert_eq!(pair.dialer.told(), [Event::Window(window(100))]);
}

#[test]
fn a_status_and_other_control_frames_reach_the_other_end() {
    let mut pair = Pair::open();
    let status = AgentStatus::new(AgentState::Pause);
    pair.dialer.session.tell_status(&status, at(0));
    pair.dialer.session.tell(flagged("", FlagSet::CTRL, "BUDGET_UPDATE"));
    pair.pump();
    let told = pair.acceptor.told();
    let [Event::Status(heard), Event::Control(frame)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&**heard, frame.payload.kind.as_str()), (&status, "BUDGET_UPDATE"));
}

#[test]
fn a_question_with_its_answer_ends_its_stream_on_both_ends() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    pair.dialer.session.send(stream, say("why?").last(), at(0)).unwrap();
    pair.pump();
    let told = pair.acceptor.told();
    let [Event::StreamOpened { stream: theirs }, Event::Message { msg_seq: 1, .. }] = told[..] else {
        panic!("{told:?}")
    };
    pair.acceptor.session.on_consumed(theirs, 1, at(0));
    pair.acceptor.session.send(theirs, say("so").last(), at(0)).unwrap();
    assert_eq!(pair.acceptor.session.send(theirs, say("more"), at(0)), Err(SendFault::Finished));
    pair.pump();
    assert!(matches!(pair.dialer.told()[..], [Event::Message { .. }]));
    pair.dialer.session.on_consumed(stream, 1, at(0));
    pair.pump();
    assert_eq!(pair.dialer.told(), [Event::StreamClosed { stream }]);
    assert_eq!(pair.acceptor.told(), [Event::StreamClosed { stream: theirs }]);
    assert_eq!(pair.dialer.session.send(stream, say("more"), at(0)), Err(SendFault::Unknown));
    // What comes late is answered as before, and is no new stream.
    pair.acceptor.session.on_frame(frame("s1", 1), at(0));
    assert_eq!(pair.acceptor.told(), []);
    let answer = pair.acceptor.frames(at(0));
    assert!(answer[0].flags.has(FlagSet::ACK) && answer[0].msg_seq == 1, "{answer:?}");
    assert_eq!(pair.dialer.session.open(Some("s1".into()), at(0)), Err(SendFault::TooMany));
}

#[test]
fn a_session_ends_when_its_streams_have() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    pair.dialer.session.send(stream, say("x"), at(0)).unwrap();
    pair.pump();
    pair.acceptor.told();
    pair.acceptor.session.finish(at(0));
    assert_eq!(pair.acceptor.session.phase(), Phase::Finishing);
    pair.acceptor.session.on_frame(frame("s9", 1), at(0));
    let turned_away = pair.acceptor.frames(at(0));
    assert!(matches!(&refusals(&turned_away)[..], [("s9", true, why)] if why.contains("EDRAINING")));
    pair.dialer.session.reset(stream, Refusal::new(Code::Timeout, "too late"), at(0));
    pair.pump();
    let told = pair.acceptor.told();
    let [Event::Reset { by_peer: true, .. }, Event::StreamClosed { .. }, Event::Closed(Ended::Finished)] =
        told[..]
    else {
        panic!("{told:?}")
    };
    let expected = [Event::StreamClosed { stream }, Event::Closed(Ended::ByPeer)];
    assert_eq!(pair.dialer.told(), expected);
}

#[test]
fn a_frame_without_hops_is_answered_and_goes_no_further() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    pair.dialer.session.send(stream, Message { ttl: 0, ..say("late") }, at(0)).unwrap();
    pair.dialer.session.send(stream, Message { ttl: 1, ..say("in time") }, at(0)).unwrap();
    pair.pump();
    let told = pair.acceptor.told();
    let [_, Event::Message { msg_seq: 2, message, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(message.ttl, 0);
    let refusal = Refusal::new(Code::Timeout, "ttl expired");
    assert_eq!(pair.dialer.told(), [Event::Warned { stream, msg_seq: 1, refusal }]);
}

#[test]
fn streams_up_to_the_limit_are_taken_and_one_more_is_turned_away_with_the_window() {
    let limits = Limits { streams: 2, ..Limits::default() };
    let mut pair = Pair::with(Settings { limits, ..Settings::default() });
    for _ in 0..2 {
        pair.dialer.session.open(None, at(0)).unwrap();
    }
    assert_eq!(pair.dialer.session.open(None, at(0)), Err(SendFault::TooMany));
    for id in ["a", "b", "c"] {
        pair.acceptor.session.on_frame(frame(id, 1), at(0));
    }
    let frames = pair.acceptor.frames(at(0));
    assert!(matches!(&refusals(&frames)[..], [("c", true, why)] if why.contains("EWINDOW")), "{frames:?}");
    assert_eq!(frames[1].payload.kind.as_str(), kind::WINDOW_UPDATE);
    // This end's own streams have their own limit.
    assert!(pair.acceptor.session.open(None, at(0)).is_ok());
}

#[test]
fn an_id_has_its_length_and_its_owner() {
    let mut pair = Pair::open();
    let longest = "x".repeat(STREAM_ID_BYTES_MAX);
    for id in [longest.clone(), format!("{longest}x"), "~1".to_owned()] {
        pair.acceptor.session.on_frame(frame(&id, 1), at(0));
        let is_taken = pair.acceptor.session.stream(&id).is_some();
        assert_eq!(is_taken, id == longest, "{id}");
        assert_eq!(refusals(&pair.acceptor.frames(at(0))).len(), usize::from(!is_taken));
    }
    for id in ["~1", "", "x".repeat(STREAM_ID_BYTES_MAX + 1).as_str()] {
        assert_eq!(pair.dialer.session.open(Some(id.into()), at(0)), Err(SendFault::TooMany), "{id}");
    }
    let theirs = pair.acceptor.session.open(None, at(0)).unwrap();
    assert_eq!(pair.acceptor.session.id(theirs), Some(&"~1".into()));
}

#[test]
fn seven_malformed_messages_in_a_row_are_answered_and_the_eighth_is_the_end() {
    let mut pair = Pair::open();
    let malformed = Encoding::Json.decode(&"{".into()).unwrap_err();
    for round in 0..2 {
        for _ in 0..7 {
            pair.acceptor.session.on_malformed(&malformed, at(0));
        }
        assert_eq!(refusals(&pair.acceptor.frames(at(0))).len(), 7, "{round}");
        pair.acceptor.session.on_frame(flagged("", FlagSet::HB, kind::HEARTBEAT), at(0));
    }
    for _ in 0..8 {
        pair.acceptor.session.on_malformed(&malformed, at(0));
    }
    assert_eq!(pair.acceptor.session.phase(), Phase::Closed);
    assert!(matches!(pair.acceptor.frames(at(0)).last(), Some(last) if last.flags.has(FlagSet::RST)));
}

#[test]
fn a_frame_of_another_session_or_with_a_wrong_sum_is_no_frame_of_this_one() {
    let mut pair = Pair::open();
    let mut other = frame("a", 1);
    other.session_id = "t".into();
    let mut wrong = frame("b", 1);
    wrong.checksum = Some("0".repeat(64).into());
    for frame in [other, wrong] {
        pair.acceptor.session.on_frame(frame, at(0));
        assert!(matches!(&refusals(&pair.acceptor.frames(at(0)))[..], [("", false, _)]));
    }
    assert_eq!(pair.acceptor.told(), []);
}

#[test]
fn a_plain_peer_is_answered_without_any_word_of_the_protocol() {
    let mut end = plain();
    let told = end.told();
    let [Event::StreamOpened { stream }, Event::Message { msg_seq: 7, .. }] = told[..] else {
        panic!("{told:?}")
    };
    end.session.on_consumed(stream, 7, at(0));
    end.session.set_window(window(1), at(0));
    end.session.on_time(at(60_000));
    let big = RawJson::of_text(&"x".repeat(300_000));
    end.session.send(stream, Message::new("answer", big), at(60_000)).unwrap();
    end.session.send(stream, say("end").last(), at(60_000)).unwrap_err();
    assert_eq!(end.frames(at(60_000)).len(), 1);
    end.session.send(stream, say("end").last(), at(60_000)).unwrap();
    let frames = end.frames(at(60_000));
    assert!(frames.len() == 1 && frames[0].flags.has(FlagSet::FIN), "{frames:?}");
    assert_eq!(end.told(), [Event::Room { stream }, Event::StreamClosed { stream }]);
    assert_eq!((end.session.held_bytes(), end.session.is_resumable()), (0, false));
    // The same number again, on the same stream, is a new question.
    end.session.on_frame(frame("q", 7), at(60_000));
    assert!(matches!(end.told()[..], [Event::StreamOpened { .. }, Event::Message { msg_seq: 7, .. }]));
    end.session.on_disconnect(at(60_000));
    assert_eq!(end.told(), [Event::Closed(Ended::Lost)]);
}

/// What a session takes that has nothing to say: itself, a stream, their places in three lists, and their
/// ids (a `Text` keeps its bytes behind a handle of its own).
#[test]
fn a_quiet_session_with_an_open_stream_takes_less_than_a_kibibyte() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    pair.dialer.session.send(stream, say("x"), at(0)).unwrap();
    pair.pump();
    let theirs = pair.acceptor.session.stream("s1").unwrap();
    pair.acceptor.session.on_consumed(theirs, 1, at(0));
    pair.dialer.told();
    pair.acceptor.told();
    // A quarter of a second without a word, behind the last acknowledgement.
    pair.pass(at(1000));
    for end in [&pair.dialer, &pair.acceptor] {
        assert!(end.session.idle_bytes() < 1024, "{}", end.session.idle_bytes());
    }
}
