//! Every state of a subscriber × every input, and the sentences that a table does not say.

use std::fmt::Write;

use super::kit::{body, places, set};
use super::subscriber::*;
use super::*;
use wire::sync_request::Message as Request;
use wire::sync_response::Message as Response;

fn response(message: Response) -> wire::SyncResponse {
    wire::SyncResponse { message: Some(message) }
}

fn push(nonce: u64, epoch: u64, number: u64) -> wire::Push {
    set(epoch, number).push(nonce)
}

fn question(id: u64) -> wire::ExplainQuestion {
    wire::ExplainQuestion { id, model: "auto".into(), task_type: String::new(), tenant: String::new() }
}

fn generation(wire: Option<wire::Generation>) -> String {
    let wire = wire.expect("always named");
    format!("{}.{}", wire.epoch, wire.number)
}

/// Every action it yields, in words; candidates and questions stay with the test.
fn polls(subscriber: &mut Subscriber) -> (String, Option<Candidate>) {
    let (mut text, mut taken) = (String::new(), None);
    while let Some(action) = subscriber.poll_action() {
        match action {
            Action::Build(candidate) => {
                let Generation { epoch, number } = candidate.generation;
                write!(text, " build {epoch}.{number}").unwrap();
                taken = Some(candidate);
            }
            Action::Explain(question) => write!(text, " explain {}", question.model).unwrap(),
            Action::Hear(list) => write!(text, " hear {}", list.places.len()).unwrap(),
            Action::Send(message) => match message.message.expect("never empty") {
                Request::Hello(hello) => {
                    let held = hello.held.map_or("nothing".into(), |held| generation(Some(held)));
                    write!(text, " hello {held}").unwrap();
                }
                Request::Ack(ack) => {
                    write!(text, " ack {}:{}", ack.nonce, generation(ack.generation)).unwrap();
                }
                Request::Nack(nack) => {
                    write!(text, " nack {}:{}", nack.nonce, generation(nack.generation)).unwrap();
                }
                Request::Explained(answer) => write!(text, " answer {}", answer.id).unwrap(),
                Request::Places(list) => write!(text, " places {}", list.places.len()).unwrap(),
            },
        }
    }
    (text, taken)
}

fn connected(held: Option<Held>) -> Subscriber {
    let mut subscriber = Subscriber::new("edge-1".into(), "0.1.0".into(), held);
    subscriber.on_connected();
    polls(&mut subscriber);
    subscriber
}

/// Takes the candidate of the newest push.
fn take(subscriber: &mut Subscriber) -> Ticket {
    polls(subscriber).1.expect("a candidate").ticket
}

/// Away: never connected, holds 1.2. Empty: connected, holds nothing. Idle: holds 1.2. Waiting: 1.3 pushed
/// with nonce 1, not taken yet. Building: 1.3 taken. Orphan: 1.3 taken, then the connection was lost.
const STATES: [&str; 6] = ["Away", "Empty", "Idle", "Waiting", "Building", "Orphan"];

fn subscriber(state: &str) -> (Subscriber, Option<Ticket>) {
    let held = Some(set(1, 2).held());
    if state == "Away" {
        return (Subscriber::new("edge-1".into(), "0.1.0".into(), held), None);
    }
    let mut subscriber = connected(if state == "Empty" { None } else { held });
    let mut ticket = None;
    if matches!(state, "Waiting" | "Building" | "Orphan") {
        subscriber.on_push(push(1, 1, 3)).unwrap();
    }
    if matches!(state, "Building" | "Orphan") {
        ticket = Some(take(&mut subscriber));
    }
    if state == "Orphan" {
        subscriber.on_disconnected();
    }
    (subscriber, ticket)
}

