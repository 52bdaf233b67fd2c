//! Fan-out: one question to several lanes, one answer back. The shell feeds `on_*`, then obeys
//! [`Fanout::poll_action`] until it says [`Action::Wait`] or [`Action::Done`]. Nothing here runs a model,
//! sends a frame or knows the time.
//!
//! ```text
//!              every lane started        a policy is satisfied, or no lane can say more
//!  new ──▶ Running ───────────────────────────────────────────────────────┐
//!            │                                                            ▼
//!            │ answers differ, and a model may choose                  Decided ──▶ Final or Failed ──▶ Done
//!            └───────────▶ Arbitrating ── on_verdict, its time is up ─────▲
//! ```
//! With the decision all lanes that still run are cancelled, bronze first. What a lane took is told until the
//! final answer is polled, so the cost of what was cancelled is in it: answer [`Action::Cancel`] with
//! [`Fanout::on_settled`].
//!
//! Rooms: [`dispatch`] (what is asked for), [`lane`] (one answer in the making), [`sketch`], [`finding`] and
//! [`group`] (which answers say the same), `judge` (the policies), [`merge`], [`arbiter`], [`challenge`],
//! `poll` (what to do next), [`render`] (contents of the messages), [`share`]. `docs/fanout.md` is for users.

use std::time::Duration;

use proto_core::frame::Code;
use proto_core::model::Qos;
use proto_core::units::{Moment, Permille, Picodollars};

pub mod arbiter;
pub mod challenge;
pub mod dispatch;
mod fields;
pub mod finding;
pub mod group;
mod judge;
pub mod lane;
pub mod merge;
mod poll;
pub mod render;
pub mod share;
pub mod sketch;
pub mod switch;

use challenge::Comparison;
use dispatch::Policy;
use finding::Joined;
use group::{Group, Table};
use lane::{Lane, Took};
use share::Share;

pub use dispatch::{Dispatch, Mistakes};
pub use lane::{Spend, State, Why};

/// A lane, by its place among the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u8);

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask this lane's model ([`Dispatch::body`]).
    Start(LaneId),
    /// Drop this lane's request, then say [`Fanout::on_settled`].
    Cancel(LaneId),
    /// Read no further from this lane: what it said is not taken off.
    Pause(LaneId),
    Resume(LaneId),
    /// Ask a model to choose ([`Fanout::question`]), then say [`Fanout::on_verdict`].
    Arbitrate(Arbitration),
    /// Drop the arbiter's request, then say [`Fanout::on_verdict`] with what it took.
    CancelArbiter,
    /// Pass this on: `agent.stream`.
    Stream(Piece),
    /// This lane is over: `agent.end`.
    LaneEnd(LaneId),
    /// `agent.result.provisional`; a revision above 1 takes the place of the one before.
    Provisional(Provisional),
    /// What was provisional has less agreement than was told: `control.status`.
    Downgraded {
        from: Share,
        to: Share,
    },
    /// `agent.result.final`.
    Final(Box<Outcome>),
    /// There is no answer.
    Failed(Failure),
    /// Say `on_time` then, unless something happens before. In the far future: nothing is waited for but
    /// room.
    Wait {
        until: Moment,
    },
    /// It is over.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub lane: LaneId,
    /// From 1 in each lane.
    pub seq: u64,
    pub text: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arbitration {
    /// To choose from; at least two.
    pub candidates: Vec<LaneId>,
    /// What choosing may cost.
    pub cost_max: Picodollars,
    pub tokens_max: Option<u64>,
    pub until: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisional {
    pub text: String,
    /// `None`: merged of several.
    pub lane: Option<LaneId>,
    pub agreement: Share,
    /// How long it holds.
    pub expiry: Duration,
    /// From 1.
    pub revision: u32,
}

/// The answer, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub text: String,
    /// `None`: merged of several.
    pub winner: Option<LaneId>,
    pub policy: Policy,
    /// What the policy asks for is fulfilled; false: it is the best there was.
    pub is_agreed: bool,
    /// It was cut short.
    pub is_partial: bool,
    /// Of the heaviest group; `None`: answers were not compared.
    pub agreement: Option<Share>,
    /// Words in common, the mean of all pairs.
    pub overlap: Option<Share>,
    /// Members and representatives are places of lanes.
    pub groups: Vec<Group>,
    /// Of each sentence of a merge.
    pub support: Vec<Share>,
    /// Where every answer compared is a list of findings: all of them, the best supported first.
    pub findings: Vec<Joined>,
    pub arbiter: Verdict,
    pub comparisons: Vec<Comparison>,
    /// Lanes were stopped, or no arbiter asked, because the budget was spent.
    pub is_budget_spent: bool,
    pub spend: Spend,
    pub latency: Duration,
}

