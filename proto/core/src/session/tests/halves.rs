//! Every state of both halves of a stream with everything that can happen to it.

use super::kit::{at, say};
use super::*;
use crate::frame::Frame;
use crate::session::content::Missing;
use crate::session::cut::Cut;
use crate::session::held::Held;
use crate::session::inbound::{InState, Inbound, Rules};
use crate::session::replay::{OutState, Outbound};
use crate::session::settings::MESSAGES_MAX;

const CUT: Cut = Cut { whole_bytes: 64, part_bytes: 64 };

/// Two messages; with `is_ended` the second is the last. `sent` and `acknowledged` of them.
fn out(is_ended: bool, sent: usize, acknowledged: u64) -> Outbound {
    let mut out = Outbound::default();
    out.push(say("a"));
    out.push(if is_ended { say("b").last() } else { say("b") });
    (0..sent).for_each(|_| drop(out.poll(Place::default(), CUT)));
    out.on_ack(acknowledged).unwrap();
    out
}

/// What each input makes of this half: the state after it, the messages that are kept, the next number that
/// is sent; or why not.
fn of_out(make: impl Fn() -> Outbound, input: &str) -> String {
    let mut out = make();
    let mut done = Ok(());
    match input {
        "poll" => drop(out.poll(Place::default(), CUT)),
        "ack 1" => done = out.on_ack(1).map(drop),
        "ack 2" => done = out.on_ack(2).map(drop),
        "again 1" => out.on_missing(Missing { msg_seq: 1, fragments: vec![] }),
        "received 0" => done = out.on_resumed(0),
        "received 1" => done = out.on_resumed(1),
        "received 2" => done = out.on_resumed(2),
        _ => assert!(out.clear().pieces < 3),
    }
    if let Err(refusal) = done {
        return refusal.reason.as_str().to_owned();
    }
    let (state, kept) = (out.state(), out.held().pieces);
    let next = out.poll(Place::default(), CUT).map_or(0, |frame| frame.msg_seq);
    format!("{state:?} {kept} {next}")
}

const OUT_INPUTS: [&str; 8] =
    ["poll", "ack 1", "ack 2", "again 1", "received 0", "received 1", "received 2", "clear"];

