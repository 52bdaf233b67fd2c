//! What is served: a snapshot of decisions, and beside each adapter the means to reach it.

use std::ops::Deref;
use std::sync::Arc;

use dataplane_core::table::{AdapterId, OfferId};
use dataplane_state::tables::{Held, Snapshot};

use crate::queue::Queue;
use crate::upstream::Upstream;

/// One generation.
#[derive(Debug)]
pub struct Served {
    pub snapshot: Snapshot,
    /// By [`AdapterId`].
    pub upstreams: Box<[Arc<Upstream>]>,
    /// By [`AdapterId`].
    pub queues: Box<[Arc<Queue>]>,
}

/// One exchange's hold on it.
pub type Hold = Arc<Held<Served>>;

impl Served {
    pub fn upstream(&self, id: AdapterId) -> &Arc<Upstream> {
        &self.upstreams[id.0 as usize]
    }

    /// Where those wait who ask for `offer`.
    pub fn queue(&self, offer: OfferId) -> &Arc<Queue> {
        &self.queues[self.snapshot.table.offer(offer).adapter.0 as usize]
    }
}

impl Deref for Served {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
