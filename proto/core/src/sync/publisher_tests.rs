//! Every state of a publisher × every input, and the sentences that a table does not say.

use std::fmt::Write;
use std::sync::Arc;

use super::kit::{body, places, set};
use super::publisher::*;
use super::*;
use wire::sync_request::Message as Request;
use wire::sync_response::Message as Response;

fn request(message: Request) -> wire::SyncRequest {
    wire::SyncRequest { message: Some(message) }
}

fn hello(held: Option<Held>) -> wire::SyncRequest {
    request(Request::Hello(wire::Hello {
        node: "edge-1".into(),
        version: "0.1.0".into(),
        held: held.map(|held| held.generation.into()),
        held_hash: held.map(|held| held.hash.to_vec().into()).unwrap_or_default(),
        takes_places: false,
    }))
}

fn generation(epoch: u64, number: u64) -> Option<wire::Generation> {
    Some(wire::Generation { epoch, number })
}

fn ack(nonce: u64, epoch: u64, number: u64) -> wire::SyncRequest {
    request(Request::Ack(wire::Ack { nonce, generation: generation(epoch, number) }))
}

fn nack(nonce: u64, epoch: u64, number: u64) -> wire::SyncRequest {
    let reject = wire::Reject { kind: "Adapter".into(), name: "a".into(), reason: "no secret".into() };
    request(Request::Nack(wire::Nack { nonce, generation: generation(epoch, number), rejects: vec![reject] }))
}

fn explained(id: u64) -> wire::SyncRequest {
    request(Request::Explained(wire::ExplainAnswer { id, json: "{}".into() }))
}

/// Everything it wants to send, in words.
fn polls(publisher: &mut Publisher) -> String {
    let mut text = String::new();
    while let Some(message) = publisher.poll_question().or_else(|| publisher.poll_push()) {
        match message.message.expect("never empty") {
            Response::Push(push) => {
                let generation = push.generation.expect("always named");
                write!(text, " push {}:{}.{}", push.nonce, generation.epoch, generation.number).unwrap();
            }
            Response::Explain(question) => write!(text, " ask {}", question.id).unwrap(),
            Response::Places(list) => write!(text, " places {}", list.places.len()).unwrap(),
        }
    }
    text
}

/// Awaiting: no hello yet. Empty: hello said, no set exists. Outstanding: 1.2 pushed with nonce 1. Current:
/// 1.2 acked. Refused: 1.2 nacked.
const STATES: [&str; 5] = ["Awaiting", "Empty", "Outstanding", "Current", "Refused"];

fn publisher(state: &str) -> Publisher {
    let mut publisher = Publisher::default();
    if state != "Empty" {
        publisher.on_set(Arc::new(set(1, 2)));
    }
    if state == "Awaiting" {
        return publisher;
    }
    publisher.on_message(hello(None)).unwrap();
    polls(&mut publisher);
    match state {
        "Current" => publisher.on_message(ack(1, 1, 2)).unwrap(),
        "Refused" => publisher.on_message(nack(1, 1, 2)).unwrap(),
        _ => Event::Stale,
    };
    publisher
}

fn apply(publisher: &mut Publisher, input: &str) -> String {
    let message = match input {
        "hello" => hello(None),
        "ack 1" => ack(1, 1, 2),
        "ack 1 of another" => ack(1, 1, 9),
        "ack 2 never sent" => ack(2, 1, 2),
        "nack 1" => nack(1, 1, 2),
        "answer 1 not asked" => explained(1),
        "places" => request(Request::Places(places("a", 5))),
        "nothing" => wire::SyncRequest { message: None },
        "older set 1.1" | "newer set 1.3" | "set 2.1 of another epoch" => {
            let (epoch, number) = match input {
                "older set 1.1" => (1, 1),
                "newer set 1.3" => (1, 3),
                _ => (2, 1),
            };
            publisher.on_set(Arc::new(set(epoch, number)));
            return "taken".into();
        }
        _ => unreachable!("no such input: {input}"),
    };
    match publisher.on_message(message) {
        Ok(Event::Places(list)) => format!("places {}", list.places.len()),
        Ok(event) => format!("{event:?}").replace("Generation { epoch: 1, number: 2 }", "1.2"),
        Err(violation) => format!("{violation:?}"),
    }
}

#[test]
fn every_state_answers_every_input_as_the_table_says() {
    let inputs = [
        "hello",
        "ack 1",
        "ack 1 of another",
        "ack 2 never sent",
        "nack 1",
        "answer 1 not asked",
        "places",
        "nothing",
        "older set 1.1",
        "newer set 1.3",
        "set 2.1 of another epoch",
    ];
    let mut table = String::new();
    for state in STATES {
        for input in inputs {
            let mut publisher = publisher(state);
            let outcome = apply(&mut publisher, input);
            let polled = polls(&mut publisher);
            let then = if polled.is_empty() { "" } else { ";" };
            let current = if publisher.is_current() { "; current" } else { "" };
            writeln!(table, "{state} + {input} → {outcome}{then}{polled}{current}").unwrap();
        }
    }
    assert_eq!(table.trim(), TABLE.trim(), "the table is now:\n{table}");
}

