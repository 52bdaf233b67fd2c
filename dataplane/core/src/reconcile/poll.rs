//! What to do next, in this order: start, cancel, the arbiter, pause and resume; and where the client has
//! room, pieces, ends of lanes, provisional answers, the final one.

use std::cmp::Reverse;
use std::time::Duration;

use proto_core::units::{Moment, Picodollars};

use super::challenge::Comparison;
use super::dispatch::Policy;
use super::finding::{self, Joined};
use super::group::Voice;
use super::merge::Merged;
use super::share::Share;
use super::sketch::hash_of;
use super::{
    Action, Arbitration, Decision, FALL, Failure, Fanout, Outcome, Phase, Piece, Provisional, State, group,
    id, merge,
};

/// The provisional answer that stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    revision: u32,
    /// Of its text.
    hash: u64,
    share: Share,
    is_agreed: bool,
    until: Moment,
    /// How many had answered.
    voices: usize,
}

impl Fanout {
    /// What to do now. Call again after obeying, until `Wait` or `Done`. `has_room`: the client takes
    /// messages; without it nothing is handed out, and lanes that say too much are paused.
    pub fn poll_action(&mut self, has_room: bool, now: Moment) -> Action {
        if let Some(action) = self.poll_work(now) {
            return action;
        }
        if let Some(action) = has_room.then(|| self.poll_message(now)).flatten() {
            return action;
        }
        match self.phase {
            Phase::Done => Action::Done,
            Phase::Decided(_) => Action::Wait { until: Moment(u64::MAX) },
            Phase::Running | Phase::Arbitrating => Action::Wait { until: self.due(has_room) },
        }
    }

    /// Whether the arbiter may cost anything: money and tokens left for it.
    pub(super) fn arbiter_budget(&self) -> (Picodollars, Option<u64>) {
        let (spend, budget) = (self.spend(), self.dispatch.budget);
        let left = budget.cost.map(|cost| Picodollars(cost.0.saturating_sub(spend.cost.0)));
        let cost =
            left.map_or(self.dispatch.arbiter.cost_max, |left| left.min(self.dispatch.arbiter.cost_max));
        (cost, budget.tokens.map(|tokens| tokens.saturating_sub(spend.tokens())))
    }

    fn poll_work(&mut self, now: Moment) -> Option<Action> {
        let lanes = || self.lanes.iter().enumerate();
        let starts = lanes().filter(|(_, lane)| lane.state == State::Due);
        if let Some((at, _)) = starts.min_by_key(|(at, lane)| (Reverse(lane.qos), *at)) {
            self.lanes[at].start(now);
            return Some(Action::Start(id(at)));
        }
        let cancels = lanes().filter(|(_, lane)| lane.is_cancel_due);
        if let Some((at, _)) = cancels.min_by_key(|(at, lane)| (lane.qos, *at)) {
            self.lanes[at].is_cancel_due = false;
            return Some(Action::Cancel(id(at)));
        }
        if self.is_arbiter_running && !matches!(self.phase, Phase::Arbitrating) {
            self.is_arbiter_running = false;
            return Some(Action::CancelArbiter);
        }
        if std::mem::take(&mut self.is_arbitrate_due) {
            self.is_arbiter_running = true;
            return Some(Action::Arbitrate(self.arbitration()));
        }
        if let Some((at, _)) = lanes().find(|(_, lane)| !lane.is_paused && lane.is_full()) {
            self.lanes[at].is_paused = true;
            return Some(Action::Pause(id(at)));
        }
        let (at, _) = lanes().find(|(_, lane)| lane.is_paused && lane.may_resume())?;
        self.lanes[at].is_paused = false;
        Some(Action::Resume(id(at)))
    }

    fn poll_message(&mut self, now: Moment) -> Option<Action> {
        if matches!(self.phase, Phase::Done) {
            return None;
        }
        if let Some(piece) = self.poll_piece() {
            return Some(Action::Stream(piece));
        }
        if let Some(at) = self.lanes.iter().position(|lane| lane.is_end_due) {
            self.lanes[at].is_end_due = false;
            return Some(Action::LaneEnd(id(at)));
        }
        if let Some(action) = self.poll_downgrade() {
            return Some(action);
        }
        if let Phase::Decided(decision) = self.phase {
            self.phase = Phase::Done;
            return Some(self.last(decision, now));
        }
        self.poll_provisional(now)
    }

