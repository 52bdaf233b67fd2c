//! What each policy answers, with numbers.

use super::*;

#[test]
fn the_first_whole_answer_wins_and_the_others_are_cancelled() {
    let mut fanout = started(3, json!({}));
    fanout.on_text(LaneId(0), "slow", 1, at(10));
    answer(&mut fanout, 1, "fast", at(20));
    assert_eq!(fanout.poll_action(true, at(20)), Action::Cancel(LaneId(0)));
    fanout.on_settled(LaneId(0), spend(7, 70));
    let outcome = outcome(&mut fanout, at(20));
    assert_eq!((outcome.text.as_str(), outcome.winner), ("fast", Some(LaneId(1))));
    assert_eq!(outcome.spend, spend(8, 80), "what was cancelled is paid for");
    assert_eq!((outcome.agreement, outcome.latency.as_millis()), (None, 20));
    assert_eq!(fanout.poll_action(true, at(99)), Action::Done);
}

#[test]
fn bronze_is_cancelled_before_silver_and_gold() {
    let targets = json!([{"persona_id": "w"}, {"persona_id": "g"}, {"persona_id": "b", "qos": "bronze"},
        {"persona_id": "s", "qos": "silver"}]);
    let mut fanout = Fanout::new(dispatch(1, json!({"targets": targets})), Qos::Gold, at(0));
    let order = |fanout: &mut Fanout| -> Vec<u8> {
        let lane = |action: &Action| match action {
            Action::Start(lane) | Action::Cancel(lane) => Some(lane.0),
            _ => None,
        };
        decisions(fanout, at(1)).iter().filter_map(lane).collect()
    };
    assert_eq!(order(&mut fanout), [0, 1, 3, 2], "the best start first");
    answer(&mut fanout, 0, "x", at(1));
    assert_eq!(order(&mut fanout), [2, 3, 1]);
}

#[test]
fn a_target_may_ask_for_worse_service_and_not_for_better() {
    let targets = json!([{"persona_id": "a", "qos": "gold"}, {"persona_id": "b", "qos": "bronze"}]);
    let mut fanout = Fanout::new(dispatch(1, json!({"targets": targets})), Qos::Silver, at(0));
    actions(&mut fanout, at(0));
    let limits = [lane::buffer_chars(Qos::Silver), lane::buffer_chars(Qos::Bronze)];
    for (lane, limit) in [0, 1].into_iter().zip(limits) {
        fanout.on_text(LaneId(lane), &"x".repeat(limit), 1, at(1));
        assert!(matches!(fanout.poll_action(false, at(1)), Action::Wait { .. }));
        fanout.on_text(LaneId(lane), "x", 1, at(1));
        assert_eq!(fanout.poll_action(false, at(1)), Action::Pause(LaneId(lane)));
    }
}

#[test]
fn three_of_five_are_enough_whatever_the_others_say() {
    let mut fanout = started(5, json!({"policy": "consensus"}));
    answer(&mut fanout, 0, "The sky is blue.", at(1));
    answer(&mut fanout, 3, "the sky is blue", at(2));
    let only = decisions(&mut fanout, at(2));
    assert!(matches!(&only[..], [Action::Provisional(_)]), "2 of 5 may come to less than 0.6: {only:?}");
    answer(&mut fanout, 4, "The sky is BLUE!", at(3));
    assert_eq!(decisions(&mut fanout, at(3))[..2], [Action::Cancel(LaneId(1)), Action::Cancel(LaneId(2))]);
    let mut fanout = started(5, json!({"policy": "consensus", "provisional": false}));
    for (lane, text) in [(0, "The sky is blue."), (1, "green"), (3, "the sky is blue"), (2, "red")] {
        answer(&mut fanout, lane, text, at(1));
        assert_eq!(decisions(&mut fanout, at(1)), []);
    }
    answer(&mut fanout, 4, "The sky is BLUE!", at(3));
    let outcome = outcome(&mut fanout, at(3));
    assert_eq!(outcome.agreement, Some(Share { part: 3, whole: 5 }));
    assert!(outcome.is_agreed);
    assert_eq!(outcome.groups.len(), 3);
    assert_eq!(outcome.groups[0].members, [0, 3, 4]);
}

