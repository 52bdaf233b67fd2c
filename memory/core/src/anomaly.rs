//! Who looks around too much: many accesses within a minute that touch many namespaces. It only says so; what
//! comes of it is somebody else's decision.

use std::time::Duration;

use proto_core::units::Moment;

/// One tenant's last minute. A minute begins with the first access after the one before it ended, so that a
/// burst across its edge may go unnoticed and memory stays a few names.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    began: Option<Moment>,
    accesses: u64,
    /// Different ones; none is taken in past [`NAMESPACES_MAX`] + 1.
    namespaces: Vec<String>,
}

impl Watch {
    /// Counts an access; whether it is the one that makes this minute an anomaly. Tells at most
    /// once a minute.
    pub fn on_access(&mut self, now: Moment, namespace: &str, accesses_max: u64) -> bool {
        if self.began.is_none_or(|began| now.since(began) >= MINUTE) {
            *self = Watch { began: Some(now), ..Watch::default() };
        }
        let was_one = self.is_anomaly(accesses_max);
        self.accesses = self.accesses.saturating_add(1);
        if self.namespaces.len() <= NAMESPACES_MAX && !self.namespaces.iter().any(|known| known == namespace)
        {
            self.namespaces.push(namespace.to_owned());
        }
        !was_one && self.is_anomaly(accesses_max)
    }

    fn is_anomaly(&self, accesses_max: u64) -> bool {
        self.accesses > accesses_max && self.namespaces.len() > NAMESPACES_MAX
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Programs that know what they want read from a few places.
const NAMESPACES_MAX: usize = 5;
/// Accesses within a minute that are nobody's concern, unless set otherwise.
pub const ACCESSES_MAX: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn told(watch: &mut Watch, now: Moment, accesses: usize, namespaces: usize) -> usize {
        let access = |one: usize| format!("n{}", one % namespaces);
        (0..accesses).filter(|one| watch.on_access(now, &access(*one), ACCESSES_MAX)).count()
    }

    #[test]
    fn many_accesses_to_many_namespaces_are_told_once_and_either_alone_is_not() {
        let table = [(11, 6, 1), (10, 6, 0), (11, 5, 0), (1000, 5, 0), (1000, 100, 1)];
        for (accesses, namespaces, expected) in table {
            let found = told(&mut Watch::default(), at(0), accesses, namespaces);
            assert_eq!(found, expected, "{accesses} accesses to {namespaces} namespaces");
        }
    }

    #[test]
    fn the_next_minute_counts_anew() {
        let mut watch = Watch::default();
        assert_eq!(told(&mut watch, at(0), 10, 6), 0);
        assert_eq!(told(&mut watch, at(60), 10, 6), 0);
        assert_eq!(told(&mut watch, at(119), 1, 6), 1);
        assert_eq!(told(&mut watch, at(120), 11, 6), 1);
    }
}
