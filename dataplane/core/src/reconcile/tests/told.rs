//! What is told before the answer: pieces, provisional answers, and how all of it is written.

use super::*;

fn provisional(fanout: &mut Fanout, now: Moment) -> Option<Provisional> {
    decisions(fanout, now).into_iter().find_map(|action| match action {
        Action::Provisional(provisional) => Some(provisional),
        _ => None,
    })
}

#[test]
fn an_agreement_of_a_quorum_is_told_while_others_still_run() {
    let mut fanout = started(5, json!({"policy": "consensus"}));
    answer(&mut fanout, 0, "the sky is blue", at(1));
    assert_eq!(provisional(&mut fanout, at(1)), None, "one is no quorum");
    answer(&mut fanout, 1, "The sky is blue!", at(2));
    let first = provisional(&mut fanout, at(2)).unwrap();
    assert_eq!((first.revision, first.expiry.as_millis()), (1, 1500));
    assert_eq!(first.agreement, Share { part: 1, whole: 1 });
    assert_eq!(provisional(&mut fanout, at(1501)), None, "it still holds");
    assert_eq!(fanout.poll_action(true, at(1501)), Action::Wait { until: at(1502) });
    let renewed = provisional(&mut fanout, at(1502)).unwrap();
    assert_eq!((renewed.revision, renewed.text), (2, first.text));
}

#[test]
fn a_quorum_that_differs_is_told_after_700_ms() {
    let mut fanout = started(4, json!({"policy": "consensus"}));
    answer(&mut fanout, 0, "red", at(1));
    answer(&mut fanout, 1, "blue", at(2));
    assert_eq!(provisional(&mut fanout, at(699)), None);
    assert_eq!(fanout.poll_action(true, at(699)), Action::Wait { until: at(700) });
    let told = provisional(&mut fanout, at(700)).unwrap();
    assert_eq!(told.agreement, Share { part: 1, whole: 2 });
}

#[test]
fn what_was_told_is_downgraded_and_revised_when_others_disagree() {
    let mut fanout = started(6, json!({"policy": "consensus", "agree_min": 0.7, "otherwise": "best"}));
    answer(&mut fanout, 0, "blue sky", at(1));
    answer(&mut fanout, 1, "Blue sky", at(1));
    assert_eq!(provisional(&mut fanout, at(1)).unwrap().revision, 1);
    answer(&mut fanout, 2, "red", at(2));
    let whole = Share { part: 1, whole: 1 };
    let two_thirds = Share { part: 2, whole: 3 };
    let told = decisions(&mut fanout, at(2));
    assert_eq!(told[0], Action::Downgraded { from: whole, to: two_thirds });
    assert!(matches!(&told[1], Action::Provisional(told) if told.revision == 2), "it fell below 0.7");
    answer(&mut fanout, 3, "Red", at(3));
    answer(&mut fanout, 4, "RED", at(3));
    let told = decisions(&mut fanout, at(3));
    assert_eq!(told[0], Action::Downgraded { from: two_thirds, to: Share { part: 3, whole: 5 } });
    assert!(
        matches!(&told[1], Action::Provisional(told) if told.revision == 3 && told.lane == Some(LaneId(4)))
    );
    answer(&mut fanout, 5, "blue sky", at(4));
    let told = decisions(&mut fanout, at(4));
    assert_eq!(
        told[0],
        Action::Downgraded { from: Share { part: 3, whole: 5 }, to: Share { part: 1, whole: 2 } }
    );
    assert!(matches!(&told[1], Action::Final(_)), "downgraded before the final answer, too");
}

#[test]
fn nothing_provisional_is_told_where_nobody_wants_it_or_the_policy_has_none() {
    for more in [json!({"policy": "consensus", "provisional": false}), json!({"policy": "champion"})] {
        let mut fanout = started(5, more);
        answer(&mut fanout, 1, "blue", at(1));
        answer(&mut fanout, 2, "blue", at(1));
        assert_eq!(decisions(&mut fanout, at(5000)), []);
    }
}

#[test]
fn pieces_take_turns_and_what_gathers_leaves_as_one() {
    let mut fanout = started(2, json!({"policy": "weighted-merge"}));
    fanout.on_text(LaneId(0), "a", 1, at(1));
    fanout.on_text(LaneId(0), "b", 1, at(1));
    fanout.on_text(LaneId(1), "c", 1, at(1));
    let piece =
        |lane: u8, seq: u64, text: &str| Action::Stream(Piece { lane: LaneId(lane), seq, text: text.into() });
    assert_eq!(actions(&mut fanout, at(1)), [piece(0, 1, "ab"), piece(1, 1, "c")]);
    fanout.on_text(LaneId(0), "d", 1, at(2));
    fanout.on_text(LaneId(1), "e", 1, at(2));
    assert_eq!(actions(&mut fanout, at(2)), [piece(0, 2, "d"), piece(1, 2, "e")]);
    fanout.on_text(LaneId(0), "f", 1, at(3));
    fanout.on_text(LaneId(1), "g", 1, at(3));
    assert_eq!(fanout.poll_action(true, at(3)), piece(0, 3, "f"));
    fanout.on_text(LaneId(0), "h", 1, at(3));
    assert_eq!(fanout.poll_action(true, at(3)), piece(1, 3, "g"), "who always has more does not go first");
    let mut silent = started(1, json!({"stream": false}));
    answer(&mut silent, 0, "x", at(1));
    assert!(!actions(&mut silent, at(1)).iter().any(|action| matches!(action, Action::Stream(_))));
}