#[test]
fn without_agreement_there_is_no_answer_or_the_best_as_was_asked() {
    let run = |more: Value| {
        let mut fanout = started(3, more);
        for (lane, text) in [(0, "red"), (1, "blue"), (2, "green")] {
            answer(&mut fanout, lane, text, at(5));
        }
        fanout
    };
    let failure = failure(&mut run(json!({"policy": "consensus"})), at(5));
    assert_eq!(failure.code, Code::Consensus);
    assert!(failure.reason.starts_with("3 answers in 3 groups; the largest: 0.333"), "{}", failure.reason);
    let best = outcome(&mut run(json!({"policy": "consensus", "otherwise": "best"})), at(5));
    assert_eq!((best.is_agreed, best.agreement), (false, Some(Share { part: 1, whole: 3 })));
}

#[test]
fn weights_are_votes() {
    let targets = json!([{"persona_id": "a", "weight": 3}, {"persona_id": "b"}, {"persona_id": "c"}]);
    let mut fanout = started(3, json!({"targets": targets, "policy": "consensus", "quorum_min": 1}));
    answer(&mut fanout, 0, "red", at(1));
    let outcome = outcome(&mut fanout, at(1));
    assert_eq!((outcome.text.as_str(), outcome.is_agreed), ("red", true));
}

#[test]
fn a_quorum_that_is_out_of_reach_is_not_waited_for() {
    let mut fanout = started(2, json!({"policy": "consensus"}));
    fanout.on_failed(LaneId(0), Code::AgentDown, true, spend(0, 0), at(1));
    assert_eq!(decisions(&mut fanout, at(1))[0], Action::Cancel(LaneId(1)));
}

#[test]
fn a_merge_says_what_all_said_with_what_it_weighs() {
    let targets = json!([{"persona_id": "a"}, {"persona_id": "b", "weight": 3}]);
    let mut fanout = started(2, json!({"targets": targets, "policy": "weighted-merge"}));
    answer(&mut fanout, 0, "The sky is blue. Dust makes it red.", at(1));
    assert_eq!(decisions(&mut fanout, at(1)), [], "a merge of one is none yet");
    answer(&mut fanout, 1, "The sky is blue. Light is scattered.", at(2));
    let outcome = outcome(&mut fanout, at(2));
    assert_eq!(outcome.text, "The sky is blue. Dust makes it red. Light is scattered.");
    let support: Vec<f64> = outcome.support.iter().map(|share| share.as_f64()).collect();
    assert_eq!(support, [1.0, 0.25, 0.75]);
    assert_eq!(outcome.winner, None);
}

#[test]
fn an_arbiter_is_not_asked_where_answers_agree() {
    let mut fanout = started(2, json!({"policy": "arbiter"}));
    answer(&mut fanout, 0, "The sky is blue.", at(1));
    answer(&mut fanout, 1, "the sky is blue", at(2));
    let outcome = outcome(&mut fanout, at(2));
    assert_eq!((outcome.arbiter, outcome.is_agreed), (Verdict::NotAsked, true));
}

