//! Who is connected, what each data plane serves, and why one does not serve what it should. Data planes that
//! went away are remembered, so that an operator sees one that is missing; never more than [`AWAY_MAX`] of
//! them.

use std::collections::BTreeMap;

use proto_core::sync::Held;
use proto_core::units::Moment;
use proto_core::wire::atp::control::v1::Reject;

/// Data planes by name.
#[derive(Debug, Default)]
pub struct Fleet {
    planes: BTreeMap<String, Plane>,
}

/// One data plane as last heard of.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub version: String,
    /// The stream it speaks on; `None`: it is away.
    pub stream: Option<StreamId>,
    /// When its present stream said hello, or when its last one ended.
    pub since: Moment,
    pub held: Option<Held>,
    /// Of its last refusal; empty where it took what it was sent last.
    pub rejects: Vec<Reject>,
}

/// Numbers streams, so that the end of an old one is not taken for the end of the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a hello leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    New,
    /// The data plane is back before its earlier stream was seen to end: that one is to be closed.
    Replaces(StreamId),
    /// There are [`CONNECTED_MAX`] already.
    Full,
}

impl Fleet {
    pub fn on_hello(&mut self, node: &str, version: &str, stream: StreamId, now: Moment) -> Welcome {
        let before = self.planes.get(node).and_then(|plane| plane.stream);
        if before.is_none() && self.connected() >= CONNECTED_MAX {
            return Welcome::Full;
        }
        let (version, stream) = (version.to_owned(), Some(stream));
        let plane = Plane { version, stream, since: now, held: None, rejects: Vec::new() };
        self.planes.insert(node.to_owned(), plane);
        before.map_or(Welcome::New, Welcome::Replaces)
    }

    /// What its stream says of it now. An earlier stream of the same node has no say any more.
    pub fn on_state(&mut self, node: &str, stream: StreamId, held: Option<Held>, rejects: &[Reject]) {
        if let Some(plane) = self.speaking(node, stream) {
            plane.held = held;
            plane.rejects = rejects.to_vec();
        }
    }

    pub fn on_gone(&mut self, node: &str, stream: StreamId, now: Moment) {
        if let Some(plane) = self.speaking(node, stream) {
            plane.stream = None;
            plane.since = now;
        }
        self.forget_past_bound();
    }

    /// By name.
    pub fn planes(&self) -> impl ExactSizeIterator<Item = (&str, &Plane)> {
        self.planes.iter().map(|(node, plane)| (node.as_str(), plane))
    }

    pub fn plane(&self, node: &str) -> Option<&Plane> {
        self.planes.get(node)
    }

    pub fn connected(&self) -> usize {
        self.planes.values().filter(|plane| plane.stream.is_some()).count()
    }

    fn speaking(&mut self, node: &str, stream: StreamId) -> Option<&mut Plane> {
        self.planes.get_mut(node).filter(|plane| plane.stream == Some(stream))
    }

    fn forget_past_bound(&mut self) {
        let away = self.planes.iter().filter(|(_, plane)| plane.stream.is_none());
        if away.clone().count() > AWAY_MAX
            && let Some((node, _)) = away.min_by_key(|(_, plane)| plane.since)
        {
            let node = node.clone();
            self.planes.remove(&node);
        }
    }
}

/// Data planes connected at once. Each holds a stream, a task and up to one set in its send buffer.
pub const CONNECTED_MAX: usize = 1000;

/// Data planes remembered after they went: a fleet's worth of restarts under new names.
pub const AWAY_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(7);

    fn full() -> Fleet {
        let mut fleet = Fleet::default();
        for at in 0..CONNECTED_MAX as u64 {
            assert_eq!(fleet.on_hello(&format!("edge-{at}"), "1", StreamId(at), NOW), Welcome::New);
        }
        fleet
    }

    #[test]
    fn as_many_data_planes_as_allowed_are_welcome_and_one_more_is_not() {
        let mut fleet = full();
        assert_eq!(fleet.on_hello("one-more", "1", StreamId(5000), NOW), Welcome::Full);
        assert!(fleet.plane("one-more").is_none());
        fleet.on_gone("edge-3", StreamId(3), NOW);
        assert_eq!(fleet.on_hello("one-more", "1", StreamId(5000), NOW), Welcome::New);
    }

    #[test]
    fn a_data_plane_that_comes_back_replaces_its_earlier_stream_also_when_full() {
        let mut fleet = full();
        let welcome = fleet.on_hello("edge-3", "2", StreamId(5000), NOW);
        assert_eq!(welcome, Welcome::Replaces(StreamId(3)));
        fleet.on_gone("edge-3", StreamId(3), NOW);
        assert_eq!(fleet.plane("edge-3").unwrap().stream, Some(StreamId(5000)), "the new stream stays");
        let reject = Reject { reason: "of the old stream".into(), ..Reject::default() };
        fleet.on_state("edge-3", StreamId(3), None, &[reject]);
        assert!(fleet.plane("edge-3").unwrap().rejects.is_empty());
    }

    #[test]
    fn those_who_went_are_remembered_up_to_the_bound_the_first_to_go_is_forgotten_first() {
        let mut fleet = Fleet::default();
        for at in 0..=AWAY_MAX as u64 {
            let node = format!("edge-{at}");
            fleet.on_hello(&node, "1", StreamId(at), Moment(at));
            fleet.on_gone(&node, StreamId(at), Moment(at));
        }
        assert_eq!(fleet.planes().len(), AWAY_MAX);
        assert!(fleet.plane("edge-0").is_none() && fleet.plane("edge-1").is_some());
    }
}
