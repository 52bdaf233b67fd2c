//! What a provider says it will take, hard until it said it would change. A later word replaces an earlier
//! one of the same axis; the strictest that is still valid wins between a pause and what remains.

use std::time::Duration;

use proto_core::units::Moment;

use super::Limits;

/// From [`super::headers`], or from an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// `None`: says nothing of requests.
    pub requests: Option<u32>,
    /// `None`: says nothing of tokens.
    pub tokens: Option<u64>,
    /// Taken as at most `CEILING_MAX` from now.
    pub until: Moment,
}

/// The words still valid, one for each axis, as (value, end).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ceilings {
    requests: Option<(u32, Moment)>,
    /// Nothing at all until then: a pause outlasts what a late answer says remains.
    paused: Option<Moment>,
    tokens: Option<(u64, Moment)>,
}

impl Ceilings {
    pub fn on_ceiling(&mut self, ceiling: Ceiling, now: Moment) {
        let until = ceiling.until.min(now + CEILING_MAX);
        match ceiling.requests {
            Some(0) => self.paused = self.paused.max(Some(until)),
            Some(requests) => self.requests = Some((requests, until)),
            None => {}
        }
        if let Some(tokens) = ceiling.tokens {
            self.tokens = Some((tokens, until));
        }
    }

    pub fn apply(&self, limits: Limits, now: Moment) -> Limits {
        let requests = self.requests.filter(|(_, until)| now < *until).map_or(u32::MAX, |(most, _)| most);
        let tokens = self.tokens.filter(|(_, until)| now < *until).map_or(u64::MAX, |(most, _)| most);
        let is_paused = self.paused.is_some_and(|until| now < until);
        Limits {
            requests: if is_paused { 0 } else { limits.requests.min(requests) },
            tokens: limits.tokens.min(tokens),
        }
    }

    /// When [`Ceilings::apply`] changes by itself.
    pub fn changes_at(&self, now: Moment) -> Option<Moment> {
        let ends = [self.requests.map(|(_, end)| end), self.tokens.map(|(_, end)| end), self.paused];
        ends.into_iter().flatten().filter(|end| *end > now).min()
    }
}

/// A provider that says an hour is asked again after this: its clock or ours may be wrong, and one request
/// that is refused costs little (the bound linkerd puts on Retry-After).
pub(super) const CEILING_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Limits = Limits { requests: 100, tokens: u64::MAX };

    fn after(seconds: u64) -> Moment {
        Moment(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn a_ceiling_holds_until_its_end_and_not_a_moment_longer() {
        let mut ceilings = Ceilings::default();
        ceilings.on_ceiling(Ceiling { requests: Some(7), tokens: Some(900), until: after(10) }, after(0));
        let held = ceilings.apply(FREE, Moment(after(10).0 - 1));
        assert_eq!(held, Limits { requests: 7, tokens: 900 });
        assert_eq!(ceilings.changes_at(after(0)), Some(after(10)));
        assert_eq!(ceilings.apply(FREE, after(10)), FREE);
        assert_eq!(ceilings.changes_at(after(10)), None);
    }

    #[test]
    fn a_pause_outlasts_an_answer_that_says_something_remains() {
        let mut ceilings = Ceilings::default();
        ceilings.on_ceiling(Ceiling { requests: Some(0), tokens: None, until: after(10) }, after(0));
        ceilings.on_ceiling(Ceiling { requests: Some(5), tokens: None, until: after(60) }, after(1));
        assert_eq!(ceilings.apply(FREE, after(9)).requests, 0);
        assert_eq!(ceilings.apply(FREE, after(10)).requests, 5);
    }

    #[test]
    fn a_ceiling_of_an_hour_ends_after_five_minutes() {
        let mut ceilings = Ceilings::default();
        ceilings.on_ceiling(Ceiling { requests: Some(0), tokens: None, until: after(3600) }, after(0));
        assert_eq!(ceilings.apply(FREE, after(299)).requests, 0);
        assert_eq!(ceilings.apply(FREE, after(300)), FREE);
    }
}
