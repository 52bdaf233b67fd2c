//! Sessions that lose their connection and are taken up again.

use super::kit::{Pair, at, say};
use super::*;
use crate::frame::{Code, Encoding, FlagSet};

#[test]
fn what_was_sent_and_not_received_is_sent_again_and_what_was_received_is_not() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, pair.now).unwrap();
    pair.dialer.session.send(stream, say("one"), pair.now).unwrap();
    pair.pump();
    pair.dialer.session.send(stream, say("two"), pair.now).unwrap();
    assert_eq!(pair.dialer.frames(pair.now).len(), 1);
    pair.break_and_resume("t2");
    let heard: Vec<_> = pair.acceptor.told().into_iter().filter_map(content).collect();
    assert_eq!(heard, ["\"one\"", "\"two\""]);
    assert!(pair.dialer.told().contains(&Event::Resumed));
    assert!(pair.acceptor.session.is_token_known());
}

fn content(event: Event) -> Option<String> {
    if let Event::Message { message, .. } = event { Some(message.content.as_str().to_owned()) } else { None }
}

#[test]
fn a_session_nobody_comes_back_to_is_lost_after_30_seconds_on_both_ends() {
    let mut pair = Pair::open();
    pair.dialer.session.on_disconnect(at(1000));
    pair.acceptor.session.on_disconnect(at(1000));
    assert_eq!(pair.acceptor.told(), [Event::Suspended]);
    pair.pass(at(30_999));
    assert_eq!(pair.acceptor.session.phase(), Phase::Suspended);
    pair.pass(at(31_000));
    assert_eq!(pair.acceptor.told(), [Event::Closed(Ended::Lost)]);
    assert_eq!(pair.dialer.told(), [Event::Suspended, Event::Closed(Ended::Lost)]);
}

#[test]
fn a_stream_that_ended_unheard_ends_here_too_when_the_session_is_taken_up() {
    let mut pair = Pair::open();
    let stream = pair.dialer.session.open(None, pair.now).unwrap();
    pair.dialer.session.send(stream, say("one"), pair.now).unwrap();
    pair.pump();
    let theirs = pair.acceptor.session.stream("s1").unwrap();
    pair.acceptor.session.on_consumed(theirs, 1, at(0));
    pair.pass(at(200));
    pair.acceptor.session.reset(theirs, Refusal::new(Code::Preempt, "for gold"), pair.now);
    assert_eq!(pair.acceptor.frames(pair.now).len(), 1);
    pair.dialer.told();
    pair.break_and_resume("t2");
    let told = pair.dialer.told();
    assert!(told.iter().any(|event| matches!(event, Event::Reset { by_peer: true, .. })), "{told:?}");
    assert_eq!(pair.dialer.session.stream("s1"), None);
}

#[test]
fn whoever_never_acknowledged_is_not_waited_for() {
    let mut pair = Pair::open();
    let mut fresh = Session::accept(Settings::default(), "s".into(), at(0));
    let mut dialer = kit::dialer();
    fresh.on_frame(dialer.poll_frame(at(0)).unwrap(), at(0));
    fresh.poll_event();
    fresh.grant(kit::window(5), Some("t".into()), at(0));
    fresh.on_disconnect(at(1));
    assert_eq!(fresh.poll_event(), Some(Event::Closed(Ended::Lost)));
    pair.acceptor.session.on_disconnect(at(1));
    assert_eq!(pair.acceptor.session.phase(), Phase::Suspended);
}

#[test]
fn a_session_taken_up_in_another_encoding_names_that_one() {
    let mut pair = Pair::open();
    for end in [&mut pair.dialer, &mut pair.acceptor] {
        end.session.on_disconnect(at(1000));
    }
    assert!(pair.dialer.session.redial(at(1000)));
    pair.acceptor.session.set_encoding(Encoding::Bin);
    let opening = ResumeOpening { received: Vec::new(), resume_token: "t2".into() };
    assert!(pair.acceptor.session.reattach(opening, at(1000)));
    let frames = pair.acceptor.frames(at(1000));
    let granted = frames.iter().find(|frame| frame.flags.has(FlagSet::SYN)).unwrap();
    let (terms, _) = Terms::parse(&granted.payload.content, Encoding::Json).unwrap();
    assert_eq!((terms.encoding, terms.is_resumed), (Encoding::Bin, true));
}
