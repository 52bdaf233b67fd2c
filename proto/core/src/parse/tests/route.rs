//! The spec of a Route, mistake by mistake and edge by edge.

use std::time::Duration;

use super::{document, each_has_its_one_mistake, read, resource};
use crate::model::{Fallback, Match, Resource, Retry, Route, Strategy, Timeout};

const CANDIDATE: &str = "candidates: [{ adapter: a, model: m }]";

fn route(rest: &str) -> Route {
    match resource("Route", &format!("{{ {CANDIDATE}, {rest} }}")) {
        Resource::Route(route) => route,
        other => panic!("a route, not {other:?}"),
    }
}

fn with_one_mistake(table: &[(&str, &str)]) {
    for (rest, mistake) in table {
        each_has_its_one_mistake("Route", &[(&format!("{{ {CANDIDATE}, {rest} }}"), mistake)]);
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let route = route("");
    assert_eq!(route.matches, Match::default());
    assert_eq!(route.candidates[0].weight, 1);
    assert_eq!((route.strategy, route.fallback), (Strategy::Weighted, Fallback::OnRefusal));
    assert_eq!((route.retry, route.timeout), (Retry::default(), Timeout::default()));
}

#[test]
fn a_match_takes_names_auto_and_a_star_for_any() {
    let all = route("match: { task_type: '*', model: '*', tenant: '*' }").matches;
    assert_eq!(all, Match::default());
    let some = route("match: { task_type: 'Übersetzung de', model: auto, tenant: acme }").matches;
    assert_eq!(some.task_type.as_deref(), Some("Übersetzung de"));
    assert_eq!((some.model.as_deref(), some.tenant.unwrap().as_str()), (Some("auto"), "acme"));
    let long = "t".repeat(129);
    with_one_mistake(&[
        (
            "match: { model: ▲'a b' }",
            "spec.match.model: \"a b\": a model name is made of letters, digits and any of - _ . : / @ + ? \
             = &",
        ),
        ("match: { tenant: ▲auto }", "spec.match.tenant: \"auto\": `auto` is reserved for automatic routing"),
        (
            &format!("match: {{ task_type: ▲{long} }}"),
            &format!("spec.match.task_type: \"{}\"…: a task type has 1 to 128 characters", &long[..64]),
        ),
        ("match: ▲auto", "spec.match: is text, fields are expected: task_type, model, tenant"),
    ]);
}

#[test]
fn candidates_are_one_to_sixteen_different_ones() {
    let list = |count: usize| {
        let all: Vec<String> = (0..count).map(|at| format!("{{ adapter: a, model: m{at} }}")).collect();
        format!("{{ candidates: ▲[{}] }}", all.join(", "))
    };
    assert!(read(&document("Route", &list(16).replace('▲', ""))).is_ok());
    each_has_its_one_mistake(
        "Route",
        &[
            (&list(17), "spec.candidates: has 17 elements; 1 to 16 are allowed"),
            (&list(0), "spec.candidates: has 0 elements; 1 to 16 are allowed"),
            ("▲{}", "spec.candidates: is missing"),
            ("{ candidates: [▲{ adapter: a }] }", "spec.candidates[0].model: is missing"),
            ("{ candidates: [▲{ model: m }] }", "spec.candidates[0].adapter: is missing"),
            (
                "{ candidates: [{ adapter: a, model: m, weight: ▲1000001 }] }",
                "spec.candidates[0].weight: 1000001 is above 1000000; 0 to 1000000 is allowed",
            ),
            (
                "{ candidates: [{ adapter: a, model: m }, ▲{ adapter: a, model: m }] }",
                "spec.candidates[1]: is the same as candidates[0]; add its weight there",
            ),
        ],
    );
}

#[test]
fn weights_that_are_all_zero_never_choose() {
    let zero = "candidates: ▲[{ adapter: a, model: m, weight: 0 }, { adapter: a, model: n, weight: 0 }]";
    each_has_its_one_mistake(
        "Route",
        &[
            (
                &format!("{{ {zero} }}"),
                "spec.candidates: every weight is 0, so weighted never chooses; give one a weight",
            ),
            (
                &format!("{{ {zero}, strategy: ucb }}"),
                "spec.candidates: every weight is 0, so ucb never chooses; give one a weight",
            ),
        ],
    );
    assert!(
        read(&document("Route", &format!("{{ {zero}, strategy: cheapest_acceptable }}").replace('▲', "")))
            .is_ok()
    );
    let one = zero.replacen("weight: 0", "weight: 1", 1);
    assert!(read(&document("Route", &format!("{{ {one} }}").replace('▲', ""))).is_ok());
}

#[test]
fn words_are_of_their_table() {
    for (written, fallback) in
        [("on-refusal", Fallback::OnRefusal), ("on-error", Fallback::OnError), ("never", Fallback::Never)]
    {
        assert_eq!(route(&format!("fallback: {written}")).fallback, fallback);
    }
    with_one_mistake(&[
        (
            "fallback: ▲on_error",
            "spec.fallback: \"on_error\" is not one of on-refusal, on-error, never; did you mean on-error?",
        ),
        ("fallback: ▲false", "spec.fallback: false is not one of on-refusal, on-error, never"),
        ("fallback: ▲[never]", "spec.fallback: is a list, one of on-refusal, on-error, never is expected"),
        (
            "strategy: ▲random",
            "spec.strategy: \"random\" is not one of weighted, cheapest_acceptable, ucb, thompson",
        ),
        (
            "▲retries: {}",
            "spec.retries: there is no such field; there are match, candidates, strategy, fallback, retry, \
             timeout, challenger",
        ),
    ]);
}

#[test]
fn numbers_hold_at_their_edges_and_refuse_one_past_them() {
    assert_eq!(route("retry: { attempts: 1, budget_permille: 0 }").retry.attempts, 1);
    assert_eq!(route("retry: { attempts: 8, budget_permille: 1000 }").retry.budget.0, 1000);
    let timeout = route("timeout: { first_token_ms: 1, idle_ms: 86400000 }").timeout;
    assert_eq!((timeout.first_token, timeout.idle), (Duration::from_millis(1), Duration::from_secs(86_400)));
    assert_eq!(timeout.total, Duration::from_secs(600));
    with_one_mistake(&[
        ("retry: { attempts: ▲0 }", "spec.retry.attempts: 0 is below 1; 1 to 8 is allowed"),
        ("retry: { attempts: ▲9 }", "spec.retry.attempts: 9 is above 8; 1 to 8 is allowed"),
        (
            "retry: { budget_permille: ▲1001 }",
            "spec.retry.budget_permille: 1001 is above 1000; 0 to 1000 is allowed",
        ),
        (
            "timeout: { first_token_ms: ▲0 }",
            "spec.timeout.first_token_ms: 0 is below 1; 1 to 86400000 is allowed",
        ),
        (
            "timeout: { idle_ms: ▲86400001 }",
            "spec.timeout.idle_ms: 86400001 is above 86400000; 1 to 86400000 is allowed",
        ),
        ("timeout: { total_ms: ▲10s }", "spec.timeout.total_ms: \"10s\" is text, a whole number is expected"),
        (
            "challenger: { enabled: ▲yes }",
            "spec.challenger.enabled: \"yes\" is text, true or false is expected",
        ),
        (
            "challenger: { sample_permille: ▲1001 }",
            "spec.challenger.sample_permille: 1001 is above 1000; 0 to 1000 is allowed",
        ),
    ]);
}

#[test]
fn what_has_no_effect_yet_is_taken_with_a_warning() {
    let table = [
        (
            "strategy: thompson",
            Some("f:3:59: spec.strategy: is drawn by weight until a learner's weights arrive"),
        ),
        ("strategy: ucb", Some("f:3:59: spec.strategy: is drawn by weight until a learner's weights arrive")),
        ("strategy: weighted", None),
        (
            "challenger: { enabled: true }",
            Some("f:3:72: spec.challenger.enabled: has no effect in this version: no challenger is asked"),
        ),
        ("challenger: { enabled: false, sample_permille: 50 }", None),
    ];
    for (rest, warning) in table {
        let warnings = read(&document("Route", &format!("{{ {CANDIDATE}, {rest} }}"))).unwrap().warnings;
        assert_eq!(warnings.iter().map(ToString::to_string).next().as_deref(), warning, "{rest}");
    }
}