fn apply(subscriber: &mut Subscriber, ticket: Option<Ticket>, input: &str) -> String {
    let message = match input {
        "connected" => {
            subscriber.on_connected();
            return "done".into();
        }
        "disconnected" => {
            subscriber.on_disconnected();
            return "done".into();
        }
        "accepted" | "rejected" => {
            let Some(ticket) = ticket else { return "no ticket".into() };
            if input == "accepted" {
                subscriber.accepted(ticket);
            } else {
                subscriber.rejected(ticket, vec![about_the_set("no secret".into())]);
            }
            return "done".into();
        }
        "push 1:1.4 again" => response(Response::Push(push(1, 1, 4))),
        "push 2:1.2 held" => response(Response::Push(push(2, 1, 2))),
        "push 2:1.1 older" => response(Response::Push(push(2, 1, 1))),
        "push 2:1.4" => response(Response::Push(push(2, 1, 4))),
        "push 2:2.1 of another epoch" => response(Response::Push(push(2, 2, 1))),
        "push 2 with a wrong hash" => {
            response(Response::Push(wire::Push { hash: vec![0; 32].into(), ..push(2, 1, 4) }))
        }
        "push 0" => response(Response::Push(push(0, 1, 4))),
        "push 2 of no generation" => {
            response(Response::Push(wire::Push { generation: None, ..push(2, 1, 4) }))
        }
        "question" => response(Response::Explain(question(7))),
        "places" => response(Response::Places(places("a", 5))),
        "nothing" => wire::SyncResponse { message: None },
        _ => unreachable!("no such input: {input}"),
    };
    match subscriber.on_message(message) {
        Ok(()) => "taken".into(),
        Err(unexpected) => format!("{unexpected:?}"),
    }
}

#[test]
fn every_state_answers_every_input_as_the_table_says() {
    let inputs = [
        "connected",
        "disconnected",
        "accepted",
        "rejected",
        "push 1:1.4 again",
        "push 2:1.2 held",
        "push 2:1.1 older",
        "push 2:1.4",
        "push 2:2.1 of another epoch",
        "push 2 with a wrong hash",
        "push 0",
        "push 2 of no generation",
        "question",
        "places",
        "nothing",
    ];
    let mut table = String::new();
    for state in STATES {
        for input in inputs {
            let (mut subscriber, ticket) = subscriber(state);
            let outcome = apply(&mut subscriber, ticket, input);
            let (polled, _) = polls(&mut subscriber);
            let then = if polled.is_empty() { "" } else { ";" };
            let held =
                subscriber.held().map_or("nothing".into(), |held| generation(Some(held.generation.into())));
            writeln!(table, "{state} + {input} → {outcome}{then}{polled}; holds {held}").unwrap();
        }
    }
    assert_eq!(table.trim(), TABLE.trim(), "the table is now:\n{table}");
}