fn divided(more: Value) -> (Fanout, Arbitration) {
    let mut all = json!({"policy": "arbiter", "arbiter_max_usd": 0.01, "provisional": false});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut fanout = started(2, all);
    answer(&mut fanout, 0, "red", at(1));
    answer(&mut fanout, 1, "blue", at(2));
    match decisions(&mut fanout, at(2)).pop() {
        Some(Action::Arbitrate(arbitration)) => (fanout, arbitration),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_arbiter_chooses_and_its_cost_is_in_the_bill() {
    let (mut fanout, arbitration) = divided(json!({}));
    assert_eq!(arbitration.cost_max, Picodollars(10_000_000_000));
    assert_eq!(fanout.text(arbitration.candidates[0]), "blue", "of equals the first by its bytes");
    fanout.on_verdict(Some(1), spend(3, 30), at(9));
    let outcome = outcome(&mut fanout, at(9));
    assert_eq!((outcome.text.as_str(), outcome.arbiter), ("red", Verdict::Chose(LaneId(0))));
    assert_eq!(outcome.spend, spend(5, 50));
}

#[test]
fn an_arbiter_that_fails_or_is_late_leaves_the_best_there_is() {
    let (mut unclear, _) = divided(json!({}));
    unclear.on_verdict(None, spend(3, 30), at(9));
    let told = outcome(&mut unclear, at(9));
    assert_eq!((told.text.as_str(), told.arbiter, told.is_agreed), ("blue", Verdict::Unclear, false));
    let (mut dear, _) = divided(json!({}));
    dear.on_too_dear();
    dear.on_verdict(None, Spend::default(), at(9));
    let told = outcome(&mut dear, at(9));
    let spent = (told.arbiter, told.is_budget_spent);
    assert_eq!((told.text.as_str(), spent), ("blue", (Verdict::TooDear, true)), "refused where it asked");
    let (mut late, arbitration) = divided(json!({"deadline_ms": 3000}));
    assert_eq!(arbitration.until, at(3000));
    assert_eq!(late.poll_action(true, at(9)), Action::Wait { until: at(3000) });
    late.on_time(at(3000));
    assert_eq!(late.poll_action(true, at(3000)), Action::CancelArbiter);
    late.on_verdict(Some(1), spend(3, 30), at(3000));
    let told = outcome(&mut late, at(3000));
    assert_eq!((told.text.as_str(), told.arbiter), ("blue", Verdict::Late));
    assert_eq!(told.spend.cost, Picodollars(50), "it is paid for all the same");
}

#[test]
fn an_arbiter_gets_what_is_left_of_the_budget_and_none_where_nothing_is() {
    let (_, arbitration) = divided(json!({"budget": {"dollars": 0.000000000025, "tokens": 9}}));
    assert_eq!((arbitration.cost_max, arbitration.tokens_max), (Picodollars(5), Some(7)));
    let mut fanout = started(2, json!({"policy": "arbiter", "budget": {"dollars": 0.00000000002}}));
    answer(&mut fanout, 0, "red", at(1));
    answer(&mut fanout, 1, "blue", at(2));
    let outcome = outcome(&mut fanout, at(2));
    assert_eq!((outcome.arbiter, outcome.is_budget_spent), (Verdict::TooDear, true));
}

#[test]
fn lanes_leave_an_arbiter_a_third_of_the_time() {
    let mut fanout = started(3, json!({"policy": "arbiter", "deadline_ms": 3000, "provisional": false}));
    answer(&mut fanout, 0, "red", at(1));
    answer(&mut fanout, 1, "blue", at(1));
    actions(&mut fanout, at(1));
    assert_eq!(fanout.poll_action(true, at(1)), Action::Wait { until: at(2000) });
    fanout.on_time(at(2000));
    let now = decisions(&mut fanout, at(2000));
    assert!(matches!(now[..], [Action::Cancel(LaneId(2)), Action::Arbitrate(_)]), "{now:?}");
}

#[test]
fn the_champion_answers_and_who_was_ready_is_compared() {
    let targets = json!([{"persona_id": "x", "role": "challenger"}, {"persona_id": "c", "role": "champion"},
        {"persona_id": "y"}]);
    let mut fanout = started(3, json!({"targets": targets, "policy": "champion"}));
    answer(&mut fanout, 0, "the sky is blue", at(1));
    assert_eq!(decisions(&mut fanout, at(1)), [], "a challenger never answers for a champion that may");
    fanout.on_text(LaneId(1), "The sky is blue.", 1, at(5));
    fanout.on_end(LaneId(1), spend(1, 20), at(5));
    let outcome = outcome(&mut fanout, at(5));
    assert_eq!((outcome.winner, outcome.comparisons.len()), (Some(LaneId(1)), 1));
    let compared = outcome.comparisons[0];
    assert_eq!(compared.challenger, LaneId(0));
    assert!(compared.is_same && compared.is_cheaper && compared.is_faster);
}

#[test]
fn a_challenger_stands_in_for_a_champion_that_failed() {
    let mut fanout = started(3, json!({"policy": "champion"}));
    fanout.on_failed(LaneId(0), Code::AgentDown, true, spend(0, 0), at(1));
    assert_eq!(decisions(&mut fanout, at(1)), []);
    answer(&mut fanout, 2, "stands in", at(2));
    let outcome = outcome(&mut fanout, at(2));
    assert_eq!((outcome.winner, outcome.comparisons.len()), (Some(LaneId(2)), 0));
}

#[test]
fn a_budget_that_is_spent_stops_every_lane_and_what_is_whole_counts() {
    let more =
        json!({"policy": "consensus", "otherwise": "best", "budget": {"tokens": 10}, "provisional": false});
    let mut fanout = started(3, more);
    answer(&mut fanout, 0, "red", at(1));
    fanout.on_text(LaneId(1), "bl", 8, at(2));
    assert_eq!(decisions(&mut fanout, at(2)), []);
    fanout.on_text(LaneId(2), "g", 1, at(3));
    let outcome = outcome(&mut fanout, at(3));
    assert_eq!((outcome.text.as_str(), outcome.is_budget_spent), ("red", true));
    let mut poor = started(2, json!({"budget": {"dollars": 0.00000000001}}));
    poor.on_spent(LaneId(0), spend(1, 10), at(1));
    let failure = failure(&mut poor, at(1));
    assert_eq!((failure.code, failure.spend), (Code::Budget, spend(1, 10)));
}

#[test]
fn at_the_deadline_what_is_whole_counts_and_parts_only_where_asked_for() {
    let run = |more: Value| {
        let mut fanout = started(2, more);
        fanout.on_text(LaneId(1), "first part", 1, at(1));
        fanout.on_text(LaneId(0), "second part", 1, at(2));
        assert_eq!(decisions(&mut fanout, at(2)), []);
        fanout.on_time(at(29_999));
        assert_eq!(decisions(&mut fanout, at(29_999)), []);
        fanout.on_time(at(30_000));
        fanout
    };
    let failure = failure(&mut run(json!({})), at(30_000));
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::Timeout, "no lane answered: a#1 late, b#2 late")
    );
    let outcome = outcome(&mut run(json!({"partial": true})), at(30_000));
    assert_eq!((outcome.text.as_str(), outcome.is_partial), ("first part", true));
}

