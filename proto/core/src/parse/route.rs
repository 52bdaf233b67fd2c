//! The spec of a Route. Whether what it names exists is the set's to say (`model::Set::build`).

use std::time::Duration;

use super::fields::{Field, Fields};
use crate::model::{
    AUTO, CANDIDATES_MAX, Candidate, Fallback, Match, NAME_BYTES_MAX, Name, Retry, Route, Strategy, Timeout,
};
use crate::units::Permille;

/// Reads a spec. `name` is `None` where it is wrong, which was said already.
pub fn read(spec: &Field<'_>, name: Option<Name>) -> Option<Route> {
    let fields = spec.fields(FIELDS)?;
    let matches = fields.or("match", Match::default(), read_match);
    let strategy = fields.or("strategy", Strategy::default(), read_strategy);
    let candidates_field = fields.required("candidates");
    let candidates = candidates_field.as_ref().and_then(read_candidates);
    if let (Some(field), Some(candidates), Some(strategy)) = (&candidates_field, &candidates, strategy)
        && strategy != Strategy::CheapestAcceptable
        && candidates.iter().all(|candidate| candidate.weight == 0)
    {
        field
            .mistake(format!("every weight is 0, so {} never chooses; give one a weight", strategy.as_str()));
    }
    let fallback = fields.or("fallback", Fallback::default(), |field| field.one_of(&FALLBACKS));
    let retry = fields.or("retry", Retry::default(), read_retry);
    let timeout = fields.or("timeout", Timeout::default(), read_timeout);
    if let Some(challenger) = fields.optional("challenger") {
        check_challenger(&challenger);
    }
    Some(Route {
        name: name?,
        matches: matches?,
        candidates: candidates?,
        strategy: strategy?,
        fallback: fallback?,
        retry: retry?,
        timeout: timeout?,
    })
}

fn read_match(field: &Field<'_>) -> Option<Match> {
    let fields = field.fields(&["task_type", "model", "tenant"])?;
    let model = any_or(&fields, "model", |text| match text {
        AUTO => Ok(AUTO.into()),
        _ => Name::model(text).map(|name| name.as_str().into()),
    });
    let task_type = any_or(&fields, "task_type", task_type);
    let tenant = any_or(&fields, "tenant", Name::resource);
    Some(Match { model: model?, task_type: task_type?, tenant: tenant? })
}

/// `Some(None)` for `*` and for absence, `None` for a mistake.
fn any_or<T>(
    fields: &Fields<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<Option<T>> {
    let read =
        |field: &Field<'_>| field.parsed(|text| if text == "*" { Ok(None) } else { parse(text).map(Some) });
    fields.or(name, None, read)
}

fn task_type(text: &str) -> Result<Box<str>, &'static str> {
    if text.len() > NAME_BYTES_MAX {
        return Err("a task type has 1 to 128 characters");
    }
    Ok(text.into())
}

fn read_candidates(field: &Field<'_>) -> Option<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut all_right = true;
    for item in field.list(1..=CANDIDATES_MAX)? {
        let Some(candidate) = read_candidate(&item) else {
            all_right = false;
            continue;
        };
        let same = |other: &Candidate| other.adapter == candidate.adapter && other.model == candidate.model;
        match candidates.iter().position(same) {
            Some(first) => item.mistake(format!("is the same as candidates[{first}]; add its weight there")),
            None => candidates.push(candidate),
        }
    }
    all_right.then_some(candidates)
}

fn read_candidate(item: &Field<'_>) -> Option<Candidate> {
    let fields = item.fields(&["adapter", "model", "weight"])?;
    let adapter = fields.must("adapter", |field| field.parsed(Name::resource));
    let model = fields.must("model", |field| field.parsed(Name::model));
    let weight = fields.or("weight", 1, |field| field.whole(0..=WEIGHT_MAX));
    Some(Candidate { adapter: adapter?, model: model?, weight: weight? })
}

fn read_strategy(field: &Field<'_>) -> Option<Strategy> {
    let all = [Strategy::Weighted, Strategy::CheapestAcceptable, Strategy::Ucb, Strategy::Thompson];
    let strategy = field.one_of(&all.map(|strategy| (strategy.as_str(), strategy)))?;
    if matches!(strategy, Strategy::Ucb | Strategy::Thompson) {
        field.warning("is drawn by weight until a learner's weights arrive");
    }
    Some(strategy)
}

fn read_retry(field: &Field<'_>) -> Option<Retry> {
    let fields = field.fields(&["attempts", "budget_permille"])?;
    let default = Retry::default();
    let attempts = fields.or("attempts", default.attempts, |field| field.whole(1..=ATTEMPTS_MAX));
    let budget =
        fields.or("budget_permille", default.budget, |field| field.whole(0..=PERMILLE_MAX).map(Permille));
    Some(Retry { attempts: attempts?, budget: budget? })
}

fn read_timeout(field: &Field<'_>) -> Option<Timeout> {
    let fields = field.fields(&["first_token_ms", "idle_ms", "total_ms"])?;
    let default = Timeout::default();
    let span = |name, default: Duration| fields.or(name, default, |field| field.millis(1..=TIMEOUT_MS_MAX));
    let (first_token, idle) = (span("first_token_ms", default.first_token), span("idle_ms", default.idle));
    let total = span("total_ms", default.total);
    Some(Timeout { first_token: first_token?, idle: idle?, total: total? })
}

/// Read for its mistakes only: this version asks no challenger.
fn check_challenger(field: &Field<'_>) {
    let Some(fields) = field.fields(&["enabled", "sample_permille"]) else { return };
    let enabled = fields.optional("enabled");
    if enabled.as_ref().and_then(Field::boolean) == Some(true)
        && let Some(enabled) = enabled
    {
        enabled.warning("has no effect in this version: no challenger is asked");
    }
    if let Some(share) = fields.optional("sample_permille") {
        share.whole(0..=PERMILLE_MAX);
    }
}

const FIELDS: &[&str] = &["match", "candidates", "strategy", "fallback", "retry", "timeout", "challenger"];

const FALLBACKS: [(&str, Fallback); 3] =
    [("on-refusal", Fallback::OnRefusal), ("on-error", Fallback::OnError), ("never", Fallback::Never)];

/// Sixteen such weights still add up in a u32.
const WEIGHT_MAX: u32 = 1_000_000;

/// Past this a caller has waited longer than a fresh request of its own would take.
const ATTEMPTS_MAX: u8 = 8;

const PERMILLE_MAX: u16 = 1000;

/// One day.
const TIMEOUT_MS_MAX: u64 = 86_400_000;
