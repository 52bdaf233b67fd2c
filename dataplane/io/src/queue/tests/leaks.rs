//! Whatever happens in whatever order: every permit comes home, and everybody who waits is answered once.

use std::task::Context;

use dataplane_core::limit::{Axis, Ceiling, Loss, Sample};

use super::*;

/// A crowd that comes, waits, leaves and ends while sets and limits change under it.
struct Crowd {
    world: World,
    dice: Dice,
    waiting: Vec<Place>,
    running: Vec<(Permit, Option<Preemption>)>,
    /// Of former sets, as requests under way hold them.
    old: Vec<Hold>,
    models: Vec<Arc<OfferCell>>,
    /// The owner was left a note for which it is not woken and that may change who is next.
    has_silent_note: bool,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    at_once: usize,
    granted: usize,
    refused: usize,
    left: usize,
    /// They left when their permit was on its way already.
    left_with_permit: usize,
    cut: usize,
}

impl Crowd {
    fn new(seed: u64) -> Crowd {
        let world = World::new(&limits("max_parallel: 2"), &MODELS);
        let models = MODELS.map(|model| world.cell(model)).into();
        let counts = Counts::default();
        let (waiting, running, old) = Default::default();
        Crowd { world, dice: Dice(seed), waiting, running, old, models, has_silent_note: false, counts }
    }

    fn act(&mut self) {
        match self.dice.below(100) {
            0..35 => self.come(),
            35..45 => self.leave(),
            45..60 => self.listen(),
            60..75 => self.end(),
            75..80 => self.extend(),
            80..85 => self.report(),
            85..88 => self.change(),
            88..92 => {
                let span = Duration::from_millis(self.dice.below(3).pow(3) * 200);
                self.world.pass(span);
            }
            _ => self.world.turn(),
        }
        if self.dice.below(3) == 0 {
            self.world.turn();
            self.nobody_is_forgotten();
        }
    }

    /// Mostly by the newest set, sometimes by one that was replaced since.
    fn come(&mut self) {
        let newest = self.world.hold();
        let held = match self.dice.below(4) {
            0 => self.old.first().cloned().unwrap_or(newest),
            _ => newest,
        };
        let of_a = held.table.offers.iter().filter(|row| row.model.as_str() != "other").count() as u64;
        if of_a == 0 {
            return;
        }
        let offer = OfferId(self.dice.below(of_a) as u32);
        let band = [Qos::Bronze, Qos::Silver, Qos::Gold][self.dice.below(3) as usize];
        let deadline = match self.dice.below(5) {
            0 => self.world.now + Duration::from_millis(self.dice.below(500)),
            _ => Moment(u64::MAX),
        };
        let tokens = self.dice.below(60);
        let charge = Charge(10 + 10 * tokens);
        let ask = Ask { deadline, charge, need_tokens: tokens, ..of_band(band, self.dice.below(5)) };
        match Permit::try_now(&held, offer, &ask) {
            Some(permit) => {
                self.counts.at_once += 1;
                self.run(permit, &held, offer, band);
            }
            None => match self.world.queue.wait(&held, offer, ask) {
                Ok(answer) => self.waiting.push(answer),
                Err(fault) => panic!("the list of notes is far from full: {fault:?}"),
            },
        }
        if self.old.len() < 3 {
            self.old.push(held);
        }
    }

    fn run(&mut self, permit: Permit, held: &Hold, offer: OfferId, band: Qos) {
        let preemption = (band == Qos::Bronze).then(|| {
            let (preemption, victim) = Preemption::new(self.dice.below(2) == 0);
            if self.dice.below(2) == 0 {
                preemption.on_answering();
            }
            self.world.queue.on_preemptible(held.table.offer(offer).hash, victim);
            preemption
        });
        self.running.push((permit, preemption));
    }

    /// Without looking whether a permit is on its way.
    fn leave(&mut self) {
        if let Some(answer) = self.dice.pick(&mut self.waiting) {
            self.counts.left += 1;
            self.counts.left_with_permit += usize::from(!is_waiting(&answer));
        }
    }

    fn listen(&mut self) {
        for at in (0..self.waiting.len()).rev() {
            if is_waiting(&self.waiting[at]) {
                continue;
            }
            match self.waiting.swap_remove(at).answer.try_recv().expect("nobody is left without an answer") {
                Ok(permit) => {
                    self.counts.granted += 1;
                    self.running.push((permit, None));
                }
                Err(_) => self.counts.refused += 1,
            }
        }
    }

    fn end(&mut self) {
        for at in (0..self.running.len()).rev() {
            let cut = self.running[at].1.as_mut();
            if cut.is_some_and(|cut| cut.poll(&mut Context::from_waker(Waker::noop())).is_ready()) {
                self.counts.cut += 1;
                self.running.swap_remove(at);
            }
        }
        if let Some((mut permit, _)) = self.dice.pick(&mut self.running)
            && self.dice.below(4) != 0
        {
            permit.on_used(Charge(self.dice.below(1000)));
        }
    }

    fn extend(&mut self) {
        let at = self.dice.below(self.running.len() as u64) as usize;
        self.has_silent_note = true;
        if let Some((permit, _)) = self.running.get_mut(at) {
            permit.extend(64, Charge(20 * 64));
        }
    }

