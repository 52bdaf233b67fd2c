//! What is sent and not consumed: how much, and who it stops.

use super::kit::{End, Pair, at, long, say};
use super::*;
use crate::frame::{Code, FlagSet, Frame, Meta, RawJson};
use crate::session::machine::MESSAGES_SESSION_MAX;
use crate::session::settings::{MESSAGES_MAX, REPLAY_BYTES, SESSION_BYTES};

fn streams(pair: &mut Pair, count: usize) -> Vec<StreamKey> {
    (0..count).map(|_| pair.dialer.session.open(None, at(0)).unwrap()).collect()
}

/// Says as much as it may.
fn fill(end: &mut End, stream: StreamKey, bytes: usize) -> usize {
    (0..).take_while(|_| end.session.send(stream, long(bytes), at(0)).is_ok()).count()
}

fn consume_all(end: &mut End, but: Option<StreamKey>) -> usize {
    let mut bytes = 0;
    for event in end.told() {
        let Event::Message { stream, msg_seq, message } = event else { continue };
        if Some(stream) != but {
            bytes += message.content.as_bytes().len();
            end.session.on_consumed(stream, msg_seq, at(0));
        }
    }
    bytes
}

#[test]
fn a_stream_nobody_consumes_holds_its_credit_and_the_others_go_on() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 3);
    let stuck = keys[0];
    assert_eq!(fill(&mut pair.dialer, stuck, 1024), REPLAY_BYTES / 1024);
    pair.pump();
    let theirs = pair.acceptor.session.stream("s1");
    let mut passed = 0;
    while passed < 8 << 20 {
        for key in &keys[1..] {
            fill(&mut pair.dialer, *key, 5000);
        }
        pair.pump();
        passed += consume_all(&mut pair.acceptor, theirs);
        pair.pump();
        assert_eq!(pair.dialer.session.room(stuck), 0);
    }
    assert_eq!(pair.acceptor.session.held_bytes(), REPLAY_BYTES);
    assert!(pair.dialer.session.held_bytes() <= SESSION_BYTES);
}

#[test]
fn whoever_had_to_wait_is_told_when_there_is_room_and_nobody_else() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 2);
    fill(&mut pair.dialer, keys[0], 64 << 10);
    assert_eq!(pair.dialer.session.send(keys[0], say("x"), at(0)), Err(SendFault::Blocked));
    pair.dialer.session.send(keys[1], say("y"), at(0)).unwrap();
    pair.pump();
    assert_eq!(pair.dialer.told(), []);
    consume_all(&mut pair.acceptor, None);
    pair.pump();
    assert_eq!(pair.dialer.told(), [Event::Room { stream: keys[0] }]);
    assert_eq!(pair.dialer.session.room(keys[0]), REPLAY_BYTES);
}

#[test]
fn a_session_takes_what_four_full_streams_hold_and_not_a_byte_more() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 5);
    for key in &keys[..4] {
        assert_eq!(fill(&mut pair.dialer, *key, 64 << 10), 4);
    }
    assert_eq!(pair.dialer.session.held_bytes(), SESSION_BYTES);
    assert_eq!(pair.dialer.session.send(keys[4], say(""), at(0)), Err(SendFault::Blocked));
    pair.pump();
    consume_all(&mut pair.acceptor, None);
    pair.pump();
    assert!(pair.dialer.session.send(keys[4], say(""), at(0)).is_ok());
}