    /// Lanes in turn, so that none that says much keeps another from being heard.
    fn poll_piece(&mut self) -> Option<Piece> {
        let count = self.lanes.len();
        let at =
            (0..count).map(|ahead| (self.turn + ahead) % count).find(|at| self.lanes[*at].has_piece())?;
        self.turn = at + 1;
        let (seq, text) = self.lanes[at].poll_piece()?;
        Some(Piece { lane: id(at), seq, text })
    }

    fn poll_downgrade(&mut self) -> Option<Action> {
        let share = self.groups.first()?.score;
        let told = self.told.as_mut()?;
        if !share.is_below(told.share, FALL) {
            return None;
        }
        let from = std::mem::replace(&mut told.share, share);
        Some(Action::Downgraded { from, to: share })
    }

    fn poll_provisional(&mut self, now: Moment) -> Option<Action> {
        let expiry = self.provisional_expiry()?;
        let share = self.groups.first()?.score;
        let is_agreed = share.is_at_least(self.dispatch.agree_min);
        let is_due = match self.told {
            None => is_agreed || now >= self.began + UNAGREED_WAIT,
            Some(told) => now >= told.until || told.voices != self.voices.len(),
        };
        if !is_due || self.told.is_some_and(|told| told.revision == REVISIONS_MAX) {
            return None;
        }
        let (text, lane) = self.standing();
        let hash = hash_of(text.bytes());
        let revision = self.told.map_or(1, |told| told.revision + 1);
        if let Some(told) = &mut self.told {
            told.voices = self.voices.len();
            // Nothing that was told has changed, and it still holds.
            if told.hash == hash && told.is_agreed == is_agreed && now < told.until {
                return None;
            }
        }
        let voices = self.voices.len();
        self.told = Some(Told { revision, hash, share, is_agreed, until: now + expiry, voices });
        Some(Action::Provisional(Provisional { text, lane, agreement: share, expiry, revision }))
    }

    /// How long a provisional answer holds, where there may be one now.
    fn provisional_expiry(&self) -> Option<Duration> {
        let has_groups =
            matches!(self.dispatch.policy, Policy::Consensus | Policy::Arbiter | Policy::WeightedMerge);
        let has_quorum = self.voices.len() >= usize::from(self.dispatch.quorum_min);
        self.dispatch.provisional.filter(|_| has_groups && has_quorum)
    }

    /// The answer as it would be now, and whose it is.
    fn standing(&self) -> (String, Option<super::LaneId>) {
        match self.dispatch.policy {
            Policy::WeightedMerge => (self.merged(&self.findings()).text, None),
            _ => (self.lanes[self.best()].text.clone(), Some(id(self.best()))),
        }
    }

    /// Of all answers that are heard, where each is a list of findings.
    fn findings(&self) -> Vec<Joined> {
        if matches!(self.dispatch.policy, Policy::FirstWin | Policy::Champion) {
            return Vec::new();
        }
        let heard = self.heard();
        let list = |voice: &Voice<'_>| Some((voice.weight, self.table.findings(voice.place)?));
        let lists: Option<Vec<_>> = heard.iter().map(list).collect();
        lists.map_or_else(Vec::new, |lists| finding::join(&lists))
    }

