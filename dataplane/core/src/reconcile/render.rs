//! The contents of the messages of a fan-out. Keys are those of existing peers where they have any; amounts
//! of money are dollars, times milliseconds.

use std::time::Duration;

use proto_core::units::Moment;
use serde::Serialize;
use serde_json::value::RawValue;

use super::dispatch::Policy;
use super::share::Share;
use super::{Failure, Fanout, LaneId, Outcome, Piece, Provisional, Spend, State, Verdict, Why};

impl Fanout {
    /// `agent.stream`.
    pub fn stream_content(&self, session_id: &str, piece: &Piece) -> Vec<u8> {
        let (persona_id, clone_id) = self.name(piece.lane);
        bytes(&Stream { session_id, persona_id, clone_id, seq: piece.seq, data: &piece.text })
    }

    /// `agent.end`.
    pub fn end_content(&self, session_id: &str, lane: LaneId, now: Moment) -> Vec<u8> {
        let (persona_id, clone_id) = self.name(lane);
        let (state, stats) = self.stats(lane, now);
        bytes(&End { session_id, persona_id, clone_id, state, stats })
    }

    /// `agent.result.provisional`; its `expiry_ms` also belongs into the payload.
    pub fn provisional_content(&self, provisional: &Provisional) -> Vec<u8> {
        let name = provisional.lane.map(|lane| self.name(lane));
        bytes(&ProvisionalContent {
            text: &provisional.text,
            persona_id: name.map(|(persona, _)| persona),
            clone_id: name.map(|(_, clone)| clone),
            agreement: provisional.agreement.as_f64(),
            revision: provisional.revision,
            expiry_ms: ms(provisional.expiry),
            groups: self.groups.iter().map(|group| &*group.members).collect(),
            scores: self.groups.iter().map(|group| group.score.as_f64()).collect(),
        })
    }

    /// `control.status` where a provisional answer has lost agreement.
    pub fn downgraded_content(from: Share, to: Share) -> Vec<u8> {
        bytes(&Downgraded { provisional: "DOWNGRADED", from: from.as_f64(), to: to.as_f64() })
    }

    /// `agent.result.final`.
    pub fn final_content(&self, outcome: &Outcome, now: Moment) -> Vec<u8> {
        let winner = outcome.winner.map(|lane| self.name(lane));
        let groups = &outcome.groups;
        let all = (0..self.lanes.len()).map(super::id);
        let is_asked = !matches!(outcome.arbiter, Verdict::NotAsked | Verdict::TooDear);
        let named = |is_supported: bool| -> Vec<&RawValue> {
            let all = outcome.findings.iter();
            let wanted = all.filter(|own| own.support.is_at_least(self.dispatch.agree_min) == is_supported);
            wanted.filter_map(|own| serde_json::from_str(&own.json).ok()).collect()
        };
        let may_converge = outcome.policy == Policy::Arbiter;
        bytes(&Final {
            text: &outcome.text,
            policy: outcome.policy.as_str(),
            winning_persona: winner.map(|(persona, _)| persona),
            winning_clone_id: winner.map(|(_, clone)| clone),
            agreed: outcome.is_agreed,
            partial: outcome.is_partial,
            agreement: outcome.agreement.map(Share::as_f64),
            jaccard: outcome.overlap.map(Share::as_f64),
            groups: groups.iter().map(|group| &*group.members).collect(),
            scores: groups.iter().map(|group| group.score.as_f64()).collect(),
            representatives: groups
                .iter()
                .map(|group| (group.representative, &*self.lanes[group.representative].text))
                .collect(),
            findings: named(true),
            uncertainties: named(false),
            support: outcome.support.iter().map(|share| share.as_f64()).collect(),
            total_weight: self.dispatch.weight() as f64 / 1000.0,
            arbiter: verdict_word(outcome.arbiter),
            arbiter_used: is_asked,
            results_converged: may_converge.then_some(outcome.is_agreed),
            budget_exceeded: outcome.is_budget_spent,
            comparisons: outcome.comparisons.iter().map(|own| self.comparison(own)).collect(),
            lanes: all.map(|lane| self.lane_content(lane, now)).collect(),
            tokens_in: outcome.spend.tokens_in,
            tokens_out: outcome.spend.tokens_out,
            cost_usd: outcome.spend.cost.as_usd(),
        })
    }

    /// The content of the ERROR that takes the place of a final answer.
    pub fn failure_content(&self, failure: &Failure, now: Moment) -> Vec<u8> {
        let lanes = (0..self.lanes.len()).map(|at| self.lane_content(super::id(at), now)).collect();
        bytes(&Error {
            code: failure.code.as_str(),
            reason: &failure.reason,
            lanes,
            tokens_in: failure.spend.tokens_in,
            tokens_out: failure.spend.tokens_out,
            cost_usd: failure.spend.cost.as_usd(),
        })
    }

    /// The `telemetry` of a last frame.
    pub fn telemetry(spend: Spend, latency: Duration) -> Vec<u8> {
        bytes(&Telemetry { tokens: spend.tokens(), usd: spend.cost.as_usd(), latency_ms: ms(latency) })
    }

