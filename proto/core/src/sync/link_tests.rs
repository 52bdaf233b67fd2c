//! Both ends over a fake link that loses connections, duplicates and reorders, while either side restarts and
//! sets keep coming. Whatever happened, when it calms down the data plane serves the newest set and both ends
//! know it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::kit::set;
use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014): a seed makes a run repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Messages on their way. A wild link duplicates them and lets later ones overtake.
struct Link<M>(VecDeque<M>);

impl<M: Clone> Link<M> {
    fn send(&mut self, message: M, dice: &mut Dice, wild: bool) {
        if wild && dice.roll(8) == 0 {
            self.0.push_back(message.clone());
        }
        self.0.push_back(message);
    }

    fn take(&mut self, dice: &mut Dice, wild: bool) -> Option<M> {
        let at = if wild && dice.roll(4) == 0 { dice.roll(self.0.len().max(1) as u64) as usize } else { 0 };
        self.0.remove(at)
    }
}

struct World {
    dice: Dice,
    newest: Arc<PublishedSet>,
    publisher: Publisher,
    subscriber: Subscriber,
    up: Link<wire::SyncRequest>,
    down: Link<wire::SyncResponse>,
    /// With the data plane's shell.
    building: Option<Candidate>,
    /// What a data plane that restarts finds on its disk.
    on_disk: Option<Held>,
    served: Option<Held>,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            dice: Dice(seed),
            newest: Arc::new(set(1, 0)),
            publisher: Publisher::default(),
            subscriber: Subscriber::new("edge-1".into(), "0.1.0".into(), None),
            up: Link(VecDeque::new()),
            down: Link(VecDeque::new()),
            building: None,
            on_disk: None,
            served: None,
        }
    }

    /// A new stream: the control plane makes a new machine, the data plane keeps its own.
    fn connect(&mut self) {
        self.up.0.clear();
        self.down.0.clear();
        self.publisher = Publisher::default();
        self.publisher.on_set(Arc::clone(&self.newest));
        self.subscriber.on_connected();
    }

    fn restart_data_plane(&mut self) {
        self.building = None;
        self.served = self.on_disk;
        self.subscriber = Subscriber::new("edge-1".into(), "0.1.0".into(), self.on_disk);
        self.connect();
    }

    fn apply(&mut self, epoch: u64, number: u64) {
        self.newest = Arc::new(set(epoch, number));
        self.publisher.on_set(Arc::clone(&self.newest));
    }

    fn finish_building(&mut self, accept: bool) {
        let Some(candidate) = self.building.take() else { return };
        if accept {
            let held = Held { generation: candidate.generation, hash: candidate.hash };
            let backwards = self.served.is_some_and(|served| held.generation < served.generation);
            assert!(!backwards, "{held:?} was offered while {:?} is served", self.served);
            (self.served, self.on_disk) = (Some(held), Some(held));
            self.subscriber.accepted(candidate.ticket);
        } else {
            self.subscriber.rejected(candidate.ticket, vec![about_the_set("no secret".into())]);
        }
    }

    /// Lets each end say and hear one thing.
    fn exchange(&mut self, wild: bool) {
        if let Some(message) = self.publisher.poll_question().or_else(|| self.publisher.poll_push()) {
            self.down.send(message, &mut self.dice, wild);
        }
        match self.subscriber.poll_action() {
            Some(Action::Send(message)) => self.up.send(message, &mut self.dice, wild),
            Some(Action::Build(candidate)) => {
                assert!(self.building.replace(candidate).is_none(), "two candidates are out");
            }
            Some(Action::Explain(_) | Action::Hear(_)) | None => {}
        }
        if let Some(message) = self.up.take(&mut self.dice, wild)
            && self.publisher.on_message(message).is_err()
        {
            self.connect();
        }
        if let Some(message) = self.down.take(&mut self.dice, wild)
            && self.subscriber.on_message(message).is_err()
        {
            self.connect();
        }
    }

    fn storm(&mut self) {
        let (mut epoch, mut number) = (1, 0);
        self.connect();
        for _ in 0..400 {
            match self.dice.roll(40) {
                0..=3 => {
                    number += 1;
                    self.apply(epoch, number);
                }
                4 => {
                    // The store was wiped: another epoch, numbers from the start, a restart of the control
                    // plane.
                    (epoch, number) = (epoch + 1, 1);
                    self.apply(epoch, number);
                    self.connect();
                }
                5 | 6 => self.connect(),
                7 => self.restart_data_plane(),
                8..=15 => self.finish_building(true),
                16 => self.finish_building(false),
                _ => {}
            }
            self.exchange(true);
        }
    }

    /// No more faults: everything already said arrives, then one last connection.
    fn calm(&mut self) {
        self.finish_building(true);
        self.connect();
        for _ in 0..20 {
            self.exchange(false);
            self.finish_building(true);
        }
    }
}

#[test]
fn whatever_happens_on_the_way_both_ends_converge_on_the_newest_set() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        world.storm();
        world.calm();
        let newest = world.newest.held();
        assert_eq!(world.served, Some(newest), "seed {seed}: what is served");
        assert_eq!(world.subscriber.held(), Some(newest), "seed {seed}: what the data plane believes");
        assert!(world.publisher.is_current(), "seed {seed}: what the control plane believes");
        assert!(world.up.0.is_empty() && world.down.0.is_empty(), "seed {seed}: they fell silent");
    }
}

#[test]
fn without_faults_each_set_costs_one_push_and_one_answer() {
    let mut world = World::new(0);
    world.connect();
    for number in 1..=100 {
        world.apply(1, number);
        for _ in 0..4 {
            world.exchange(false);
            world.finish_building(true);
        }
        assert_eq!(world.served, Some(world.newest.held()), "generation {number}");
    }
}