    /// Findings place by place, prose sentence by sentence.
    fn merged(&self, findings: &[Joined]) -> Merged {
        if findings.is_empty() {
            return merge::merge(&self.heard(), self.dispatch.keep_min);
        }
        let is_kept = |own: &&Joined| own.support.is_at_least(self.dispatch.keep_min);
        let kept: Vec<&Joined> = findings.iter().filter(is_kept).collect();
        let all: Vec<&str> = kept.iter().map(|own| &*own.json).collect();
        let text = format!(r#"{{"findings":[{}]}}"#, all.join(","));
        Merged { text, support: kept.iter().map(|own| own.support).collect() }
    }

    fn due(&self, has_room: bool) -> Moment {
        let end = match self.phase {
            Phase::Arbitrating => self.deadline,
            _ => self.lanes_until,
        };
        let holes = self.lanes.iter().filter_map(|lane| lane.due());
        let provisional = self.provisional_expiry().filter(|_| has_room).map(|_| match self.told {
            None => self.began + UNAGREED_WAIT,
            Some(told) if told.revision == REVISIONS_MAX => end,
            Some(told) => told.until,
        });
        holes.chain(provisional).fold(end, Moment::min)
    }

    fn arbitration(&self) -> Arbitration {
        let (cost_max, tokens_max) = self.arbiter_budget();
        let candidates = self.groups.iter().map(|group| id(group.representative)).collect();
        Arbitration { candidates, cost_max, tokens_max, until: self.deadline }
    }

    fn last(&self, decision: Decision, now: Moment) -> Action {
        let (spend, latency) = (self.spend(), now.since(self.began));
        let (winner, is_agreed) = match decision {
            Decision::Nothing(code) => {
                let reason = self.reason(code);
                return Action::Failed(Failure { code, reason, spend, latency });
            }
            Decision::Winner { lane, is_agreed } => (Some(lane), is_agreed),
            Decision::Merged => (None, true),
        };
        let heard = self.heard();
        let is_compared = self.dispatch.policy != Policy::FirstWin;
        let findings = self.findings();
        let Merged { text, support } = match winner {
            Some(lane) => Merged { text: self.lanes[lane].text.clone(), support: Vec::new() },
            None => self.merged(&findings),
        };
        let is_whole = |place: usize| self.lanes[place].state == State::Ended;
        Action::Final(Box::new(Outcome {
            text,
            winner: winner.map(id),
            policy: self.dispatch.policy,
            is_agreed,
            is_partial: !winner.map_or(self.voices.iter().all(|place| is_whole(*place)), is_whole),
            agreement: self.groups.first().map(|group| group.score),
            overlap: is_compared.then(|| group::mean_overlap(&heard, &self.table)),
            groups: self.groups.clone(),
            support,
            findings,
            arbiter: self.verdict,
            comparisons: self.comparisons(),
            is_budget_spent: self.is_budget_spent,
            spend,
            latency,
        }))
    }

    /// Challengers that came to an end beside a champion that did.
    fn comparisons(&self) -> Vec<Comparison> {
        let champion = self.champion();
        if self.dispatch.policy != Policy::Champion || !self.voices.contains(&champion) {
            return Vec::new();
        }
        let took = |place: usize| {
            let lane = &self.lanes[place];
            lane.ended.zip(lane.started).map(|(ended, started)| ended.since(started))
        };
        let compare = |place: &usize| {
            let likeness = self.table.at(champion, *place);
            Comparison {
                challenger: id(*place),
                is_same: likeness.is_same,
                overlap: likeness.overlap,
                is_cheaper: self.lanes[*place].spend.cost < self.lanes[champion].spend.cost,
                is_faster: took(*place) < took(champion),
            }
        };
        self.voices.iter().filter(|place| **place != champion).map(compare).collect()
    }

    fn reason(&self, code: proto_core::frame::Code) -> String {
        use proto_core::frame::Code;
        match (code, self.groups.first()) {
            (Code::Preempt, _) => "the fan-out was cancelled".into(),
            (Code::Consensus, Some(first)) => format!(
                "{} answers in {} groups; the largest: {:.3} of the weight from {}; asked for: {} from {}",
                self.voices.len(),
                self.groups.len(),
                first.score.as_f64(),
                first.members.len(),
                f64::from(self.dispatch.agree_min.0) / 1000.0,
                self.dispatch.quorum_min,
            ),
            _ => {
                let lanes = self.lanes.iter().zip(&self.dispatch.targets);
                let named: Vec<String> = lanes
                    .map(|(lane, target)| {
                        let state = super::render::state_word(lane.state);
                        format!("{}#{} {state}", target.persona_id, target.clone_id)
                    })
                    .collect();
                format!("no lane answered: {}", named.join(", "))
            }
        }
    }
}

/// When a provisional answer is told without agreement: what existing peers wait.
const UNAGREED_WAIT: Duration = Duration::from_millis(700);

/// Provisional answers of one fan-out: one every second over a minute, or a change a lane and as many
/// renewals.
const REVISIONS_MAX: u32 = 64;