const TABLE: &str = "
Awaiting + hello → Hello; push 1:1.2
Awaiting + ack 1 → HelloMissing
Awaiting + ack 1 of another → HelloMissing
Awaiting + ack 2 never sent → HelloMissing
Awaiting + nack 1 → HelloMissing
Awaiting + answer 1 not asked → HelloMissing
Awaiting + places → HelloMissing
Awaiting + nothing → Empty
Awaiting + older set 1.1 → taken
Awaiting + newer set 1.3 → taken
Awaiting + set 2.1 of another epoch → taken
Empty + hello → HelloTwice
Empty + ack 1 → NonceUnknown(1)
Empty + ack 1 of another → NonceUnknown(1)
Empty + ack 2 never sent → NonceUnknown(2)
Empty + nack 1 → NonceUnknown(1)
Empty + answer 1 not asked → Stale
Empty + places → places 1
Empty + nothing → Empty
Empty + older set 1.1 → taken; push 1:1.1
Empty + newer set 1.3 → taken; push 1:1.3
Empty + set 2.1 of another epoch → taken; push 1:2.1
Outstanding + hello → HelloTwice
Outstanding + ack 1 → Accepted(1.2); current
Outstanding + ack 1 of another → GenerationDiffers(1); push 2:1.2
Outstanding + ack 2 never sent → NonceUnknown(2)
Outstanding + nack 1 → Refused(1.2)
Outstanding + answer 1 not asked → Stale
Outstanding + places → places 1
Outstanding + nothing → Empty
Outstanding + older set 1.1 → taken
Outstanding + newer set 1.3 → taken
Outstanding + set 2.1 of another epoch → taken
Current + hello → HelloTwice; current
Current + ack 1 → Stale; current
Current + ack 1 of another → Stale; current
Current + ack 2 never sent → NonceUnknown(2); current
Current + nack 1 → Stale; current
Current + answer 1 not asked → Stale; current
Current + places → places 1; current
Current + nothing → Empty; current
Current + older set 1.1 → taken; current
Current + newer set 1.3 → taken; push 2:1.3
Current + set 2.1 of another epoch → taken; push 2:2.1
Refused + hello → HelloTwice
Refused + ack 1 → Stale
Refused + ack 1 of another → Stale
Refused + ack 2 never sent → NonceUnknown(2)
Refused + nack 1 → Stale
Refused + answer 1 not asked → Stale
Refused + places → places 1
Refused + nothing → Empty
Refused + older set 1.1 → taken
Refused + newer set 1.3 → taken; push 2:1.3
Refused + set 2.1 of another epoch → taken; push 2:2.1
";

#[test]
fn sets_that_come_while_a_push_is_unanswered_become_one_push() {
    let mut publisher = publisher("Outstanding");
    for number in 3..10 {
        publisher.on_set(Arc::new(set(1, number)));
        assert_eq!(polls(&mut publisher), "");
    }
    publisher.on_message(ack(1, 1, 2)).unwrap();
    assert_eq!(polls(&mut publisher), " push 2:1.9");
}

#[test]
fn a_data_plane_that_holds_the_newest_set_is_sent_nothing() {
    let newest = Arc::new(set(1, 2));
    let mut publisher = Publisher::default();
    publisher.on_set(Arc::clone(&newest));
    publisher.on_message(hello(Some(newest.held()))).unwrap();
    assert_eq!(polls(&mut publisher), "");
    assert!(publisher.is_current());
}

#[test]
fn the_same_generation_with_another_hash_is_pushed() {
    let mut publisher = Publisher::default();
    publisher.on_set(Arc::new(set(1, 2)));
    let held = Held { hash: [0; 32], ..set(1, 2).held() };
    publisher.on_message(hello(Some(held))).unwrap();
    assert_eq!(polls(&mut publisher), " push 1:1.2");
}

#[test]
fn a_refused_set_is_not_sent_again_until_a_newer_one_or_a_new_stream() {
    let mut publisher = publisher("Refused");
    publisher.on_set(Arc::new(set(1, 2)));
    assert_eq!(polls(&mut publisher), "");
    assert_eq!(publisher.rejects()[0].reason, "no secret");
    publisher.on_set(Arc::new(set(1, 3)));
    assert_eq!(polls(&mut publisher), " push 2:1.3");
    publisher.on_message(ack(2, 1, 3)).unwrap();
    assert!(publisher.rejects().is_empty());
}

