//! Any order of events: one answer or one failure, everybody else cancelled, all of it paid for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TEXTS: [&str; 5] = ["the sky is blue", "The sky is blue!", "red. Dust.", "Red. dust", "no idea at all"];

/// A shell that does as it is told, and remembers.
struct Shell {
    fanout: Fanout,
    now: u64,
    running: Vec<bool>,
    paused: Vec<bool>,
    spends: Vec<Spend>,
    arbiter: Spend,
    is_asked: bool,
    pieces: BTreeMap<u8, String>,
    seqs: BTreeMap<u8, u64>,
    ends: Vec<u8>,
    revision: u32,
    last: Option<Action>,
}

impl Shell {
    fn new(dispatch: Dispatch) -> Shell {
        let lanes = dispatch.targets.len();
        Shell {
            fanout: Fanout::new(dispatch, Qos::Silver, at(0)),
            now: 0,
            running: vec![false; lanes],
            paused: vec![false; lanes],
            spends: vec![Spend::default(); lanes],
            arbiter: Spend::default(),
            is_asked: false,
            pieces: BTreeMap::new(),
            seqs: BTreeMap::new(),
            ends: Vec::new(),
            revision: 0,
            last: None,
        }
    }

    fn now(&self) -> Moment {
        at(self.now)
    }

    /// Obeys until there is nothing to do; the moment it waits for.
    fn obey(&mut self, has_room: bool) -> Option<Moment> {
        for _ in 0..500 {
            match self.fanout.poll_action(has_room, self.now()) {
                Action::Wait { until } => return Some(until),
                Action::Done => {
                    assert!(self.last.is_some(), "it ended without a word");
                    return None;
                }
                action => self.take(action),
            }
        }
        panic!("it never waits");
    }

    fn take(&mut self, action: Action) {
        assert!(self.last.is_none(), "{action:?} after the last word");
        match action {
            Action::Start(lane) => {
                let was = std::mem::replace(&mut self.running[usize::from(lane.0)], true);
                assert!(!was, "started twice");
            }
            Action::Cancel(lane) => {
                let at = usize::from(lane.0);
                assert!(std::mem::take(&mut self.running[at]), "cancelled what does not run");
                self.spends[at].tokens_out += 1;
                self.fanout.on_settled(lane, self.spends[at]);
            }
            Action::Pause(lane) => {
                assert!(!std::mem::replace(&mut self.paused[usize::from(lane.0)], true));
            }
            Action::Resume(lane) => assert!(std::mem::take(&mut self.paused[usize::from(lane.0)])),
            Action::Arbitrate(arbitration) => {
                assert!(arbitration.candidates.len() > 1 && !self.is_asked);
                assert!(self.running.iter().all(|running| !running), "a lane may still answer");
                self.is_asked = true;
            }
            Action::CancelArbiter => {
                assert!(std::mem::take(&mut self.is_asked));
                self.arbiter = spend(2, 2);
                self.fanout.on_verdict(None, self.arbiter, self.now());
            }
            Action::Stream(piece) => {
                let seq = self.seqs.entry(piece.lane.0).or_default();
                *seq += 1;
                assert_eq!(piece.seq, *seq);
                assert!(!self.ends.contains(&piece.lane.0), "a piece after the end");
                self.pieces.entry(piece.lane.0).or_default().push_str(&piece.text);
            }
            Action::LaneEnd(lane) => {
                assert!(!self.ends.contains(&lane.0));
                self.ends.push(lane.0);
            }
            Action::Provisional(provisional) => {
                self.revision += 1;
                assert_eq!(provisional.revision, self.revision);
            }
            Action::Downgraded { from, to } => assert!(self.revision > 0 && to.as_f64() < from.as_f64()),
            action => self.last = Some(action),
        }
    }

    fn event(&mut self, (what, lane, pick, ms): (u8, u8, usize, u64)) {
        self.now += ms;
        let now = self.now();
        let lane = LaneId(lane % self.running.len() as u8);
        let at = usize::from(lane.0);
        if what > 7 {
            return self.fanout.on_time(now);
        }
        if what == 7 && std::mem::take(&mut self.is_asked) {
            self.arbiter = spend(3, 3);
            return self.fanout.on_verdict(pick.checked_sub(1), self.arbiter, now);
        }
        if !self.running[at] {
            return;
        }
        self.spends[at].tokens_out += 1;
        self.spends[at].cost = self.spends[at].cost + Picodollars(pick as u64);
        let spend = self.spends[at];
        match what {
            0..3 => {
                self.fanout.on_text(lane, TEXTS[pick], 1, now);
                self.fanout.on_spent(lane, spend, now);
            }
            3 => {
                self.fanout.on_piece(lane, pick as u64 + 1, TEXTS[pick], 0, now);
                self.fanout.on_spent(lane, spend, now);
            }
            6 => {
                self.running[at] = false;
                self.fanout.on_failed(lane, Code::Adapter, pick % 2 == 0, spend, now);
            }
            _ => {
                self.fanout.on_text(lane, TEXTS[pick], 0, now);
                self.fanout.on_end(lane, spend, now);
                self.running[at] = false;
            }
        }
    }

