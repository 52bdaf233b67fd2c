//! Where adapters that register themselves stand, as every data plane said: each is told what the others
//! said. A data plane that is gone for a while keeps what it said until the leases end, since the adapters
//! may well be there.

use std::collections::BTreeMap;
use std::time::Duration;

use proto_core::sync::places::{PLACES_MAX, Place, REGISTERED_MAX, Unfit, read, write};
use proto_core::units::Moment;
use proto_core::wire::atp::control::v1::Places;

/// By data plane.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Vec<Place>>,
    dropped: u64,
}

impl Registry {
    /// A data plane says all of its places. What finds no room among those of the others is not kept.
    pub fn on_list(&mut self, node: &str, list: Places, now: Moment) -> Result<(), Unfit> {
        let mut places = read(list, now, PLACES_MAX)?;
        self.nodes.remove(node);
        self.nodes.retain(|_, places| {
            places.retain(|place| place.until > now);
            !places.is_empty()
        });
        let room = REGISTERED_MAX.saturating_sub(self.nodes.values().map(Vec::len).sum());
        self.dropped += u64::try_from(places.len().saturating_sub(room)).unwrap_or(u64::MAX);
        places.truncate(room);
        if !places.is_empty() {
            self.nodes.insert(node.to_owned(), places);
        }
        Ok(())
    }

    /// What this data plane is told: the places of all others. `begun`: since when this control plane runs.
    pub fn others(&self, node: &str, begun: Moment, now: Moment) -> Places {
        let mut places: BTreeMap<(&str, &str), &Place> = BTreeMap::new();
        for place in self.nodes.iter().filter(|(other, _)| *other != node).flat_map(|(_, places)| places) {
            let known = places.entry((&place.adapter, &place.endpoint)).or_insert(place);
            if place.until > known.until {
                *known = place;
            }
        }
        write(places.into_values(), now, now.since(begun) >= SETTLES_AFTER)
    }

    /// Places that stand now, each counted as often as a data plane said it.
    pub fn count(&self, now: Moment) -> usize {
        self.nodes.values().flatten().filter(|place| place.until > now).count()
    }

    /// For want of room, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// From the start on, until a list is whole: data planes come back within 5 s, and say their places at once.
pub const SETTLES_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proto_core::wire::atp::control::v1 as wire;

    const BEGUN: Moment = Moment(0);

    fn at(ms: u64) -> Moment {
        BEGUN + Duration::from_millis(ms)
    }

    fn list(names: &[(&str, u32)]) -> Places {
        let place = |&(name, left_ms): &(&str, u32)| wire::Place {
            adapter: name.into(),
            endpoint: format!("http://{name}/v1"),
            left_ms,
        };
        Places { places: names.iter().map(place).collect(), is_whole: true }
    }

    fn told(registry: &Registry, node: &str, now: Moment) -> Vec<(String, u32)> {
        let list = registry.others(node, BEGUN, now);
        list.places.into_iter().map(|place| (place.adapter, place.left_ms)).collect()
    }

    fn of(names: &[(&str, u32)]) -> Vec<(String, u32)> {
        names.iter().map(|&(name, left_ms)| (name.to_owned(), left_ms)).collect()
    }

    #[test]
    fn each_data_plane_is_told_what_the_others_said_and_of_two_words_the_later() {
        let mut registry = Registry::default();
        registry.on_list("east", list(&[("a", 5000), ("b", 5000)]), at(0)).unwrap();
        registry.on_list("west", list(&[("b", 5000)]), at(1000)).unwrap();
        assert_eq!(told(&registry, "east", at(1000)), of(&[("b", 5000)]));
        assert_eq!(told(&registry, "west", at(1000)), of(&[("a", 4000), ("b", 4000)]));
        assert_eq!(told(&registry, "north", at(1000)), of(&[("a", 4000), ("b", 5000)]));
        assert_eq!((registry.count(at(1000)), registry.count(at(5500)), registry.count(at(6000))), (3, 1, 0));
    }

    #[test]
    fn a_newer_list_takes_the_place_of_the_one_before() {
        let mut registry = Registry::default();
        registry.on_list("east", list(&[("a", 5000), ("b", 5000)]), at(0)).unwrap();
        registry.on_list("east", list(&[("b", 5000)]), at(0)).unwrap();
        assert_eq!(told(&registry, "west", at(0)), of(&[("b", 5000)]));
        registry.on_list("east", list(&[]), at(0)).unwrap();
        assert_eq!(told(&registry, "west", at(0)), of(&[]));
    }

    #[test]
    fn a_lease_that_ended_is_told_to_nobody_and_takes_no_room() {
        let mut registry = Registry::default();
        registry.on_list("east", list(&[("a", 1000)]), at(0)).unwrap();
        assert_eq!(told(&registry, "west", at(1000)), of(&[]));
        registry.on_list("west", list(&[]), at(1000)).unwrap();
        assert!(registry.nodes.is_empty());
    }

    #[test]
    fn as_many_places_as_there_may_be_are_kept_and_one_more_is_dropped_and_counted() {
        let mut registry = Registry::default();
        let names: Vec<String> = (0..PLACES_MAX).map(|n| format!("a-{n}")).collect();
        let full: Vec<(&str, u32)> = names.iter().map(|name| (&**name, 5000)).collect();
        for node in 0..REGISTERED_MAX / PLACES_MAX {
            registry.on_list(&format!("edge-{node}"), list(&full), at(0)).unwrap();
        }
        assert_eq!((registry.count(at(0)), registry.dropped()), (REGISTERED_MAX, 0));
        registry.on_list("one-more", list(&[("z", 5000)]), at(0)).unwrap();
        assert_eq!((registry.count(at(0)), registry.dropped()), (REGISTERED_MAX, 1));
        registry.on_list("edge-0", list(&full[1..]), at(0)).unwrap();
        registry.on_list("one-more", list(&[("z", 5000)]), at(0)).unwrap();
        assert_eq!((registry.count(at(0)), registry.dropped()), (REGISTERED_MAX, 1));
    }

    #[test]
    fn shortly_after_the_start_no_list_is_whole() {
        let registry = Registry::default();
        let begun = at(100);
        assert!(!registry.others("east", begun, begun + (SETTLES_AFTER - Duration::from_nanos(1))).is_whole);
        assert!(registry.others("east", begun, begun + SETTLES_AFTER).is_whole);
    }
}