const TABLE: &str = "
Away + connected → done; hello 1.2; holds 1.2
Away + disconnected → done; holds 1.2
Away + accepted → no ticket; holds 1.2
Away + rejected → no ticket; holds 1.2
Away + push 1:1.4 again → NotConnected; holds 1.2
Away + push 2:1.2 held → NotConnected; holds 1.2
Away + push 2:1.1 older → NotConnected; holds 1.2
Away + push 2:1.4 → NotConnected; holds 1.2
Away + push 2:2.1 of another epoch → NotConnected; holds 1.2
Away + push 2 with a wrong hash → NotConnected; holds 1.2
Away + push 0 → NotConnected; holds 1.2
Away + push 2 of no generation → NotConnected; holds 1.2
Away + question → NotConnected; holds 1.2
Away + places → NotConnected; holds 1.2
Away + nothing → Empty; holds 1.2
Empty + connected → done; hello nothing; holds nothing
Empty + disconnected → done; holds nothing
Empty + accepted → no ticket; holds nothing
Empty + rejected → no ticket; holds nothing
Empty + push 1:1.4 again → taken; build 1.4; holds nothing
Empty + push 2:1.2 held → taken; build 1.2; holds nothing
Empty + push 2:1.1 older → taken; build 1.1; holds nothing
Empty + push 2:1.4 → taken; build 1.4; holds nothing
Empty + push 2:2.1 of another epoch → taken; build 2.1; holds nothing
Empty + push 2 with a wrong hash → taken; nack 2:1.4; holds nothing
Empty + push 0 → NonceMissing; holds nothing
Empty + push 2 of no generation → GenerationMissing(2); holds nothing
Empty + question → taken; explain auto; holds nothing
Empty + places → taken; hear 1; holds nothing
Empty + nothing → Empty; holds nothing
Idle + connected → done; hello 1.2; holds 1.2
Idle + disconnected → done; holds 1.2
Idle + accepted → no ticket; holds 1.2
Idle + rejected → no ticket; holds 1.2
Idle + push 1:1.4 again → taken; build 1.4; holds 1.2
Idle + push 2:1.2 held → taken; ack 2:1.2; holds 1.2
Idle + push 2:1.1 older → taken; nack 2:1.1; holds 1.2
Idle + push 2:1.4 → taken; build 1.4; holds 1.2
Idle + push 2:2.1 of another epoch → taken; build 2.1; holds 1.2
Idle + push 2 with a wrong hash → taken; nack 2:1.4; holds 1.2
Idle + push 0 → NonceMissing; holds 1.2
Idle + push 2 of no generation → GenerationMissing(2); holds 1.2
Idle + question → taken; explain auto; holds 1.2
Idle + places → taken; hear 1; holds 1.2
Idle + nothing → Empty; holds 1.2
Waiting + connected → done; hello 1.2; holds 1.2
Waiting + disconnected → done; holds 1.2
Waiting + accepted → no ticket; build 1.3; holds 1.2
Waiting + rejected → no ticket; build 1.3; holds 1.2
Waiting + push 1:1.4 again → taken; build 1.3; holds 1.2
Waiting + push 2:1.2 held → taken; ack 2:1.2; holds 1.2
Waiting + push 2:1.1 older → taken; nack 2:1.1; holds 1.2
Waiting + push 2:1.4 → taken; build 1.4; holds 1.2
Waiting + push 2:2.1 of another epoch → taken; build 2.1; holds 1.2
Waiting + push 2 with a wrong hash → taken; nack 2:1.4; holds 1.2
Waiting + push 0 → NonceMissing; build 1.3; holds 1.2
Waiting + push 2 of no generation → GenerationMissing(2); build 1.3; holds 1.2
Waiting + question → taken; build 1.3 explain auto; holds 1.2
Waiting + places → taken; build 1.3 hear 1; holds 1.2
Waiting + nothing → Empty; build 1.3; holds 1.2
Building + connected → done; holds 1.2
Building + disconnected → done; holds 1.2
Building + accepted → done; ack 1:1.3; holds 1.3
Building + rejected → done; nack 1:1.3; holds 1.2
Building + push 1:1.4 again → taken; holds 1.2
Building + push 2:1.2 held → taken; holds 1.2
Building + push 2:1.1 older → taken; holds 1.2
Building + push 2:1.4 → taken; holds 1.2
Building + push 2:2.1 of another epoch → taken; holds 1.2
Building + push 2 with a wrong hash → taken; nack 2:1.4; holds 1.2
Building + push 0 → NonceMissing; holds 1.2
Building + push 2 of no generation → GenerationMissing(2); holds 1.2
Building + question → taken; explain auto; holds 1.2
Building + places → taken; hear 1; holds 1.2
Building + nothing → Empty; holds 1.2
Orphan + connected → done; holds 1.2
Orphan + disconnected → done; holds 1.2
Orphan + accepted → done; holds 1.3
Orphan + rejected → done; holds 1.2
Orphan + push 1:1.4 again → NotConnected; holds 1.2
Orphan + push 2:1.2 held → NotConnected; holds 1.2
Orphan + push 2:1.1 older → NotConnected; holds 1.2
Orphan + push 2:1.4 → NotConnected; holds 1.2
Orphan + push 2:2.1 of another epoch → NotConnected; holds 1.2
Orphan + push 2 with a wrong hash → NotConnected; holds 1.2
Orphan + push 0 → NotConnected; holds 1.2
Orphan + push 2 of no generation → NotConnected; holds 1.2
Orphan + question → NotConnected; holds 1.2
Orphan + places → NotConnected; holds 1.2
Orphan + nothing → Empty; holds 1.2
";

fn reason(subscriber: &mut Subscriber) -> String {
    let Some(Action::Send(message)) = subscriber.poll_action() else { panic!("nothing to send") };
    let Some(Request::Nack(nack)) = message.message else { panic!("not a refusal: {message:?}") };
    nack.rejects.into_iter().map(|reject| reject.reason).collect()
}

#[test]
fn a_candidate_carries_what_was_pushed() {
    let mut subscriber = connected(None);
    subscriber.on_push(push(1, 1, 3)).unwrap();
    let candidate = polls(&mut subscriber).1.unwrap();
    assert_eq!(candidate.resources, set(1, 3).resources());
    assert_eq!(candidate.hash, set(1, 3).held().hash);
}

