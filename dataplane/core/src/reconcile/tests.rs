//! The machine as a whole: worked examples, every state with every input, and any order of events.

mod any;
mod policies;
mod told;
mod turns;

use proto_core::frame::Code;
use proto_core::model::Qos;
use proto_core::units::{Moment, Picodollars};
use serde_json::{Value, json};

use super::*;

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn spend(tokens: u64, cost: u64) -> Spend {
    Spend { tokens_in: 0, tokens_out: tokens, cost: Picodollars(cost) }
}

fn target(name: &str) -> Value {
    json!({"persona_id": name})
}

/// A dispatch to lanes a, b, c … with whatever else it says.
fn dispatch(lanes: usize, more: Value) -> Dispatch {
    let targets: Vec<Value> = ('a'..).take(lanes).map(|name| target(&name.to_string())).collect();
    let mut all = json!({"targets": targets, "prompt": "why?"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Dispatch::parse(&all.to_string()).unwrap()
}

/// A fan-out with all its lanes started.
fn started(lanes: usize, more: Value) -> Fanout {
    let mut fanout = Fanout::new(dispatch(lanes, more), Qos::Silver, at(0));
    for lane in 0..lanes as u8 {
        assert_eq!(fanout.poll_action(true, at(0)), Action::Start(LaneId(lane)));
    }
    fanout
}

/// The whole answer of a lane at once, at a cost of 10 for a token.
fn answer(fanout: &mut Fanout, lane: u8, text: &str, now: Moment) {
    fanout.on_text(LaneId(lane), text, 1, now);
    fanout.on_end(LaneId(lane), spend(1, 10), now);
}

/// Everything there is to do now, up to the wait or the end.
fn actions(fanout: &mut Fanout, now: Moment) -> Vec<Action> {
    let mut all = Vec::new();
    loop {
        match fanout.poll_action(true, now) {
            Action::Wait { .. } | Action::Done => return all,
            action => all.push(action),
        }
        assert!(all.len() < 1000, "it never waits");
    }
}

/// The same without pieces and ends of lanes.
fn decisions(fanout: &mut Fanout, now: Moment) -> Vec<Action> {
    let is_plain = |action: &Action| matches!(action, Action::Stream(_) | Action::LaneEnd(_));
    actions(fanout, now).into_iter().filter(|action| !is_plain(action)).collect()
}

/// The final answer, which is the last thing there is to do.
fn outcome(fanout: &mut Fanout, now: Moment) -> Outcome {
    match actions(fanout, now).pop() {
        Some(Action::Final(outcome)) => *outcome,
        other => panic!("{other:?} is no final answer"),
    }
}

fn failure(fanout: &mut Fanout, now: Moment) -> Failure {
    match actions(fanout, now).pop() {
        Some(Action::Failed(failure)) => failure,
        other => panic!("{other:?} is no failure"),
    }
}