#[test]
fn hello_needs_names_within_bounds_and_a_whole_identity_of_what_is_held() {
    let refused = |change: fn(&mut wire::Hello)| {
        let Some(Request::Hello(mut hello)) = hello(Some(set(1, 2).held())).message else { unreachable!() };
        change(&mut hello);
        Publisher::default().on_hello(hello)
    };
    assert_eq!(refused(|hello| hello.node = "n".repeat(NODE_BYTES_MAX)), Ok(Event::Hello));
    assert_eq!(refused(|hello| hello.node = "n".repeat(NODE_BYTES_MAX + 1)), Err(Violation::HelloNames));
    assert_eq!(refused(|hello| hello.node.clear()), Err(Violation::HelloNames));
    assert_eq!(refused(|hello| hello.version.clear()), Err(Violation::HelloNames));
    assert_eq!(refused(|hello| hello.node.push('\u{1b}')), Err(Violation::HelloNames));
    assert_eq!(refused(|hello| hello.version.push('é')), Err(Violation::HelloNames));
    assert_eq!(refused(|hello| hello.held = None), Err(Violation::HelloHeld));
    assert_eq!(refused(|hello| hello.held_hash = vec![1; 31].into()), Err(Violation::HelloHeld));
}

#[test]
fn a_question_goes_out_before_a_push_and_its_answer_comes_back_once() {
    let mut publisher = publisher("Awaiting");
    let id = publisher.ask("auto".into(), String::new(), String::new()).unwrap();
    assert_eq!(polls(&mut publisher), "", "nothing before hello");
    publisher.on_message(hello(None)).unwrap();
    assert_eq!(polls(&mut publisher), " ask 1 push 1:1.2");
    let answer = Event::Explained { id, json: "{}".into() };
    assert_eq!(publisher.on_message(explained(id)), Ok(answer));
    assert_eq!(publisher.on_message(explained(id)), Ok(Event::Stale));
}

#[test]
fn a_question_nobody_waits_for_is_neither_sent_nor_counted() {
    let mut publisher = publisher("Current");
    let ask = |publisher: &mut Publisher| publisher.ask(String::new(), String::new(), String::new());
    let unsent = ask(&mut publisher).unwrap();
    publisher.forget(unsent);
    assert_eq!(polls(&mut publisher), "");
    let ids: Vec<u64> = (0..QUESTIONS_MAX).map(|_| ask(&mut publisher).unwrap()).collect();
    assert_eq!(ask(&mut publisher), Err(Busy));
    polls(&mut publisher);
    assert_eq!(ask(&mut publisher), Err(Busy), "sent ones count too");
    publisher.forget(ids[0]);
    assert!(ask(&mut publisher).is_ok());
}

#[test]
fn an_answer_of_the_largest_size_is_taken_and_one_byte_more_ends_the_stream() {
    let mut publisher = publisher("Current");
    let id = publisher.ask(String::new(), String::new(), String::new()).unwrap();
    polls(&mut publisher);
    let sized = |bytes: usize| {
        request(Request::Explained(wire::ExplainAnswer { id, json: vec![b' '; bytes].into() }))
    };
    let over = ANSWER_BYTES_MAX + 1;
    assert_eq!(publisher.on_message(sized(over)), Err(Violation::AnswerTooLong(over)));
    assert!(matches!(publisher.on_message(sized(over - 1)), Ok(Event::Explained { .. })));
}

#[test]
fn reasons_are_kept_up_to_their_bound_and_the_rest_is_counted() {
    let reject =
        |at: usize| wire::Reject { kind: "Route".into(), name: at.to_string(), reason: "é".repeat(1024) };
    let exact: Vec<_> = (0..REJECTS_MAX).map(reject).collect();
    let kept = bounded(exact);
    assert_eq!(kept.len(), REJECTS_MAX);
    assert!(kept.iter().all(|reject| reject.reason.len() == REASON_BYTES_MAX));
    let over: Vec<_> = (0..REJECTS_MAX + 1).map(reject).collect();
    let kept = bounded(over);
    assert_eq!(kept.len(), REJECTS_MAX);
    assert_eq!(kept[REJECTS_MAX - 1].reason, "and 2 more reasons");
}

#[test]
fn reasons_hold_nothing_a_terminal_would_obey() {
    let reject = wire::Reject { reason: "no\n\u{1b}[2Jsecret".into(), ..wire::Reject::default() };
    assert_eq!(bounded(vec![reject])[0].reason, "no  [2Jsecret");
}

#[test]
fn a_push_is_due_with_its_size_until_it_is_polled() {
    let mut publisher = publisher("Empty");
    assert_eq!(publisher.push_due(), None);
    publisher.on_set(Arc::new(set(1, 2)));
    assert_eq!(publisher.push_due(), Some(set(1, 2).bytes()));
    assert!(publisher.poll_push().is_some());
    assert_eq!((publisher.push_due(), publisher.poll_push()), (None, None));
}

#[test]
fn a_push_carries_the_bodies_the_generation_and_their_hash() {
    let resources = vec![body("Adapter", "a", 3), body("Route", "b", 4)];
    let set = PublishedSet::new(Generation { epoch: 5, number: 6 }, resources.clone()).unwrap();
    let mut publisher = Publisher::default();
    publisher.on_set(Arc::new(set));
    publisher.on_message(hello(None)).unwrap();
    let Some(Response::Push(push)) = publisher.poll_push().unwrap().message else { panic!("no push") };
    assert_eq!(push.generation, generation(5, 6));
    assert_eq!(push.hash.as_ref(), hash(&resources));
    assert_eq!(push.resources, resources);
}
