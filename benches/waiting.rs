//! A queue in which many tenants wait, for what looks at one turn of it.

use std::hint::black_box;
use std::time::Duration;

use dataplane_core::fair::{Ask, Charge, FairQueue, Room, Settings, Ticket};
use proto_core::model::Qos;
use proto_core::units::Moment;

use crate::scenarios::Step;

/// A queue in which so many tenants wait, each with a weight and a size of its own.
pub struct Full {
    queue: FairQueue<u64>,
    tenants: u64,
    turns: u64,
}

impl Full {
    pub fn of(tenants: u64) -> Full {
        let most = u32::try_from(2 * tenants).expect("a bench of thousands");
        let settings = Settings {
            items_max: most,
            tenants_max: most,
            sessions_max: most,
            age_max: Duration::from_secs(1 << 30),
            ..Settings::DEFAULT
        };
        let mut full = Full { queue: FairQueue::new(settings), tenants, turns: 0 };
        for tenant in 0..tenants {
            full.wait(tenant);
        }
        full
    }

    fn now(&self) -> Moment {
        Moment(self.turns * 1000)
    }

    fn wait(&mut self, tenant: u64) -> Ticket {
        let mixed = tenant.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ask = Ask {
            tenant: mixed,
            weight: 1 + (mixed >> 60) as u32,
            session: mixed,
            band: Qos::Silver,
            charge: Charge(1000 + (mixed >> 48)),
            need_tokens: 100,
            deadline: Moment(u64::MAX - (mixed >> 20)),
            bytes: 1000,
        };
        self.queue
            .enqueue(self.now(), ask, tenant)
            .unwrap_or_else(|_| panic!("twice the room that is needed"))
    }

    /// One is granted, ends, and its tenant waits again.
    pub fn turn(&mut self) {
        self.turns += 1;
        let room = Room { in_flight: 0, limit: 100, fits: &|_| true, is_warm: &|_| false };
        let pick = self.queue.select(self.now(), &room, |_| false, |_, _| ()).expect("all wait");
        let granted = self.queue.take(self.now(), pick).expect("nobody left in between");
        self.queue.settle(self.now(), granted.share, Charge(1000));
        black_box(self.wait(granted.payload));
    }

    /// One waits whose tenant waits already, and leaves.
    pub fn hang_up(&mut self) {
        self.turns += 1;
        let ticket = self.wait(self.turns.wrapping_mul(7919) % self.tenants);
        black_box(self.queue.remove(ticket));
    }
}

pub(crate) fn turn_of_10_000() -> Step {
    let mut full = Full::of(10_000);
    // The first few hundred turns execute up to a tenth more than all that follow.
    (0..1000).for_each(|_| full.turn());
    Box::new(move || full.turn())
}
