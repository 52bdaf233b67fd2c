use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse(content: Value) -> Dispatch {
    Dispatch::parse(&content.to_string()).unwrap()
}

fn mistakes(content: Value) -> Vec<String> {
    Dispatch::parse(&content.to_string()).unwrap_err().0
}

fn body(dispatch: &Dispatch, lane: usize) -> Value {
    let mut out = Vec::new();
    dispatch.body(lane, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_least_that_can_be_said_has_the_defaults() {
    let dispatch = parse(json!({"targets": [{"persona_id": "critic"}], "prompt": "why?"}));
    assert_eq!(dispatch.policy, Policy::FirstWin);
    assert_eq!(dispatch.budget, Budget::default());
    assert_eq!((dispatch.quorum_min, dispatch.agree_min), (2, Permille(600)));
    assert_eq!(dispatch.provisional, Some(Duration::from_millis(1500)));
    assert_eq!(dispatch.deadline, Duration::from_secs(30));
    assert_eq!(dispatch.arbiter.cost_max, Picodollars(100_000_000_000));
    assert_eq!(
        (dispatch.otherwise, dispatch.may_be_partial, dispatch.is_streamed),
        (Otherwise::Fail, false, true)
    );
    let target = &dispatch.targets[0];
    assert_eq!((&*target.persona_id, target.clone_id, target.weight), ("critic", 1, 1000));
    assert!(target.is_champion);
}

#[test]
fn everything_that_can_be_said_is_heard() {
    let dispatch = parse(
        json!({
            "session_id": "s1",
            "targets": [
                {"persona_id": "a", "clone_id": 2, "model": "m1", "system": "Brief.", "weight": 0.5,
                    "qos": "gold"},
                {"persona_id": "a", "role": "champion"},
                {"persona_id": "b"},
            ],
            "budget": {"tokens": 1000, "dollars": 0.05},
            "policy": "consensus",
            "provisional": {"quorum_min": 3, "agree_min": 0.75, "expiry_ms": 900},
            "otherwise": "arbiter", "arbiter_model": "judge", "arbiter_max_usd": 0.01,
            "deadline_ms": 5000, "keep_min": 0.5, "partial": true, "stream": false,
            "messages": [],
            "prompt": null,
        })
        .as_object()
        .map(|all| {
            let mut all = all.clone();
            all.insert("messages".into(), json!([{"role": "user", "content": "why?"}]));
            Value::Object(all)
        })
        .unwrap(),
    );
    let clones: Vec<u64> = dispatch.targets.iter().map(|target| target.clone_id).collect();
    assert_eq!(clones, [2, 1, 3], "what is taken is passed over");
    let champions: Vec<bool> = dispatch.targets.iter().map(|target| target.is_champion).collect();
    assert_eq!(champions, [false, true, false]);
    assert_eq!(dispatch.targets[0].weight, 500);
    assert_eq!(dispatch.targets[0].qos, Some(Qos::Gold));
    assert_eq!(dispatch.budget.cost, Some(Picodollars(50_000_000_000)));
    assert_eq!((dispatch.quorum_min, dispatch.agree_min), (3, Permille(750)));
    assert_eq!(dispatch.provisional, Some(Duration::from_millis(900)));
    assert_eq!(
        dispatch.arbiter,
        Arbiter { model: Some("judge".into()), cost_max: Picodollars(10_000_000_000) }
    );
    assert_eq!(
        (dispatch.keep_min, dispatch.may_be_partial, dispatch.is_streamed),
        (Permille(500), true, false)
    );
    assert!(dispatch.may_arbitrate());
}

#[test]
fn every_mistake_is_named_with_its_path() {
    let found = mistakes(json!({
        "targets": [{"persona_id": " ", "weight": -1}, {"weight": 0.0001, "role": "king"}, 7,
                    {"persona_id": "a", "clone_id": 1, "colour": 1}, {"persona_id": "a", "clone_id": 1}],
        "policy": "loudest", "budget": {"tokens": 0, "dollars": -2, "euros": 1}, "agree_min": 1.1,
        "quorum_min": "two", "deadline_ms": 99, "prompt": "x", "messages": [1],
    }));
    let expected = [
        "targets[0].persona_id: is blank",
        "targets[0].weight: -1 is not a number from 0.001 to 1000",
        "targets[1].persona_id: is missing",
        "targets[1].role: `king` is none of champion, challenger",
        "targets[1].weight: 0.0001 is not a number from 0.001 to 1000",
        "targets[2]: is not an object",
        "targets[3].colour: is not known here",
        "targets[3]: is a#1 a second time",
        "policy: `loudest` is none of first-win, consensus, weighted-merge, arbiter, champion",
        "budget.tokens: 0 is not a whole number from 1 to 1000000000000",
        "budget.dollars: -2 is not an amount in dollars, above 0",
        "budget.euros: is not known here",
        "quorum_min: \"two\" is not a whole number from 1 to 16",
        "agree_min: 1.1 is not a number from 0 to 1",
        "deadline_ms: 99 is not a whole number from 100 to 600000",
        "prompt: and `messages` exclude each other",
    ];
    for line in expected {
        assert!(found.iter().any(|own| own == line), "{line} is not in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let ask = |more: Value| {
        let mut all = json!({"targets": [{"persona_id": "a"}, {"persona_id": "b"}], "prompt": "x"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Dispatch::parse(&all.to_string()).map(|_| ()).map_err(|mistakes| mistakes.to_string())
    };
    let cases = [
        (json!({"prompt": "x"}), None),
        (json!({"targets": null}), Some("targets: is missing")),
        (json!({"targets": []}), Some("targets: has 0, not 1 to 16")),
        (json!({"targets": 5}), Some("targets: is not a list")),
        (json!({"prompt": ""}), Some("prompt: is not text, or has nothing in it")),
        (json!({"prompt": null}), Some("messages: is missing, and so is `prompt`")),
        (json!({"prompt": null, "messages": []}), Some("messages: is not a list, or has nothing in it")),
        (
            json!({"policy": "consensus", "quorum_min": 3}),
            Some("quorum_min: 3 can never agree: there are 2 targets"),
        ),
        (json!({"quorum_min": 3}), None),
        (json!({"policy": "consensus", "quorum_min": 2}), None),
        (json!({"provisional": 4}), Some("provisional: is not an object")),
    ];
    for (more, expected) in cases {
        assert_eq!(ask(more.clone()).err().as_deref(), expected, "{more}");
    }
    assert_eq!(Dispatch::parse("[]").unwrap_err().to_string(), "content: is not an object");
    let both = json!([{"persona_id": "a", "role": "champion"}, {"persona_id": "b", "role": "champion"}]);
    assert_eq!(mistakes(json!({"targets": both, "prompt": "x"})), ["targets: has more than one champion"]);
    let none = json!([{"persona_id": "a", "role": "challenger"}]);
    assert_eq!(mistakes(json!({"targets": none, "prompt": "x"})), ["targets: has challengers only"]);
}

#[test]
fn sixteen_targets_are_taken_and_seventeen_are_not() {
    let targets = |count: usize| -> Vec<Value> {
        (0..count).map(|at| json!({"persona_id": format!("p{at}")})).collect()
    };
    let dispatch = parse(json!({"targets": targets(TARGETS_MAX), "prompt": "x"}));
    assert_eq!(dispatch.targets.last().unwrap().clone_id, 16);
    let found = mistakes(json!({"targets": targets(TARGETS_MAX + 1), "prompt": "x"}));
    assert_eq!(found, ["targets: has 17, not 1 to 16"]);
}

#[test]
fn a_lane_gets_its_model_its_system_and_every_key_that_is_not_the_fan_outs() {
    let dispatch = parse(json!({
        "targets": [{"persona_id": "a", "model": "m1", "system": "Say \"yes\"."}, {"persona_id": "b"}],
        "model": "m0", "messages": [{"role": "user", "content": "why?"}],
        "temperature": 0.5, "n": 3, "stream_options": {"include_usage": true}, "policy": "first-win",
    }));
    let first = json!({"model": "m1", "stream": true, "temperature": 0.5, "messages": [
        {"role": "system", "content": "Say \"yes\"."}, {"role": "user", "content": "why?"}]});
    assert_eq!(body(&dispatch, 0), first);
    let second = json!({"model": "m0", "stream": true, "temperature": 0.5,
        "messages": [{"role": "user", "content": "why?"}]});
    assert_eq!(body(&dispatch, 1), second);
    let plain = parse(json!({"targets": [{"persona_id": "a"}], "prompt": "\u{1}\"why\"?"}));
    let expected =
        json!({"model": "auto", "stream": true, "messages": [{"role": "user", "content": "\u{1}\"why\"?"}]});
    assert_eq!(body(&plain, 0), expected);
}

#[test]
fn the_example_of_the_documentation_is_one() {
    let page = include_str!("../../../../../docs/fanout.md");
    let example = page.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let dispatch = Dispatch::parse(example).unwrap();
    assert_eq!((dispatch.targets.len(), dispatch.weight()), (3, 4000));
    let mistaken = json!({"targets": [{"persona_id": "a"}, {"persona_id": "b", "weight": -1}], "prompt": "x",
        "budget": {"euros": 1}});
    let told = Dispatch::parse(&mistaken.to_string()).unwrap_err().to_string();
    assert!(page.contains(&told), "{told}");
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_breaks_it(text in "[\\[\\]{}:,\"a-z0-9 .-]{0,60}") {
        let _ = Dispatch::parse(&text);
        let rest = r#""targets":[{"persona_id":"a"}],"prompt":"x""#;
        let _ = Dispatch::parse(&format!(r#"{{{rest},"budget":{text}}}"#));
    }

    #[test]
    fn more_mistakes_than_are_told_are_cut(count in 1usize..90) {
        let keys: String = (0..count).map(|at| format!(r#","k{at}":1"#)).collect();
        let text = format!(r#"{{"targets":[{{"persona_id":"a"{keys}}}],"prompt":"x"}}"#);
        prop_assert_eq!(Dispatch::parse(&text).unwrap_err().0.len(), count.min(MISTAKES_MAX));
    }
}