    fn name(&self, lane: LaneId) -> (&str, u64) {
        let target = &self.dispatch.targets[usize::from(lane.0)];
        (&target.persona_id, target.clone_id)
    }

    fn stats(&self, lane: LaneId, now: Moment) -> (&'static str, Stats) {
        let report = self.report(lane, now);
        let stats = Stats {
            latency_ms: ms(report.latency),
            first_ms: report.first.map(ms),
            tokens: report.spend.tokens(),
            tokens_in: report.spend.tokens_in,
            tokens_out: report.spend.tokens_out,
            cost_usd: report.spend.cost.as_usd(),
            pieces: report.pieces,
            gaps: report.gaps,
        };
        (state_word(report.state), stats)
    }

    fn lane_content(&self, lane: LaneId, now: Moment) -> LaneContent<'_> {
        let (persona_id, clone_id) = self.name(lane);
        let target = &self.dispatch.targets[usize::from(lane.0)];
        let role = match self.dispatch.policy {
            Policy::Champion if target.is_champion => Some("champion"),
            Policy::Champion => Some("challenger"),
            _ => None,
        };
        let (state, stats) = self.stats(lane, now);
        LaneContent { persona_id, clone_id, weight: f64::from(target.weight) / 1000.0, role, state, stats }
    }

    fn comparison(&self, own: &super::challenge::Comparison) -> ComparisonContent<'_> {
        let (persona_id, clone_id) = self.name(own.challenger);
        ComparisonContent {
            persona_id,
            clone_id,
            same: own.is_same,
            jaccard: own.overlap.as_f64(),
            cheaper: own.is_cheaper,
            faster: own.is_faster,
        }
    }
}

/// How a lane stands, in one word; of one that failed its code.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Due => "due",
        State::Waiting => "waiting",
        State::Streaming => "streaming",
        State::Ended => "complete",
        State::Failed(code) => code.as_str(),
        State::Stopped(Why::Lost) => "cancelled",
        State::Stopped(Why::Late) => "late",
        State::Stopped(Why::Budget) => "budget_exceeded",
        State::Stopped(Why::TooLong) => "too_long",
    }
}

fn verdict_word(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::NotAsked => None,
        Verdict::Chose(_) => Some("chose"),
        Verdict::Unclear => Some("unclear"),
        Verdict::Late => Some("late"),
        Verdict::TooDear => Some("budget_exceeded"),
    }
}

#[derive(Serialize)]
struct Stream<'a> {
    session_id: &'a str,
    persona_id: &'a str,
    clone_id: u64,
    seq: u64,
    data: &'a str,
}

#[derive(Serialize)]
struct End<'a> {
    session_id: &'a str,
    persona_id: &'a str,
    clone_id: u64,
    state: &'static str,
    stats: Stats,
}

#[derive(Serialize)]
struct Stats {
    latency_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_ms: Option<u64>,
    tokens: u64,
    tokens_in: u64,
    tokens_out: u64,
    cost_usd: f64,
    pieces: u64,
    gaps: u64,
}

#[derive(Serialize)]
struct ProvisionalContent<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    persona_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clone_id: Option<u64>,
    agreement: f64,
    revision: u32,
    expiry_ms: u64,
    groups: Vec<&'a [usize]>,
    scores: Vec<f64>,
}

#[derive(Serialize)]
struct Downgraded {
    provisional: &'static str,
    from: f64,
    to: f64,
}

#[derive(Serialize)]
struct Final<'a> {
    text: &'a str,
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    winning_persona: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    winning_clone_id: Option<u64>,
    agreed: bool,
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jaccard: Option<f64>,
    groups: Vec<&'a [usize]>,
    scores: Vec<f64>,
    representatives: Vec<(usize, &'a str)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uncertainties: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    support: Vec<f64>,
    total_weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    arbiter: Option<&'static str>,
    arbiter_used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    results_converged: Option<bool>,
    budget_exceeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    comparisons: Vec<ComparisonContent<'a>>,
    lanes: Vec<LaneContent<'a>>,
    tokens_in: u64,
    tokens_out: u64,
    cost_usd: f64,
}

#[derive(Serialize)]
struct LaneContent<'a> {
    persona_id: &'a str,
    clone_id: u64,
    weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    state: &'static str,
    stats: Stats,
}

#[derive(Serialize)]
struct ComparisonContent<'a> {
    persona_id: &'a str,
    clone_id: u64,
    same: bool,
    jaccard: f64,
    cheaper: bool,
    faster: bool,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'static str,
    reason: &'a str,
    lanes: Vec<LaneContent<'a>>,
    tokens_in: u64,
    tokens_out: u64,
    cost_usd: f64,
}

#[derive(Serialize)]
struct Telemetry {
    tokens: u64,
    usd: f64,
    latency_ms: u64,
}

fn bytes(content: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(content).expect("text, numbers and lists are JSON")
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