#[test]
fn the_winners_pieces_are_all_told_before_the_final_answer_and_the_losers_no_more() {
    let mut fanout = started(2, json!({}));
    fanout.on_text(LaneId(1), "lost", 1, at(1));
    fanout.on_text(LaneId(0), "won", 1, at(1));
    fanout.on_end(LaneId(0), spend(1, 1), at(1));
    let told = actions(&mut fanout, at(1));
    let piece = Piece { lane: LaneId(0), seq: 1, text: "won".into() };
    assert_eq!(told[0], Action::Cancel(LaneId(1)));
    assert_eq!(told[1..4], [Action::Stream(piece), Action::LaneEnd(LaneId(0)), Action::LaneEnd(LaneId(1))]);
    assert!(matches!(told[4..], [Action::Final(_)]));
}

#[test]
fn a_client_without_room_pauses_lanes_and_gets_nothing_until_it_has() {
    let mut fanout = started(2, json!({}));
    fanout.on_text(LaneId(0), &"x".repeat(257), 1, at(1));
    assert_eq!(fanout.poll_action(false, at(1)), Action::Pause(LaneId(0)));
    assert!(matches!(fanout.poll_action(false, at(1)), Action::Wait { .. }));
    assert!(matches!(fanout.poll_action(true, at(2)), Action::Stream(_)));
    assert_eq!(fanout.poll_action(true, at(2)), Action::Resume(LaneId(0)));
    answer(&mut fanout, 1, "y", at(3));
    assert_eq!(fanout.poll_action(false, at(3)), Action::Cancel(LaneId(0)), "work is stopped without room");
    assert_eq!(fanout.poll_action(false, at(3)), Action::Wait { until: Moment(u64::MAX) });
    assert_eq!(outcome(&mut fanout, at(4)).text, "y");
}

fn written(content: Vec<u8>) -> Value {
    serde_json::from_slice(&content).unwrap()
}

#[test]
fn messages_are_written_with_the_keys_of_existing_peers() {
    let mut fanout = started(2, json!({"policy": "consensus"}));
    fanout.on_text(LaneId(0), "the sky is blue", 4, at(250));
    let Action::Stream(piece) = fanout.poll_action(true, at(250)) else { panic!("there is a piece") };
    let expected =
        json!({"session_id": "s1", "persona_id": "a", "clone_id": 1, "seq": 1, "data": "the sky is blue"});
    assert_eq!(written(fanout.stream_content("s1", &piece)), expected);
    let took = Spend { tokens_in: 10, tokens_out: 4, cost: Picodollars(2_000_000_000) };
    fanout.on_end(LaneId(0), took, at(500));
    fanout.on_text(LaneId(1), "The sky is blue", 4, at(600));
    fanout.on_end(LaneId(1), took, at(1000));
    let stats = |latency: u64, first: u64, pieces: u64| {
        json!({"latency_ms": latency, "first_ms": first, "tokens": 14, "tokens_in": 10, "tokens_out": 4,
            "cost_usd": 0.002, "pieces": pieces, "gaps": 0})
    };
    let end = json!({"session_id": "s1", "persona_id": "a", "clone_id": 1, "state": "complete",
        "stats": stats(500, 250, 1)});
    assert_eq!(written(fanout.end_content("s1", LaneId(0), at(1000))), end);
    let outcome = outcome(&mut fanout, at(1000));
    let lane = |name: &str, clone: u64, stats: Value| {
        let mut all = json!({"persona_id": name, "clone_id": clone, "stats": stats});
        all["weight"] = json!(1.0);
        all["state"] = json!("complete");
        all
    };
    let expected = json!({
        "text": "The sky is blue", "policy": "consensus", "winning_persona": "b", "winning_clone_id": 2,
        "agreed": true, "partial": false, "agreement": 1.0, "jaccard": 1.0,
        "groups": [[0, 1]], "scores": [1.0],
        "representatives": [[1, "The sky is blue"]], "total_weight": 2.0, "arbiter_used": false,
        "budget_exceeded": false, "tokens_in": 20, "tokens_out": 8, "cost_usd": 0.004,
        "lanes": [lane("a", 1, stats(500, 250, 1)), lane("b", 2, stats(1000, 600, 1))],
    });
    assert_eq!(written(fanout.final_content(&outcome, at(1000))), expected);
    let telemetry = json!({"tokens": 28, "usd": 0.004, "latency_ms": 1000});
    assert_eq!(written(Fanout::telemetry(outcome.spend, outcome.latency)), telemetry);
}