#[test]
fn one_message_may_be_longer_than_the_credit_and_only_one() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 2);
    let limits = Limits::default();
    let too_long = pair.dialer.session.send(keys[0], long(limits.message_bytes + 1), at(0));
    assert_eq!(too_long, Err(SendFault::TooLong));
    pair.dialer.session.send(keys[0], say("first"), at(0)).unwrap();
    let beside = pair.dialer.session.send(keys[0], long(REPLAY_BYTES + 1), at(0));
    assert_eq!(beside, Err(SendFault::Blocked));
    pair.dialer.session.send(keys[1], long(limits.message_bytes), at(0)).unwrap();
    let behind = pair.dialer.session.send(keys[1], say("behind"), at(0));
    assert_eq!(behind, Err(SendFault::Blocked));
    pair.pump();
    assert_eq!(consume_all(&mut pair.acceptor, None), limits.message_bytes + 7);
    pair.pass(at(200));
    assert_eq!((pair.dialer.session.held_bytes(), pair.acceptor.session.held_bytes()), (0, 0));
    assert!(pair.dialer.session.send(keys[0], long(REPLAY_BYTES + 1), pair.now).is_ok());
}

#[test]
fn tiny_messages_are_counted_too() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 5);
    for key in &keys[..4] {
        assert_eq!(fill(&mut pair.dialer, *key, 2), MESSAGES_MAX);
    }
    assert_eq!(4 * MESSAGES_MAX, MESSAGES_SESSION_MAX);
    assert_eq!(pair.dialer.session.send(keys[4], say(""), at(0)), Err(SendFault::Blocked));
}

#[test]
fn a_peer_that_sends_beyond_the_credit_loses_that_stream_and_hears_the_window() {
    let generous = Limits { replay_bytes: 1 << 20, session_bytes: 8 << 20, ..Limits::default() };
    let mut pair = Pair::open();
    // An end that believes in more than it was told.
    let wide = Settings { limits: generous, ..Settings::default() };
    let mut liar = Pair::with(wide);
    let keys = streams(&mut liar, 2);
    let sent = fill(&mut liar.dialer, keys[0], 32 << 10);
    liar.dialer.session.send(keys[1], say("also"), at(0)).unwrap();
    for frame in liar.dialer.frames(at(0)) {
        pair.acceptor.session.on_frame(frame, at(0));
    }
    let told = pair.acceptor.told();
    let heard = told.iter().filter(|event| matches!(event, Event::Message { .. })).count();
    assert!(sent > heard && heard == 1 + 2 * REPLAY_BYTES / (32 << 10), "{sent} {heard}");
    let is_reset = |event: &Event| match event {
        Event::Reset { refusal, by_peer, .. } => !by_peer && refusal.code == Code::Window,
        _ => false,
    };
    assert_eq!(told.iter().filter(|event| is_reset(event)).count(), 1);
    let frames = pair.acceptor.frames(at(0));
    let kinds: Vec<_> = frames.iter().map(|frame| frame.payload.kind.as_str()).collect();
    assert_eq!(kinds, [kind::WINDOW_UPDATE, kind::ERROR]);
    assert!(frames[1].flags.has(FlagSet::RST));
    assert!(pair.acceptor.session.stream("s2").is_some());
}

#[test]
fn streams_take_turns_of_one_frame() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 3);
    pair.dialer.session.send(keys[0], long(200 << 10), at(0)).unwrap();
    for key in &keys[1..] {
        pair.dialer.session.send(*key, say("a"), at(0)).unwrap();
        pair.dialer.session.send(*key, say("b"), at(0)).unwrap();
    }
    let frames = pair.dialer.frames(at(0));
    let ids: Vec<_> = frames.iter().map(|frame| frame.stream_id.as_str()).collect();
    assert_eq!(ids, ["s1", "s2", "s3", "s1", "s2", "s3", "s1", "s1"]);
}