/// Whether the second message is the last, how many were sent and acknowledged, the state; and what each
/// input makes of it.
type OutRow = (bool, usize, u64, OutState, &'static str);

const OUT_TABLE: [OutRow; 6] = [
    (false, 0, 0, OutState::Open, "Open 2 2|EARLY|EARLY|Open 2 1|Open 2 1|UNSENT|UNSENT|Finished 0 0"),
    (false, 1, 0, OutState::Open, "Open 2 0|Open 1 2|EARLY|Open 2 1|Open 2 1|Open 2 2|UNSENT|Finished 0 0"),
    (false, 2, 1, OutState::Open, "Open 1 0|Open 1 0|Open 0 0|Open 1 0|GONE|Open 1 2|Open 1 0|Finished 0 0"),
    (true, 1, 1, OutState::Finishing, "End 1 0|End 1 2|EARLY|End 1 2|GONE|End 1 2|UNSENT|Finished 0 0"),
    (
        true,
        2,
        0,
        OutState::Finishing,
        "End 2 0|End 1 0|Finished 0 0|End 2 1|End 2 1|End 2 2|End 2 0|Finished 0 0",
    ),
    (
        true,
        2,
        2,
        OutState::Finished,
        "Finished 0 0|Finished 0 0|Finished 0 0|Finished 0 0|GONE|GONE|Finished 0 0|Finished 0 0",
    ),
];

const OUT_WORDS: [(&str, &str); 4] = [
    ("EARLY", "acknowledges what was not sent"),
    ("UNSENT", "has received what was not sent"),
    ("GONE", "what is missing was acknowledged, and is gone"),
    ("End", "Finishing"),
];

#[test]
fn every_input_in_every_state_of_what_is_said_does_what_the_table_says() {
    for (is_ended, sent, acknowledged, state, outcomes) in OUT_TABLE {
        let make = || out(is_ended, sent, acknowledged);
        assert_eq!(make().state(), state);
        for (input, outcome) in OUT_INPUTS.into_iter().zip(outcomes.split('|')) {
            let outcome =
                OUT_WORDS.iter().fold(outcome.to_owned(), |out, (word, text)| out.replace(word, text));
            assert_eq!(of_out(make, input), outcome, "{state:?} {sent} {acknowledged}, {input}");
        }
    }
}

fn message(msg_seq: u64, is_last: bool) -> Frame {
    Message { is_last, ..say("x") }.into_frame(Place { msg_seq, ..Place::default() })
}

/// The numbers that are handed over.
fn hear(inn: &mut Inbound, msg_seq: u64, is_last: bool) -> Result<Vec<u64>, Refusal> {
    let limits = Limits::default();
    let left = Held { bytes: 1 << 20, pieces: 100 };
    let rules = Rules { limits: &limits, left, may_be_long: true };
    let mut heard = Vec::new();
    inn.on_frame(message(msg_seq, is_last), rules, at(0), &mut |delivery| heard.push(delivery.msg_seq))?;
    Ok(heard)
}

fn inbound(state: InState) -> Inbound {
    let mut inn = Inbound::default();
    hear(&mut inn, 1, state != InState::Open).unwrap();
    if state == InState::Finished {
        inn.on_consumed(1, &Limits::default(), at(0));
        assert_eq!(inn.acks.poll(), Some(1));
    }
    assert_eq!(inn.state(), state);
    inn
}

fn of_in(state: InState, input: &str) -> String {
    let mut inn = inbound(state);
    let heard = match input {
        "next" => hear(&mut inn, 2, false),
        "last" => hear(&mut inn, 2, true),
        "later" => hear(&mut inn, 3, false),
        "again" => hear(&mut inn, 1, false),
        "zero" => hear(&mut inn, 0, false),
        "far" => hear(&mut inn, 2 + MESSAGES_MAX as u64, false),
        "consumed" => {
            inn.on_consumed(1, &Limits::default(), at(0));
            Ok(vec![])
        }
        _ => inn.on_time(at(5000)).map(|_| vec![]),
    };
    let ack = inn.acks.poll().map_or(String::new(), |msg_seq| format!(" ack {msg_seq}"));
    match heard {
        Ok(heard) => format!("{:?} {heard:?}{ack}", inn.state()),
        Err(refusal) => refusal.reason.as_str().to_owned(),
    }
}

#[test]
fn every_input_in_every_state_of_what_is_heard_does_what_the_table_says() {
    let inputs = ["next", "last", "later", "again", "zero", "far", "consumed", "time"];
    let zero = "messages are numbered from 1";
    let behind = "a message after the last";
    let far = "a message far ahead of the others";
    let table = [
        (InState::Open, ["Open [2]", "Ended [2]", "Open []", "Open []", zero, far, "Open []", "Open []"]),
        (InState::Ended, [behind, behind, behind, "Ended []", zero, behind, "Finished [] ack 1", "Ended []"]),
        (
            InState::Finished,
            [behind, behind, behind, "Finished [] ack 1", zero, behind, "Finished []", "Finished []"],
        ),
    ];
    for (state, outcomes) in table {
        for (input, outcome) in inputs.into_iter().zip(outcomes) {
            assert_eq!(of_in(state, input), outcome, "{state:?}, {input}");
        }
    }
    // The farthest that is taken.
    assert_eq!(hear(&mut inbound(InState::Open), 1 + MESSAGES_MAX as u64, false), Ok(vec![]));
}

#[test]
fn what_came_too_early_is_handed_over_in_its_order_and_once() {
    let mut inn = Inbound::default();
    assert_eq!(hear(&mut inn, 3, true), Ok(vec![]));
    assert_eq!(hear(&mut inn, 2, false), Ok(vec![]));
    assert_eq!(hear(&mut inn, 3, true), Ok(vec![]));
    assert_eq!(hear(&mut inn, 1, false), Ok(vec![1, 2, 3]));
    assert_eq!((inn.state(), inn.held()), (InState::Ended, Held { bytes: 9, pieces: 3 }));
}

#[test]
fn a_message_is_sent_again_as_often_as_its_limit_and_no_more() {
    let mut out = out(false, 2, 0);
    let again = (0..50).filter(|_| {
        out.on_missing(Missing { msg_seq: 1, fragments: vec![] });
        out.poll(Place::default(), CUT).is_some()
    });
    assert_eq!(again.count(), 32);
}

#[test]
fn what_comes_behind_the_last_message_is_forgotten() {
    let mut inn = Inbound::default();
    assert_eq!(hear(&mut inn, 3, false), Ok(vec![]));
    assert_eq!(hear(&mut inn, 2, true), Ok(vec![]));
    assert_eq!(hear(&mut inn, 1, false), Ok(vec![1, 2]));
    assert_eq!((inn.held(), inn.gap_due()), (Held { bytes: 6, pieces: 2 }, None));
}

#[test]
fn a_message_that_is_acknowledged_while_it_is_sent_again_leaves_the_next_one_whole() {
    let mut out = Outbound::default();
    for text in ["a".repeat(100), "b".repeat(100)] {
        out.push(say(&text));
    }
    let poll =
        |out: &mut Outbound| out.poll(Place::default(), CUT).map(|frame| (frame.msg_seq, frame.frag_seq));
    (0..4).for_each(|_| assert!(poll(&mut out).is_some()));
    out.on_resumed(0).unwrap();
    assert_eq!(poll(&mut out), Some((1, 0)));
    out.on_ack(1).unwrap();
    assert_eq!([poll(&mut out), poll(&mut out), poll(&mut out)], [Some((2, 0)), Some((2, 1)), None]);
}