#[test]
fn a_fatal_failure_leaves_nothing_and_another_its_part() {
    let run = |is_fatal: bool| {
        let mut fanout = started(1, json!({"partial": true}));
        fanout.on_text(LaneId(0), "half", 1, at(1));
        fanout.on_failed(LaneId(0), Code::Adapter, is_fatal, spend(1, 10), at(2));
        fanout
    };
    assert_eq!(failure(&mut run(true), at(2)).code, Code::Adapter);
    assert_eq!(outcome(&mut run(false), at(2)).text, "half");
}

#[test]
fn lanes_that_fail_differently_are_down_together() {
    let mut fanout = started(2, json!({}));
    fanout.on_failed(LaneId(0), Code::Circuit, true, spend(0, 0), at(1));
    fanout.on_end(LaneId(1), spend(0, 0), at(1));
    let failure = failure(&mut fanout, at(1));
    assert_eq!(failure.code, Code::AgentDown);
    assert_eq!(failure.reason, "no lane answered: a#1 ECIRCUIT, b#2 EADAPTER");
}

#[test]
fn an_answer_too_long_to_keep_is_no_answer() {
    let mut fanout = started(2, json!({}));
    fanout.on_text(LaneId(0), &"x".repeat(lane::ANSWER_BYTES_MAX + 1), 1, at(1));
    assert_eq!(fanout.poll_action(true, at(1)), Action::Cancel(LaneId(0)));
    answer(&mut fanout, 1, "short", at(2));
    assert_eq!(outcome(&mut fanout, at(2)).winner, Some(LaneId(1)));
}