#[test]
fn over_quic_each_stream_is_polled_by_itself_and_told_once() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 2);
    pair.dialer.session.send(keys[0], say("a"), at(0)).unwrap();
    pair.dialer.session.send(keys[1], say("b"), at(0)).unwrap();
    let session = &mut pair.dialer.session;
    assert_eq!(session.poll_control(at(0)), None);
    assert_eq!(
        [session.poll_ready(), session.poll_ready(), session.poll_ready()],
        [Some(keys[0]), Some(keys[1]), None]
    );
    session.send(keys[0], say("c"), at(0)).unwrap();
    assert_eq!(session.poll_ready(), None);
    assert_eq!(session.poll_stream(keys[0], at(0)).map(|frame| frame.msg_seq), Some(1));
    assert_eq!(session.poll_stream(keys[0], at(0)).map(|frame| frame.msg_seq), Some(2));
    assert_eq!(session.poll_stream(keys[0], at(0)), None);
    session.send(keys[0], say("d"), at(0)).unwrap();
    assert_eq!(session.poll_ready(), Some(keys[0]));
}

#[test]
fn a_message_that_fits_one_frame_is_never_copied() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 1);
    let message = long(60 << 10);
    let content = message.content.as_bytes().as_ptr();
    pair.dialer.session.send(keys[0], message, at(0)).unwrap();
    let frame = pair.dialer.session.poll_frame(at(0)).unwrap();
    assert_eq!(frame.payload.content.as_bytes().as_ptr(), content);
    pair.acceptor.session.on_frame(frame, at(0));
    let told = pair.acceptor.told();
    let [_, Event::Message { message, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(message.content.as_bytes().as_ptr(), content);
}

#[test]
fn what_stands_around_a_content_counts_while_it_is_held() {
    let bound = 2 * Settings::default().limits.replay_bytes;
    for (first, flags, content) in
        [(2, FlagSet::NONE, RawJson::NULL), (1, FlagSet::MORE, RawJson::of_text(""))]
    {
        let mut pair = Pair::open();
        for msg_seq in first..first + 8 {
            let meta = Meta { trace: Some(RawJson::of_text(&"x".repeat(100 << 10))), ..Meta::default() };
            let message = Message { meta: Some(Box::new(meta)), ..Message::new("note", content.clone()) };
            let place = Place { session_id: "s".into(), stream_id: "a".into(), msg_seq, ..Place::default() };
            let frame = Frame { flags: flags.into(), ..message.into_frame(place) };
            pair.acceptor.session.on_frame(frame, pair.now);
        }
        let held = pair.acceptor.session.held_bytes();
        assert!(held > bound * 3 / 4 && held <= bound, "{held}");
    }
}

#[test]
fn who_waits_for_what_others_hold_is_told_once_and_who_waits_for_itself_by_its_own_acknowledgement() {
    let mut pair = Pair::open();
    let keys = streams(&mut pair, 8);
    for key in &keys[..4] {
        assert_eq!(fill(&mut pair.dialer, *key, 64 << 10), 4);
    }
    for key in &keys {
        for _ in 0..2 {
            assert_eq!(pair.dialer.session.send(*key, say("x"), at(0)), Err(SendFault::Blocked));
        }
    }
    let gone = Refusal::new(Code::Preempt, "");
    pair.dialer.session.reset(keys[7], gone, at(0));
    pair.pump();
    assert!(!pair.dialer.told().iter().any(|event| matches!(event, Event::Room { .. })), "all is full");
    let heard = pair.acceptor.told();
    let consume = |pair: &mut Pair, id| {
        let theirs = pair.acceptor.session.stream(id).unwrap();
        for event in &heard {
            if let Event::Message { stream, msg_seq, .. } = event
                && *stream == theirs
            {
                pair.acceptor.session.on_consumed(theirs, *msg_seq, at(0));
            }
        }
        pair.pump();
    };
    let room = |key: &StreamKey| Event::Room { stream: *key };
    consume(&mut pair, "s1");
    let mut told = pair.dialer.told();
    told.sort_by_key(|event| format!("{event:?}"));
    told.dedup();
    assert_eq!(told, [room(&keys[0]), room(&keys[4]), room(&keys[5]), room(&keys[6])]);
    consume(&mut pair, "s2");
    assert_eq!(pair.dialer.told().last(), Some(&room(&keys[1])));
    assert!(pair.dialer.told().is_empty(), "nobody is told twice");
}