#[test]
fn a_provisional_answer_and_its_downgrade_are_written_so() {
    let mut fanout = started(5, json!({"policy": "consensus"}));
    answer(&mut fanout, 1, "the sky is blue", at(1));
    answer(&mut fanout, 3, "the sky is blue", at(1));
    let told = provisional(&mut fanout, at(1)).unwrap();
    let expected = json!({"text": "the sky is blue", "persona_id": "b", "clone_id": 2, "agreement": 1.0,
        "revision": 1, "expiry_ms": 1500, "groups": [[1, 3]], "scores": [1.0]});
    assert_eq!(written(fanout.provisional_content(&told)), expected);
    let fall = Fanout::downgraded_content(Share { part: 1, whole: 1 }, Share { part: 3, whole: 4 });
    assert_eq!(written(fall), json!({"provisional": "DOWNGRADED", "from": 1.0, "to": 0.75}));
}

#[test]
fn findings_that_most_have_are_told_apart_from_those_that_few_have() {
    let list = |files: &[&str]| {
        let all: Vec<Value> = files.iter().map(|file| json!({"type": "bug", "file": file})).collect();
        json!({ "findings": all }).to_string()
    };
    let run = |policy: &str| {
        let mut fanout = started(3, json!({"policy": policy, "provisional": false, "otherwise": "best"}));
        for (lane, files) in [(0, &["a", "b"][..]), (1, &["a"]), (2, &["a", "b"])] {
            fanout.on_text(LaneId(lane), &list(files), 1, at(1));
        }
        for lane in [1, 0, 2] {
            fanout.on_end(LaneId(lane), spend(1, 1), at(1));
        }
        let outcome = outcome(&mut fanout, at(1));
        written(fanout.final_content(&outcome, at(1)))
    };
    let (one, two) = (json!({"type": "bug", "file": "a"}), json!({"type": "bug", "file": "b"}));
    let consensus = run("consensus");
    assert_eq!(consensus["findings"], json!([one, two]));
    assert_eq!(consensus.get("uncertainties"), None);
    let merged = run("weighted-merge");
    let text: Value = serde_json::from_str(merged["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, json!({"findings": [one, two]}), "JSON stays JSON");
    assert_eq!(merged["support"].as_array().unwrap().len(), 2);
    let mut split = started(2, json!({"policy": "weighted-merge", "provisional": false}));
    answer(&mut split, 0, &list(&["a", "b"]), at(1));
    answer(&mut split, 1, &list(&["a"]), at(1));
    let told = outcome(&mut split, at(1));
    let content = written(split.final_content(&told, at(1)));
    assert_eq!((&content["findings"], &content["uncertainties"]), (&json!([one]), &json!([two])));
    assert_eq!(told.support.len(), 2);
    let strict = json!({"policy": "weighted-merge", "provisional": false, "keep_min": 0.6});
    let mut kept = started(2, strict);
    answer(&mut kept, 0, &list(&["a", "b"]), at(1));
    answer(&mut kept, 1, &list(&["a"]), at(1));
    assert_eq!(outcome(&mut kept, at(1)).support.len(), 1, "what half have is too little");
}

#[test]
fn a_failure_says_how_each_lane_stands() {
    let mut fanout = started(1, json!({}));
    fanout.on_failed(LaneId(0), Code::Circuit, true, spend(0, 0), at(3));
    let failure = failure(&mut fanout, at(3));
    let content = written(fanout.failure_content(&failure, at(3)));
    assert_eq!(content["code"], "ECIRCUIT");
    assert_eq!(content["reason"], "no lane answered: a#1 ECIRCUIT");
    assert_eq!(content["lanes"][0]["state"], "ECIRCUIT");
}

#[test]
fn an_arbiter_is_asked_with_the_conversation_and_every_candidate() {
    let mut fanout = started(2, json!({"policy": "arbiter", "arbiter_model": "judge", "provisional": false}));
    answer(&mut fanout, 0, "red", at(1));
    answer(&mut fanout, 1, "blue", at(2));
    let Some(Action::Arbitrate(arbitration)) = decisions(&mut fanout, at(2)).pop() else {
        panic!("they differ")
    };
    let mut out = Vec::new();
    fanout.question(&arbitration, &mut out);
    let body = written(out);
    assert_eq!(
        (body["model"].as_str(), body["messages"][1]["content"].as_str()),
        (Some("judge"), Some("why?"))
    );
    let asked = body["messages"][2]["content"].as_str().unwrap();
    assert!(
        asked.contains("<answer 1>\nblue\n</answer 1>") && asked.contains("<answer 2>\nred\n</answer 2>")
    );
}