/// What came of the arbiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not asked.
    NotAsked,
    Chose(LaneId),
    /// It failed, or named none.
    Unclear,
    Late,
    /// Nothing was left to ask it with.
    TooDear,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub reason: String,
    pub spend: Spend,
    pub latency: Duration,
}

/// What one lane came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub state: State,
    pub spend: Spend,
    /// From its start to its end, or to now.
    pub latency: Duration,
    /// To its first piece.
    pub first: Option<Duration>,
    /// Handed out.
    pub pieces: u64,
    /// Pieces that never came.
    pub gaps: u64,
}

#[derive(Debug)]
enum Phase {
    Running,
    Arbitrating,
    Decided(Decision),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Winner { lane: usize, is_agreed: bool },
    Merged,
    Nothing(Code),
}

/// One fan-out.
#[derive(Debug)]
pub struct Fanout {
    dispatch: Dispatch,
    lanes: Vec<Lane>,
    phase: Phase,
    began: Moment,
    /// Lanes are given no longer.
    lanes_until: Moment,
    deadline: Moment,
    table: Table,
    /// Lanes whose answers count, in the order they came.
    voices: Vec<usize>,
    groups: Vec<Group>,
    told: Option<poll::Told>,
    verdict: Verdict,
    arbiter_spend: Spend,
    is_arbitrate_due: bool,
    is_arbiter_running: bool,
    is_too_dear: bool,
    is_budget_spent: bool,
    /// Whose piece is next.
    turn: usize,
}

impl Fanout {
    /// `qos` is the stream's: a target may ask for worse, not for better.
    pub fn new(dispatch: Dispatch, qos: Qos, now: Moment) -> Fanout {
        let lane =
            |target: &dispatch::Target| Lane::new(target.qos.unwrap_or(qos).min(qos), dispatch.is_streamed);
        let deadline = now + dispatch.deadline;
        // An arbiter that is asked at the deadline cannot answer.
        let for_lanes = if dispatch.may_arbitrate() { dispatch.deadline * 2 / 3 } else { dispatch.deadline };
        Fanout {
            lanes: dispatch.targets.iter().map(lane).collect(),
            phase: Phase::Running,
            began: now,
            lanes_until: now + for_lanes,
            deadline,
            table: Table::default(),
            voices: Vec::new(),
            groups: Vec::new(),
            told: None,
            verdict: Verdict::NotAsked,
            arbiter_spend: Spend::default(),
            is_arbitrate_due: false,
            is_arbiter_running: false,
            is_too_dear: false,
            is_budget_spent: false,
            turn: 0,
            dispatch,
        }
    }

    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// What a lane is served with: its own, and never better than the stream's.
    pub fn qos(&self, lane: LaneId) -> Qos {
        self.lane(lane).qos
    }

    /// The next piece of a lane that tells its pieces in order; `tokens` are those of this piece.
    pub fn on_text(&mut self, lane: LaneId, text: &str, tokens: u64, now: Moment) {
        self.on_piece(lane, self.lane(lane).next_seq(), text, tokens, now);
    }

    /// A piece of a lane whose pieces may come twice, out of order, or not at all; `seq` is from 1.
    pub fn on_piece(&mut self, lane: LaneId, seq: u64, text: &str, tokens: u64, now: Moment) {
        let own = self.lane_mut(lane);
        if !own.is_running() {
            return;
        }
        let took = own.on_piece(seq, text, now);
        if took == Took::Again {
            return;
        }
        own.spend.tokens_out = own.spend.tokens_out.saturating_add(tokens);
        if took == Took::TooLong {
            own.stop(Why::TooLong, now);
            self.decide(now);
        } else if own.finish(now) {
            self.on_whole(lane, now);
        }
        self.check_budget(now);
    }

    /// What a lane has taken until now, in all.
    pub fn on_spent(&mut self, lane: LaneId, spend: Spend, now: Moment) {
        self.lane_mut(lane).spend = spend;
        self.check_budget(now);
    }

    /// A lane's answer is whole.
    pub fn on_end(&mut self, lane: LaneId, spend: Spend, now: Moment) {
        let own = self.lane_mut(lane);
        own.spend = spend;
        if own.is_running() && own.on_end(now) {
            self.on_whole(lane, now);
        }
        self.check_budget(now);
    }

