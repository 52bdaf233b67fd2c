//! Where adapters that register themselves stand: what a data plane tells of those that said so to it, and
//! what it is told of those that said so to others. Lists travel whole, each with what is left of its leases,
//! so that nobody's clock is compared with anybody's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{NODE_BYTES_MAX, wire};
use crate::model::URL_BYTES_MAX;
use crate::units::Moment;

/// One of them, by the clock of who holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub adapter: String,
    pub endpoint: String,
    /// The end of its lease.
    pub until: Moment,
}

/// A list that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("a list of {0} places is longer than {1}")]
    TooMany(usize, usize),
    #[error(
        "a place names its Adapter with 1 to {NODE_BYTES_MAX} and its endpoint with 1 to {URL_BYTES_MAX} \
         visible ASCII characters"
    )]
    Names,
    #[error("a lease of {0} ms is longer than a day")]
    Lease(u32),
}

/// A list that arrived at `now`; at most `most` of them.
pub fn read(list: wire::Places, now: Moment, most: usize) -> Result<Vec<Place>, Unfit> {
    check(&list, most)?;
    let place = |place: wire::Place| {
        let until = now + Duration::from_millis(place.left_ms.into());
        Place { adapter: place.adapter, endpoint: place.endpoint, until }
    };
    Ok(list.places.into_iter().map(place).collect())
}

/// What is left of them at `now`.
pub fn write<'p>(places: impl Iterator<Item = &'p Place>, now: Moment, is_whole: bool) -> wire::Places {
    let lasting = places.filter(|place| place.until > now);
    let place = |place: &Place| {
        let left = place.until.since(now).as_millis().min(LEFT_MS_MAX.into());
        let left_ms = u32::try_from(left).unwrap_or(LEFT_MS_MAX);
        wire::Place { adapter: place.adapter.clone(), endpoint: place.endpoint.clone(), left_ms }
    };
    wire::Places { places: lasting.map(place).collect(), is_whole }
}

/// Whether a list is within its bounds.
pub fn check(list: &wire::Places, most: usize) -> Result<(), Unfit> {
    if list.places.len() > most {
        return Err(Unfit::TooMany(list.places.len(), most));
    }
    for place in &list.places {
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_named = |text: &str, most| (1..=most).contains(&text.len()) && is_visible(text);
        if !is_named(&place.adapter, NODE_BYTES_MAX) || !is_named(&place.endpoint, URL_BYTES_MAX) {
            return Err(Unfit::Names);
        }
        if place.left_ms > LEFT_MS_MAX {
            return Err(Unfit::Lease(place.left_ms));
        }
    }
    Ok(())
}

/// What was told of a data plane's own, and whether it is time to tell again: when one came, went or got
/// less, and else when half of what was told of a lease is over and there is more of it. So a list goes out
/// twice in a lease, however often adapters renew it.
#[derive(Debug, Default)]
pub struct Telling {
    /// `None`: nothing was, on this connection.
    told: Option<Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    place: Place,
    /// From here on more is told.
    half: Moment,
}

impl Telling {
    /// `standing`: all there are now. Past [`PLACES_MAX`] the last by their names are not told.
    pub fn due(&mut self, now: Moment, mut standing: Vec<Place>) -> Option<wire::Places> {
        standing.sort_unstable();
        standing.truncate(PLACES_MAX);
        let is_known = self.told.as_ref().is_some_and(|told| {
            told.len() == standing.len()
                && told.iter().zip(&standing).all(|(told, place)| told.covers(place, now))
        });
        if is_known {
            return None;
        }
        let list = write(standing.iter(), now, true);
        let told = |place: Place| Told { half: now + place.until.since(now) / 2, place };
        self.told = Some(standing.into_iter().map(told).collect());
        Some(list)
    }
}

impl Told {
    fn covers(&self, place: &Place, now: Moment) -> bool {
        let is_same = self.place.adapter == place.adapter && self.place.endpoint == place.endpoint;
        is_same && place.until >= self.place.until && (place.until == self.place.until || now < self.half)
    }
}

/// What a data plane was told of others. It outlives the connection: a lease holds while the control plane is
/// away.
#[derive(Debug, Default)]
pub struct Elsewhere {
    until: BTreeMap<(String, String), Moment>,
}

impl Elsewhere {
    pub fn on_list(&mut self, list: wire::Places, now: Moment) -> Result<(), Unfit> {
        let is_whole = list.is_whole;
        let places = read(list, now, REGISTERED_MAX)?;
        self.until.retain(|_, until| *until > now);
        // What a list says is newer than what is kept for want of a whole one.
        if is_whole || self.until.len() + places.len() > 2 * REGISTERED_MAX {
            self.until.clear();
        }
        let place = |place: Place| ((place.adapter, place.endpoint), place.until);
        self.until.extend(places.into_iter().map(place));
        Ok(())
    }

    /// Up to when this place stands, as far as others said.
    pub fn until(&self, adapter: &str, endpoint: &str) -> Option<Moment> {
        if self.until.is_empty() {
            return None;
        }
        self.until.get(&(adapter.to_owned(), endpoint.to_owned())).copied()
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

/// Places that one data plane tells: four Adapters with all the endpoints one may have. The longest list fits
/// into a message of a data plane.
pub const PLACES_MAX: usize = 256;

/// Places of all data planes together. A change is told to each of them as a whole list of this length.
pub const REGISTERED_MAX: usize = 1024;

/// A lease is at most a day.
const LEFT_MS_MAX: u32 = 86_400_000;
