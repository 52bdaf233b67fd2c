//! The real queue, its owner, the real permits and answers, at a clock that only the test moves. The owner is
//! polled as a runtime would: when it was woken or when it asked to be, and at no other time.

mod bound;
mod charges;
mod leaks;
mod leaving;
mod life;
mod places;
mod same;
mod size;
mod stress;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use dataplane_core::table::Table;
use dataplane_state::registry::{OfferCell, Registry};
use dataplane_state::tables::Tables;
use proto_core::model::Qos;
use proto_core::parse::{Source, documents, set};
use proto_core::units::Moment;

use super::owner::Owner;
use super::*;
use crate::served::Served;

/// One adapter `a`, its queue and the owner of that.
struct World {
    now: Moment,
    registry: Registry,
    tables: Tables<Served>,
    queue: Arc<Queue>,
    owner: Option<Owner>,
    bell: Arc<Bell>,
    due: Moment,
    panics: usize,
    sets: u64,
}

/// What a runtime would poll the owner for.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        // Order: relaxed, one thread.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What becomes of one who comes.
enum Came {
    Permit(Permit),
    Waits(Place),
    Refused(Fault),
}

impl World {
    /// `terms`: of adapter `a`, as a document has them; each of `models` has its own queue.
    fn new(terms: &str, models: &[&str]) -> World {
        let (mut registry, tables) = (Registry::new(1), Tables::new());
        let snapshot = registry.bind(0, 1, table(terms, models));
        let queue = Arc::new(Queue::new(Arc::clone(&snapshot.adapters[0])));
        let now = Moment(1_000_000_000);
        let owner = Some(Owner::new(Arc::clone(&queue), now));
        let bell = Arc::new(Bell::default());
        // A task that is spawned is polled once.
        Wake::wake_by_ref(&bell);
        let due = Moment(u64::MAX);
        let mut world = World { now, registry, tables, queue, owner, bell, due, panics: 0, sets: 0 };
        world.serve(terms, models);
        world.turn();
        world
    }

    /// A new set, as `source` puts it into service.
    fn serve(&mut self, terms: &str, models: &[&str]) {
        self.sets += 1;
        self.tables.swap(served(&mut self.registry, &self.queue, self.sets, terms, models));
    }

    fn hold(&self) -> Hold {
        self.tables.load().expect("a set is served")
    }

    fn cell(&self, model: &str) -> Arc<OfferCell> {
        let held = self.hold();
        Arc::clone(&held.offers[offer(&held, model).0 as usize])
    }

    /// As an exchange does it: a permit if there is one, else a place in the queue.
    fn come(&self, model: &str, ask: Ask) -> Came {
        let held = self.hold();
        let offer = offer(&held, model);
        match Permit::try_now(&held, offer, &ask) {
            Some(permit) => Came::Permit(permit),
            None => self.queue.wait(&held, offer, ask).map_or_else(Came::Refused, Came::Waits),
        }
    }

    /// One that finds a permit.
    fn start(&self, model: &str, ask: Ask) -> Permit {
        match self.come(model, ask) {
            Came::Permit(permit) => permit,
            _ => panic!("there is no permit at once"),
        }
    }

    /// One that waits.
    fn wait(&self, model: &str, ask: Ask) -> Place {
        match self.come(model, ask) {
            Came::Waits(answer) => answer,
            _ => panic!("it does not wait"),
        }
    }

    /// The owner runs until it sleeps.
    fn turn(&mut self) {
        while self.bell.0.swap(false, Ordering::Relaxed) || self.due <= self.now {
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(owner) = &mut self.owner else { return };
        let waker = Waker::from(Arc::clone(&self.bell));
        let (now, panics) = (self.now, &mut self.panics);
        match owner.turn(&waker, now, || *panics += 1) {
            Some(due) => self.due = due,
            None => (self.owner, self.due) = (None, Moment(u64::MAX)),
        }
    }

    /// Time passes, with the owner looking whenever it wants to.
    fn pass(&mut self, span: Duration) {
        self.turn();
        let until = self.now + span;
        while self.due <= until {
            self.now = self.now.max(self.due);
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    fn in_flight(&self) -> (u32, u64) {
        let load = self.queue.cell.permits.now();
        (load.requests, load.tokens)
    }

    fn has_waiters(&self) -> bool {
        self.queue.cell.permits.now().has_waiters
    }

    /// Who waits in all lanes.
    fn depth(&self) -> usize {
        self.owner.iter().flat_map(|owner| &owner.lanes).map(|lane| lane.queue.len()).sum()
    }
}

/// A set, with what it says of `a` on its way to `queue`, as `source` builds it.
fn served(registry: &mut Registry, queue: &Arc<Queue>, number: u64, terms: &str, models: &[&str]) -> Served {
    let snapshot = registry.bind(0, number, table(terms, models));
    let rows = snapshot.table.adapters.iter().zip(&snapshot.adapters);
    let queues = rows.zip(Terms::of(&snapshot.table, &snapshot.offers)).map(|((row, cell), terms)| {
        if row.name.as_str() != "a" {
            return Arc::new(Queue::new(Arc::clone(cell)));
        }
        queue.set_terms(terms);
        Arc::clone(queue)
    });
    let queues = queues.collect();
    Served { snapshot, upstreams: Box::default(), queues }
}

fn table(terms: &str, models: &[&str]) -> Table {
    let models: String = models.iter().map(|model| format!("    - name: {model}\n")).collect();
    let (name, terms) = if models.is_empty() { ("gone", "") } else { ("a", terms) };
    let models = if models.is_empty() { "    - name: other\n".to_owned() } else { models };
    let text = format!("kind: Adapter\nname: {name}\nspec:\n  kind: echo\n{terms}  models:\n{models}");
    let parsed = documents(&[Source { file: "test", content: text.as_bytes() }]).expect("a sound document");
    Table::build(&set(&parsed.documents).expect("it fits together"), false)
}

fn limits(terms: &str) -> String {
    format!("  limits: {{ {terms} }}\n")
}

fn offer(held: &Hold, model: &str) -> OfferId {
    let at = held.table.offers.iter().position(|row| row.model.as_str() == model);
    OfferId(u32::try_from(at.expect("it is in this set")).expect("few"))
}

/// One token of input.
fn ask(tenant: u64) -> Ask {
    Ask {
        tenant,
        weight: 1,
        session: 0,
        band: Qos::Silver,
        charge: Charge(10),
        need_tokens: 1,
        deadline: Moment(u64::MAX),
        bytes: 1,
    }
}

fn of_band(band: Qos, tenant: u64) -> Ask {
    Ask { band, ..ask(tenant) }
}

fn granted(place: &mut Place) -> Permit {
    place.answer.try_recv().expect("it was answered").expect("with a permit")
}

fn refused(place: &mut Place) -> Kind {
    place.answer.try_recv().expect("it was answered").expect_err("with a fault").kind
}

/// Nobody told it anything yet.
fn is_waiting(place: &Place) -> bool {
    place.answer.is_empty() && !place.answer.is_terminated()
}

/// A generator for tests: SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn pick<T>(&mut self, all: &mut Vec<T>) -> Option<T> {
        let at = self.below(all.len() as u64) as usize;
        (at < all.len()).then(|| all.swap_remove(at))
    }
}