    /// A lane failed. `is_fatal`: what it said so far is worth nothing.
    pub fn on_failed(&mut self, lane: LaneId, code: Code, is_fatal: bool, spend: Spend, now: Moment) {
        let own = self.lane_mut(lane);
        own.spend = spend;
        if own.is_open() {
            own.is_usable = !is_fatal;
            own.close(State::Failed(code), now);
            self.is_budget_spent |= code == Code::Budget;
            self.decide(now);
        }
        self.check_budget(now);
    }

    /// What a cancelled lane took.
    pub fn on_settled(&mut self, lane: LaneId, spend: Spend) {
        self.lane_mut(lane).spend = spend;
    }

    /// The arbiter's choice among [`Arbitration::candidates`], `None` where it made none.
    pub fn on_verdict(&mut self, choice: Option<usize>, spend: Spend, now: Moment) {
        self.arbiter_spend = spend;
        self.is_arbiter_running = false;
        if matches!(self.phase, Phase::Arbitrating) {
            let chosen = choice.and_then(|at| self.groups.get(at)).map(|group| group.representative);
            let without = if self.is_too_dear { Verdict::TooDear } else { Verdict::Unclear };
            self.verdict = chosen.map_or(without, |lane| Verdict::Chose(id(lane)));
            let lane = chosen.unwrap_or_else(|| self.best());
            self.settle(Decision::Winner { lane, is_agreed: false }, now);
        }
    }

    /// The arbiter would take more than is left for it, and was not asked or is stopped; its verdict follows.
    pub fn on_too_dear(&mut self) {
        self.is_too_dear = true;
        self.is_budget_spent = true;
    }

    /// The moment of a `Wait` has come.
    pub fn on_time(&mut self, now: Moment) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].on_time(now) {
                self.on_whole(id(lane), now);
            }
        }
        match self.phase {
            Phase::Running if now >= self.lanes_until => self.cut(Why::Late, now),
            Phase::Arbitrating if now >= self.deadline => {
                self.verdict = Verdict::Late;
                let lane = self.best();
                self.settle(Decision::Winner { lane, is_agreed: false }, now);
            }
            _ => {}
        }
    }

    /// The whole is not wanted any more: cancels what runs, and there is no answer.
    pub fn on_cancel(&mut self, now: Moment) {
        if !matches!(self.phase, Phase::Decided(_) | Phase::Done) {
            self.settle(Decision::Nothing(Code::Preempt), now);
        }
    }

    /// Of all lanes and the arbiter.
    pub fn spend(&self) -> Spend {
        self.lanes.iter().map(|lane| lane.spend).fold(self.arbiter_spend, |sum, spend| sum + spend)
    }

    /// Bytes of answers and of what is known of them, for the ledger.
    pub fn held_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::bytes).sum::<usize>() + self.table.bytes()
    }

    pub fn report(&self, lane: LaneId, now: Moment) -> Report {
        let own = self.lane(lane);
        let began = own.started.or(own.ended).unwrap_or(now);
        Report {
            state: own.state,
            spend: own.spend,
            latency: own.ended.unwrap_or(now).since(began),
            first: own.first.map(|first| first.since(began)),
            pieces: own.pieces(),
            gaps: own.gaps,
        }
    }

    /// What the lane said so far.
    pub fn text(&self, lane: LaneId) -> &str {
        &self.lane(lane).text
    }

    /// Appends the body of the arbiter's chat completion.
    pub fn question(&self, arbitration: &Arbitration, out: &mut Vec<u8>) {
        let candidates: Vec<&str> = arbitration.candidates.iter().map(|lane| self.text(*lane)).collect();
        let model = self.dispatch.arbiter.model.as_deref().unwrap_or("auto");
        arbiter::question(model, self.dispatch.messages(), &candidates, out);
    }

    fn lane(&self, lane: LaneId) -> &Lane {
        &self.lanes[usize::from(lane.0)]
    }

    fn lane_mut(&mut self, lane: LaneId) -> &mut Lane {
        &mut self.lanes[usize::from(lane.0)]
    }
}

fn id(lane: usize) -> LaneId {
    LaneId(u8::try_from(lane).expect("there are no more lanes than TARGETS_MAX"))
}

/// A fall in agreement that is told.
const FALL: Permille = Permille(50);

#[cfg(test)]
mod tests;