#[test]
fn a_wrong_hash_a_nameless_resource_and_a_set_too_large_are_refused_with_the_reason() {
    let refused = |change: fn(&mut wire::Push)| {
        let mut subscriber = connected(None);
        let mut wrong = push(1, 1, 3);
        change(&mut wrong);
        subscriber.on_push(wrong).unwrap();
        reason(&mut subscriber)
    };
    let hash = refused(|push| push.resources[0].version += 1);
    assert_eq!(hash, "the hash of the 1 resources that arrived is not the one sent along");
    assert!(refused(|push| push.resources[0].name.clear()).contains("without a kind or a name"));
    let count = refused(|push| push.resources = vec![body("Route", "a", 1); RESOURCES_MAX + 1]);
    assert!(count.contains("200001 resources are more than"), "{count}");
}

#[test]
fn an_older_number_is_refused_with_both_numbers() {
    let mut subscriber = connected(Some(set(1, 2).held()));
    subscriber.on_push(push(1, 1, 1)).unwrap();
    let reason = reason(&mut subscriber);
    assert!(reason.starts_with("generation 1 of epoch 0000000000000001 is older than 2 of"), "{reason}");
}

#[test]
fn of_the_pushes_that_come_while_one_is_built_only_the_newest_is_built_next() {
    let mut subscriber = connected(None);
    subscriber.on_push(push(1, 1, 1)).unwrap();
    let first = take(&mut subscriber);
    for nonce in 2..6 {
        subscriber.on_push(push(nonce, 1, nonce)).unwrap();
        assert_eq!(polls(&mut subscriber).0, "");
    }
    subscriber.accepted(first);
    assert_eq!(polls(&mut subscriber).0, " build 1.5");
}

#[test]
fn what_was_built_for_a_lost_connection_is_held_and_the_next_hello_says_so() {
    let (mut subscriber, ticket) = subscriber("Orphan");
    subscriber.on_connected();
    assert_eq!(polls(&mut subscriber).0, "", "hello waits for the verdict");
    subscriber.accepted(ticket.unwrap());
    assert_eq!(polls(&mut subscriber).0, " hello 1.3");
}

#[test]
fn a_verdict_counts_once_and_only_for_its_candidate() {
    let (mut subscriber, ticket) = subscriber("Building");
    subscriber.accepted(ticket.unwrap());
    subscriber.rejected(ticket.unwrap(), Vec::new());
    assert_eq!(polls(&mut subscriber).0, " ack 1:1.3");
    subscriber.on_push(push(2, 1, 4)).unwrap();
    take(&mut subscriber);
    subscriber.accepted(ticket.unwrap());
    assert_eq!(polls(&mut subscriber).0, "", "the ticket was used up");
}

#[test]
fn an_answer_to_an_earlier_connections_question_is_dropped() {
    let mut subscriber = connected(None);
    subscriber.on_question(question(1)).unwrap();
    let Some(Action::Explain(asked)) = subscriber.poll_action() else { panic!("no question") };
    subscriber.on_connected();
    subscriber.explained(asked.ticket, "{}".into());
    assert_eq!(polls(&mut subscriber).0, " hello nothing");
}

#[test]
fn questions_past_the_bound_push_out_the_oldest() {
    let mut subscriber = connected(None);
    for id in 0..=QUESTIONS_MAX as u64 {
        subscriber.on_question(question(id)).unwrap();
    }
    let mut ids = Vec::new();
    while let Some(Action::Explain(asked)) = subscriber.poll_action() {
        ids.push(asked.ticket);
    }
    assert_eq!(ids.len(), QUESTIONS_MAX);
    for ticket in ids {
        subscriber.explained(ticket, "{}".into());
    }
    assert!(polls(&mut subscriber).0.starts_with(" answer 1 answer 2"), "question 0 was pushed out");
}

#[test]
fn an_explanation_too_long_is_replaced_by_one_that_says_so() {
    let mut subscriber = connected(None);
    for (bytes, kept) in [(ANSWER_BYTES_MAX, true), (ANSWER_BYTES_MAX + 1, false)] {
        subscriber.on_question(question(1)).unwrap();
        let Some(Action::Explain(asked)) = subscriber.poll_action() else { panic!("no question") };
        subscriber.explained(asked.ticket, vec![b' '; bytes].into());
        let Some(Action::Send(message)) = subscriber.poll_action() else { panic!("no answer") };
        let Some(Request::Explained(answer)) = message.message else { panic!("no answer") };
        assert_eq!(answer.json.len() == bytes, kept);
    }
}
