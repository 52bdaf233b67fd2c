//! The connected data planes: who they are (a [`Fleet`]) and a way to ask each. The lock is held for map
//! operations only, never over a wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use controlplane_core::fleet::{CONNECTED_MAX, Fleet, Plane, StreamId, Welcome};
use controlplane_core::registry::Registry;
use proto_core::sync::places::Unfit;
use proto_core::sync::{Held, QUESTIONS_MAX};
use proto_core::units::Moment;
use proto_core::wire::atp::control::v1::{Places, Reject};
use tokio::sync::{mpsc, oneshot, watch};

/// Shared by the Sync streams and the operators' API.
#[derive(Debug)]
pub struct Planes {
    inner: Mutex<Inner>,
    origin: Instant,
    /// Counts lists of places.
    places: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    fleet: Fleet,
    registry: Registry,
    /// One for each connected stream. A link that is dropped ends its stream.
    links: BTreeMap<StreamId, mpsc::Sender<Ask>>,
    stream_last: u64,
}

/// A question for a data plane, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    pub model: String,
    pub task_type: String,
    pub tenant: String,
    pub answer: oneshot::Sender<bytes::Bytes>,
}

/// One data plane's place among the connected. Dropping it says that the stream is gone.
#[derive(Debug)]
pub struct Seat<'a> {
    planes: &'a Planes,
    node: String,
    stream: StreamId,
}

/// There is no seat left.
#[derive(Debug, thiserror::Error)]
#[error("{CONNECTED_MAX} data planes are connected already, which is all this control plane takes")]
pub struct Full;

impl Default for Planes {
    fn default() -> Planes {
        Planes { inner: Mutex::default(), origin: Instant::now(), places: watch::Sender::default() }
    }
}

impl Planes {
    /// Takes a data plane in. Its questions come through the receiver, which ends when the same node comes
    /// back on another stream.
    pub fn on_hello(&self, node: &str, version: &str) -> Result<(Seat<'_>, mpsc::Receiver<Ask>), Full> {
        let now = self.now();
        let mut inner = self.lock();
        inner.stream_last += 1;
        let stream = StreamId(inner.stream_last);
        match inner.fleet.on_hello(node, version, stream, now) {
            Welcome::New => {}
            Welcome::Full => return Err(Full),
            Welcome::Replaces(earlier) => {
                tracing::warn!(node, "a data plane of this name is back before its earlier stream ended");
                inner.links.remove(&earlier);
            }
        }
        let (link, asks) = mpsc::channel(QUESTIONS_MAX);
        inner.links.insert(stream, link);
        Ok((Seat { planes: self, node: node.to_owned(), stream }, asks))
    }

    /// All of them by name, with the time now.
    pub fn all(&self) -> (Vec<(String, Plane)>, Moment) {
        let planes =
            self.lock().fleet.planes().map(|(node, plane)| (node.to_owned(), plane.clone())).collect();
        (planes, self.now())
    }

    /// The link of a node (empty: of any, rather one that serves `newest`), with the node's name.
    pub fn link(&self, node: &str, newest: Held) -> Option<(String, mpsc::Sender<Ask>)> {
        let inner = self.lock();
        let found = if node.is_empty() {
            let connected = inner.fleet.planes().filter(|(_, plane)| plane.stream.is_some());
            connected.max_by_key(|(_, plane)| plane.held == Some(newest))
        } else {
            inner.fleet.planes().find(|(name, _)| *name == node)
        };
        let (name, plane) = found?;
        Some((name.to_owned(), inner.links.get(&plane.stream?)?.clone()))
    }

    /// Places where adapters stand, and how many found no room.
    pub fn registered(&self) -> (usize, u64) {
        let (inner, now) = (self.lock(), self.now());
        (inner.registry.count(now), inner.registry.dropped())
    }

    /// Changes with every list of places.
    pub fn places(&self) -> watch::Receiver<u64> {
        self.places.subscribe()
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves maps that are whole: every change is one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// What the data plane said of itself.
    pub fn on_state(&self, held: Option<Held>, rejects: &[Reject]) {
        self.planes.lock().fleet.on_state(&self.node, self.stream, held, rejects);
    }

    /// Adapters said to it that they stand there. An earlier stream of the same node has no say any more.
    pub fn on_places(&self, list: Places) -> Result<(), Unfit> {
        let mut inner = self.planes.lock();
        if inner.links.contains_key(&self.stream) {
            inner.registry.on_list(&self.node, list, self.planes.now())?;
            self.planes.places.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Where adapters stand, as the other data planes said.
    pub fn others(&self) -> Places {
        let (inner, begun) = (self.planes.lock(), Moment(0));
        inner.registry.others(&self.node, begun, self.planes.now())
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let now = self.planes.now();
        let mut inner = self.planes.lock();
        inner.links.remove(&self.stream);
        inner.fleet.on_gone(&self.node, self.stream, now);
    }
}