    /// Lets time pass until it is over.
    fn drain(&mut self) {
        self.fanout.on_time(self.now());
        for _ in 0..300 {
            let Some(until) = self.obey(true) else { return };
            assert!(until > self.now(), "it waits for what has been");
            self.now = until.0.div_ceil(1_000_000);
            self.fanout.on_time(self.now());
        }
        panic!("it never ends");
    }

    fn check(&self) {
        assert_eq!(self.ends.len(), self.running.len(), "each lane ends once");
        assert!(self.running.iter().all(|running| !running), "something still runs");
        assert!(!self.is_asked, "an arbiter is still asked");
        let sum = self.spends.iter().fold(self.arbiter, |sum, spend| sum + *spend);
        match self.last.as_ref().unwrap() {
            Action::Final(outcome) => {
                assert_eq!(outcome.spend, sum);
                if let Some(winner) = outcome.winner {
                    assert_eq!(outcome.text, self.fanout.text(winner));
                    assert_eq!(Some(&outcome.text), self.pieces.get(&winner.0));
                }
            }
            Action::Failed(failure) => assert_eq!(failure.spend, sum),
            action => panic!("{action:?} is no last word"),
        }
    }
}

fn wishes() -> impl Strategy<Value = Value> {
    let policies = prop::sample::select(dispatch::Policy::ALL.map(|policy| policy.as_str()).to_vec());
    let otherwise = prop::sample::select(vec!["fail", "best", "arbiter"]);
    let budget = prop::option::of(1u64..40);
    (policies, otherwise, any::<bool>(), any::<bool>(), budget, 1u64..3, 0u32..=10).prop_map(
        |(policy, otherwise, partial, provisional, budget, quorum, agree)| {
            let budget = budget.map_or(json!({}), |tokens| json!({"tokens": tokens}));
            json!({"policy": policy, "otherwise": otherwise, "partial": partial, "provisional": provisional,
                "budget": budget, "quorum_min": quorum, "agree_min": f64::from(agree) / 10.0})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_order_of_events_ends_in_one_answer_or_one_failure(
        lanes in 2usize..6,
        wishes in wishes(),
        events in prop::collection::vec((0u8..9, 0u8..6, 0..TEXTS.len(), 0u64..400), 0..40),
        rooms in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut shell = Shell::new(dispatch(lanes, wishes));
        for (event, has_room) in events.into_iter().zip(rooms) {
            shell.obey(has_room);
            if shell.last.is_none() {
                shell.event(event);
            }
        }
        shell.drain();
        shell.check();
    }

    #[test]
    fn the_order_of_targets_does_not_matter_to_consensus_and_merge(
        picks in prop::collection::vec((0..TEXTS.len(), 1u32..4), 2..7),
        seed in any::<u64>(),
        is_merge in any::<bool>(),
    ) {
        let run = |picks: &[(usize, u32)]| {
            let targets: Vec<Value> = picks
                .iter()
                .map(|(_, weight)| json!({"persona_id": "p", "weight": weight}))
                .collect();
            let policy = if is_merge { "weighted-merge" } else { "consensus" };
            let mut more = json!({"policy": policy, "otherwise": "best", "provisional": false});
            more["targets"] = json!(targets);
            let mut fanout = started(picks.len(), more);
            // All at once: nobody is cancelled before it was heard.
            for (lane, (pick, _)) in picks.iter().enumerate() {
                fanout.on_text(id(lane), TEXTS[*pick], 1, at(1));
            }
            for lane in 0..picks.len() {
                fanout.on_end(id(lane), spend(1, 1), at(1));
            }
            let outcome = outcome(&mut fanout, at(1));
            (outcome.text, outcome.is_agreed)
        };
        let mut other = picks.clone();
        let mut random = seed;
        for at in (1..other.len()).rev() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            other.swap(at, ((random >> 33) % (at as u64 + 1)) as usize);
        }
        let (one, two) = (run(&picks), run(&other));
        prop_assert_eq!(one.1, two.1);
        let alike = |text: &str| super::sketch::Sketch::of(text);
        prop_assert!(one.0 == two.0 || !is_merge && alike(&one.0).likeness(&alike(&two.0)).is_same);
    }
}
