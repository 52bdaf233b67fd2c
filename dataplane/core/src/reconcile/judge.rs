//! The policies: whether there is an answer yet, and which. Called whenever a lane is over.

use proto_core::frame::Code;
use proto_core::units::Moment;

use super::dispatch::{Otherwise, Policy};
use super::group::{self, Voice};
use super::share::Share;
use super::sketch::Sketch;
use super::{Decision, Fanout, LaneId, Phase, State, Verdict, Why};

/// What is to be done about the lanes as they stand.
enum Judgement {
    Wait,
    Decide(Decision),
    Arbitrate,
}

impl Fanout {
    /// This lane is over, with an answer or without.
    pub(super) fn on_whole(&mut self, lane: LaneId, now: Moment) {
        let place = usize::from(lane.0);
        if self.lanes[place].state == State::Ended && matches!(self.phase, Phase::Running) {
            self.hear(place);
        }
        self.decide(now);
    }

    pub(super) fn decide(&mut self, now: Moment) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if self.voices.is_empty() && !self.is_pending() && self.dispatch.may_be_partial {
            self.hear_partial();
        }
        match self.judge() {
            Judgement::Wait => {}
            Judgement::Decide(decision) => self.settle(decision, now),
            Judgement::Arbitrate => self.arbitrate(now),
        }
    }

    /// No lane says more: those that run are stopped.
    pub(super) fn cut(&mut self, why: Why, now: Moment) {
        for lane in &mut self.lanes {
            lane.stop(why, now);
        }
        self.decide(now);
    }

    pub(super) fn check_budget(&mut self, now: Moment) {
        let (spend, budget) = (self.spend(), self.dispatch.budget);
        let is_spent = budget.tokens.is_some_and(|tokens| spend.tokens() >= tokens)
            || budget.cost.is_some_and(|cost| spend.cost >= cost);
        if is_spent && matches!(self.phase, Phase::Running) {
            self.is_budget_spent = true;
            self.cut(Why::Budget, now);
        }
    }

    /// The decision stands, and whoever still runs has lost.
    pub(super) fn settle(&mut self, decision: Decision, now: Moment) {
        let winner = match decision {
            Decision::Winner { lane, .. } => Some(lane),
            Decision::Merged | Decision::Nothing(_) => None,
        };
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.stop(Why::Lost, now);
            // In a merge nobody has lost.
            if winner != Some(place) && decision != Decision::Merged {
                lane.hand_out_no_more();
            }
        }
        self.is_arbitrate_due = false;
        self.phase = Phase::Decided(decision);
    }

    /// The answer of the heaviest group.
    pub(super) fn best(&self) -> usize {
        self.groups.first().expect("there is a group where there is an answer").representative
    }

    pub(super) fn is_pending(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_open())
    }

    pub(super) fn heard(&self) -> Vec<Voice<'_>> {
        let voice = |place: &usize| Voice {
            place: *place,
            weight: self.dispatch.targets[*place].weight,
            text: &self.lanes[*place].text,
        };
        self.voices.iter().map(voice).collect()
    }

    fn hear(&mut self, place: usize) {
        self.voices.push(place);
        if self.dispatch.policy != Policy::FirstWin {
            self.table.add(place, Sketch::of(&self.lanes[place].text));
            self.groups = group::groups(&self.heard(), &self.table);
        }
    }

    /// Nobody came to an end: what there is counts, whoever began first going first.
    fn hear_partial(&mut self) {
        let is_heard = |place: &usize| {
            let lane = &self.lanes[*place];
            lane.is_usable && !lane.text.trim().is_empty()
        };
        let mut partial: Vec<usize> = (0..self.lanes.len()).filter(is_heard).collect();
        partial.sort_by_key(|place| (self.lanes[*place].first, *place));
        for place in partial {
            self.hear(place);
        }
    }

    fn judge(&self) -> Judgement {
        let is_pending = self.is_pending();
        let winner = |lane| Judgement::Decide(Decision::Winner { lane, is_agreed: true });
        let Some(earliest) = self.voices.first().copied() else {
            return match is_pending {
                true if self.is_quorum_lost() => Judgement::Decide(Decision::Nothing(Code::Consensus)),
                true => Judgement::Wait,
                false => Judgement::Decide(Decision::Nothing(self.why())),
            };
        };
        match self.dispatch.policy {
            Policy::FirstWin => winner(earliest),
            Policy::Champion => {
                let champion = self.champion();
                let is_heard = self.voices.contains(&champion);
                match is_heard || !self.lanes[champion].is_open() {
                    true => winner(if is_heard { champion } else { earliest }),
                    false => Judgement::Wait,
                }
            }
            Policy::WeightedMerge if is_pending => Judgement::Wait,
            Policy::WeightedMerge => Judgement::Decide(Decision::Merged),
            Policy::Consensus | Policy::Arbiter => self.agreement(is_pending),
        }
    }

    /// Whether enough say the same. While lanes run only what they cannot undo counts: a group's weight never
    /// falls, so its share can do no worse than if all who are still to come said something else.
    fn agreement(&self, is_pending: bool) -> Judgement {
        let dispatch = &self.dispatch;
        let first = &self.groups[0];
        let open = self.lanes.iter().zip(&dispatch.targets).filter(|(lane, _)| lane.is_open());
        let weight: u64 = open.map(|(_, target)| u64::from(target.weight)).sum();
        let certain = Share { part: first.score.part, whole: first.score.whole + weight };
        let quorum = usize::from(dispatch.quorum_min);
        if first.members.len() >= quorum && certain.is_at_least(dispatch.agree_min) {
            return Judgement::Decide(Decision::Winner { lane: first.representative, is_agreed: true });
        }
        let otherwise =
            if dispatch.policy == Policy::Arbiter { Otherwise::Arbiter } else { dispatch.otherwise };
        match otherwise {
            Otherwise::Fail if !is_pending || self.is_quorum_lost() => {
                Judgement::Decide(Decision::Nothing(Code::Consensus))
            }
            _ if is_pending => Judgement::Wait,
            Otherwise::Arbiter if self.groups.len() > 1 => Judgement::Arbitrate,
            _ => {
                // An arbiter has nothing to choose from where there is one answer; for its own policy that is
                // all it takes.
                let is_agreed = dispatch.policy == Policy::Arbiter;
                Judgement::Decide(Decision::Winner { lane: first.representative, is_agreed })
            }
        }
    }

    /// So many failed that those left are too few to agree, and nothing else is asked for.
    fn is_quorum_lost(&self) -> bool {
        let open = self.lanes.iter().filter(|lane| lane.is_open()).count();
        let is_strict =
            self.dispatch.policy == Policy::Consensus && self.dispatch.otherwise == Otherwise::Fail;
        is_strict && self.voices.len() + open < usize::from(self.dispatch.quorum_min)
    }

    fn arbitrate(&mut self, now: Moment) {
        let (cost, tokens) = self.arbiter_budget();
        if cost.0 == 0 || tokens == Some(0) || now >= self.deadline {
            self.is_budget_spent |= now < self.deadline;
            self.verdict = if now < self.deadline { Verdict::TooDear } else { Verdict::Late };
            let lane = self.best();
            self.settle(Decision::Winner { lane, is_agreed: false }, now);
        } else {
            self.phase = Phase::Arbitrating;
            self.is_arbitrate_due = true;
        }
    }

    /// Why nobody answered, in one word.
    fn why(&self) -> Code {
        let mut codes = self.lanes.iter().map(|lane| match lane.state {
            State::Failed(code) => code,
            State::Stopped(Why::Late) => Code::Timeout,
            State::Stopped(Why::Budget) => Code::Budget,
            _ => Code::Adapter,
        });
        let first = codes.next().expect("a dispatch has a target");
        let is_stop = |code: &Code| matches!(code, Code::Timeout | Code::Budget);
        match codes.clone().all(|code| code == first) {
            true => first,
            false => std::iter::once(first).chain(codes).find(is_stop).unwrap_or(Code::AgentDown),
        }
    }

    pub(super) fn champion(&self) -> usize {
        let found = self.dispatch.targets.iter().position(|target| target.is_champion);
        found.expect("a dispatch has a champion")
    }
}