    /// What moves a limit, of any model, whether it has one that moves or not.
    fn report(&mut self) {
        self.has_silent_note = true;
        let held = self.world.hold();
        let lane = held.table.offers[self.dice.below(held.table.offers.len() as u64) as usize].hash;
        let (now, queue) = (self.world.now, &self.world.queue);
        let (dispatched_at, requests_in_flight, tokens_in_flight) = (Moment(now.0 - 1_000_000), 3, 30);
        match self.dice.below(4) {
            0 => {
                let what = Axis::Requests;
                queue.on_loss(lane, Loss { dispatched_at, now, what, requests_in_flight, tokens_in_flight });
            }
            1 => {
                let until = now + Duration::from_secs(self.dice.below(3));
                let requests = Some(self.dice.below(3) as u32);
                queue.on_ceiling(lane, Ceiling { requests, tokens: None, until });
            }
            _ => queue.on_sample(
                lane,
                Sample {
                    dispatched_at,
                    now,
                    ttft: Some(Duration::from_millis(1 + self.dice.below(20))),
                    prompt_tokens_uncached: self.dice.below(100),
                    requests_in_flight,
                    tokens_in_flight,
                    bound: Some(Axis::Requests),
                },
            ),
        }
    }

    /// Another set: other limits, a limit that moves or not, models gone and back, the adapter gone and back.
    fn change(&mut self) {
        let kind = ["fixed", "aimd", "gradient"][self.dice.below(3) as usize];
        let tokens = match self.dice.below(2) {
            0 => format!(", max_tokens_in_flight: {}", 1 + self.dice.below(200)),
            _ => String::new(),
        };
        let (parallel, queued) = (1 + self.dice.below(8), [0, 3, 1000][self.dice.below(3) as usize]);
        let terms = format!("max_parallel: {parallel}, max_queued: {queued}{tokens}");
        let terms = format!("{}  concurrency: {kind}\n", limits(&terms));
        let from = self.dice.below(2) as usize;
        let models = match self.dice.below(6) {
            0 => &[][..],
            1 | 2 => &MODELS[from..from + 1],
            _ => &MODELS[..],
        };
        self.world.serve(&terms, models);
        if self.dice.below(2) == 0 {
            self.old.clear();
        }
    }

    /// A look that nobody asked for finds nobody to give a permit to: all that makes room wakes the owner.
    fn nobody_is_forgotten(&mut self) {
        let before = self.world.in_flight();
        self.world.look();
        assert!(self.has_silent_note || self.world.in_flight() == before, "somebody was forgotten");
        self.has_silent_note = false;
        self.world.turn();
    }

    /// Room for everybody, then all end, with time standing still: only wakes bring the owner to it.
    fn close(mut self) -> Counts {
        self.world.serve(&limits("max_parallel: 5, max_queued: 1000"), &MODELS);
        self.old.clear();
        loop {
            self.world.turn();
            let before = self.running.len();
            self.listen();
            if self.running.is_empty() && before == 0 {
                break;
            }
            self.running.clear();
        }
        assert!(self.waiting.is_empty(), "{} wait and there is room", self.waiting.len());
        self.world.turn();
        assert_eq!((self.world.in_flight(), self.world.depth()), ((0, 0), 0));
        assert!(!self.world.has_waiters());
        for cell in &self.models {
            let load = cell.permits.now();
            assert_eq!((load.requests, load.tokens), (0, 0), "the model's own limit");
            let tally = &cell.queue;
            assert_eq!(tally.enqueued.value(), tally.granted.value() + tally.dropped.value());
            assert_eq!(tally.depth(), [0, 0, 0]);
        }
        assert_eq!(self.world.panics, 0);
        assert_eq!(self.world.queue.notes_lost(), 0);
        self.counts
    }
}

#[test]
fn every_permit_comes_home_and_everybody_is_answered_once_or_has_left() {
    let mut sum = Counts::default();
    for seed in 0..RUNS {
        let mut crowd = Crowd::new(seed);
        println!("seed {seed}");
        (0..STEPS).for_each(|_| crowd.act());
        let counts = crowd.close();
        sum.at_once += counts.at_once;
        sum.granted += counts.granted;
        sum.refused += counts.refused;
        sum.left += counts.left;
        sum.left_with_permit += counts.left_with_permit;
        sum.cut += counts.cut;
    }
    println!("{sum:?}");
    assert!(sum.at_once > 1000 && sum.granted > 1000 && sum.refused > 1000 && sum.left > 1000, "{sum:?}");
    assert!(sum.left_with_permit > 100 && sum.cut > 10, "{sum:?}");
}

#[test]
fn who_stood_behind_one_that_leaves_is_served_without_another_wake() {
    let mut world = World::new(&limits("max_parallel: 9, max_tokens_in_flight: 10"), &["m"]);
    let sized = |tenant, tokens| Ask { need_tokens: tokens, ..ask(tenant) };
    let _first = world.start("m", sized(0, 5));
    let large = world.wait("m", sized(1, 6));
    let mut small = world.wait("m", sized(2, 5));
    world.turn();
    assert!(is_waiting(&small), "it does not pass the large one");
    drop(large);
    world.turn();
    drop(granted(&mut small));
}

const MODELS: [&str; 2] = ["m", "n"];
const RUNS: u64 = 100;
const STEPS: usize = 1000;
