//! Every state with every input: what the machine and the lane concerned come to.

use super::*;

/// Two lanes that an arbiter decides between; lane `a` is what inputs are about.
const STATES: [&str; 6] = ["due", "waiting", "streaming", "arbitrating", "decided", "done"];

fn state(name: &str) -> Fanout {
    let more = json!({"policy": "arbiter", "budget": {"tokens": 100}, "provisional": false});
    if name == "due" {
        return Fanout::new(dispatch(2, more), Qos::Silver, at(0));
    }
    let mut fanout = started(2, more);
    if name == "waiting" {
        return fanout;
    }
    fanout.on_text(LaneId(0), "red", 1, at(1));
    if name == "streaming" {
        return fanout;
    }
    answer(&mut fanout, 1, "blue", at(2));
    fanout.on_end(LaneId(0), spend(1, 10), at(2));
    if name == "arbitrating" {
        assert!(matches!(decisions(&mut fanout, at(2))[..], [Action::Arbitrate(_)]));
        return fanout;
    }
    fanout.on_verdict(Some(0), spend(1, 10), at(2));
    if name == "done" {
        actions(&mut fanout, at(2));
    }
    fanout
}

const INPUTS: [&str; 10] =
    ["text", "end", "failed", "rejected", "spent", "all spent", "verdict", "lanes' time", "time", "cancel"];

fn input(name: &str, fanout: &mut Fanout) {
    let (lane, now) = (LaneId(0), at(3));
    match name {
        "text" => fanout.on_text(lane, "more", 1, now),
        "end" => fanout.on_end(lane, spend(1, 10), now),
        "failed" => fanout.on_failed(lane, Code::Adapter, true, spend(1, 10), now),
        "rejected" => {
            fanout.on_failed(LaneId(1), Code::Window, true, spend(0, 0), now);
            fanout.on_failed(lane, Code::Window, true, spend(0, 0), now);
        }
        "spent" => fanout.on_spent(lane, spend(97, 10), now),
        "all spent" => fanout.on_spent(lane, spend(100, 10), now),
        "verdict" => fanout.on_verdict(Some(0), spend(1, 10), now),
        "lanes' time" => fanout.on_time(at(20_000)),
        "time" => fanout.on_time(at(30_000)),
        "cancel" => fanout.on_cancel(now),
        _ => unreachable!("{name} is no input"),
    }
}

fn shown(fanout: &Fanout) -> String {
    let phase = match fanout.phase {
        Phase::Running => "running",
        Phase::Arbitrating => "arbitrating",
        Phase::Decided(Decision::Nothing(code)) => code.as_str(),
        Phase::Decided(_) => "answer",
        Phase::Done => "done",
    };
    format!("{phase}/{}", render::state_word(fanout.lanes[0].state))
}

#[test]
fn every_state_takes_every_input() {
    let mut table = String::new();
    for name in STATES {
        for what in INPUTS {
            let mut fanout = state(name);
            input(what, &mut fanout);
            table.push_str(&format!("{name} + {what} = {}\n", shown(&fanout)));
        }
    }
    assert_eq!(table, EXPECTED, "\n{table}");
}

const EXPECTED: &str = "\
due + text = running/due
due + end = running/due
due + failed = running/EADAPTER
due + rejected = EWINDOW/EWINDOW
due + spent = running/due
due + all spent = EBUDGET/budget_exceeded
due + verdict = running/due
due + lanes' time = ETIMEOUT/late
due + time = ETIMEOUT/late
due + cancel = EPREEMPT/cancelled
waiting + text = running/streaming
waiting + end = running/EADAPTER
waiting + failed = running/EADAPTER
waiting + rejected = EWINDOW/EWINDOW
waiting + spent = running/waiting
waiting + all spent = EBUDGET/budget_exceeded
waiting + verdict = running/waiting
waiting + lanes' time = ETIMEOUT/late
waiting + time = ETIMEOUT/late
waiting + cancel = EPREEMPT/cancelled
streaming + text = running/streaming
streaming + end = running/complete
streaming + failed = running/EADAPTER
streaming + rejected = EWINDOW/EWINDOW
streaming + spent = running/streaming
streaming + all spent = EBUDGET/budget_exceeded
streaming + verdict = running/streaming
streaming + lanes' time = ETIMEOUT/late
streaming + time = ETIMEOUT/late
streaming + cancel = EPREEMPT/cancelled
arbitrating + text = arbitrating/complete
arbitrating + end = arbitrating/complete
arbitrating + failed = arbitrating/complete
arbitrating + rejected = arbitrating/complete
arbitrating + spent = arbitrating/complete
arbitrating + all spent = arbitrating/complete
arbitrating + verdict = answer/complete
arbitrating + lanes' time = arbitrating/complete
arbitrating + time = answer/complete
arbitrating + cancel = EPREEMPT/complete
decided + text = answer/complete
decided + end = answer/complete
decided + failed = answer/complete
decided + rejected = answer/complete
decided + spent = answer/complete
decided + all spent = answer/complete
decided + verdict = answer/complete
decided + lanes' time = answer/complete
decided + time = answer/complete
decided + cancel = answer/complete
done + text = done/complete
done + end = done/complete
done + failed = done/complete
done + rejected = done/complete
done + spent = done/complete
done + all spent = done/complete
done + verdict = done/complete
done + lanes' time = done/complete
done + time = done/complete
done + cancel = done/complete
";

#[test]
fn what_comes_behind_an_end_changes_no_answer_and_is_paid_for() {
    let mut fanout = state("decided");
    fanout.on_text(LaneId(0), " and more", 5, at(3));
    fanout.on_settled(LaneId(0), spend(9, 90));
    let outcome = outcome(&mut fanout, at(3));
    assert_eq!(outcome.text, "blue");
    assert_eq!(outcome.spend, spend(11, 110));
}

#[test]
fn pieces_out_of_order_and_twice_make_one_answer() {
    let mut fanout = started(1, json!({}));
    for (seq, text) in [(3, "c"), (1, "a"), (1, "a"), (2, "b"), (3, "c")] {
        fanout.on_piece(LaneId(0), seq, text, 1, at(1));
    }
    fanout.on_end(LaneId(0), spend(3, 3), at(1));
    assert_eq!(outcome(&mut fanout, at(1)).text, "abc");
}

#[test]
fn a_piece_that_never_comes_is_waited_for_for_five_seconds() {
    let mut fanout = started(1, json!({}));
    fanout.on_piece(LaneId(0), 2, "b", 1, at(10));
    fanout.on_end(LaneId(0), spend(1, 1), at(20));
    assert_eq!(fanout.poll_action(true, at(20)), Action::Wait { until: at(5010) });
    fanout.on_time(at(5010));
    let outcome = outcome(&mut fanout, at(5010));
    assert_eq!(outcome.text, "b");
    assert_eq!(fanout.report(LaneId(0), at(5010)).gaps, 1);
}
