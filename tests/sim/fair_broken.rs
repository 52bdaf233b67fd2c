//! Lines that order who waits in ways that are not fair, each in one respect. What the bars of fairness find
//! is measured by them.

use std::cmp::Reverse;
use std::collections::VecDeque;

use dataplane_core::limit::Axis;
use proto_core::units::Moment;

use super::fair_line::{Party, TARIFF};
use super::world::{Line, Request, Room};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The least served goes first, and whoever was away comes back with all it did not use.
    NoLift,
    /// The least served goes first, and answers are charged when they are whole: never, if the caller hangs
    /// up.
    ChargesWholeAnswers,
    /// The least served goes first, and only prompts are charged.
    ChargesPrompts,
    /// The better band goes first, always.
    Strict,
}

/// One queue for each tenant, and a number by which they are compared.
pub struct Unfair {
    broken: Broken,
    parties: Vec<Party>,
    waiting: Vec<VecDeque<Request>>,
    /// Tenths served, by tenant.
    counters: Vec<u64>,
}

impl Unfair {
    pub fn new(parties: &[Party], broken: Broken) -> Unfair {
        let tenants = parties.iter().map(|party| party.tenant + 1).max().unwrap_or(0);
        let waiting = vec![VecDeque::new(); tenants];
        Unfair { broken, parties: parties.to_vec(), waiting, counters: vec![0; tenants] }
    }

    fn next(&self) -> Option<usize> {
        let waiting = (0..self.waiting.len()).filter(|tenant| !self.waiting[*tenant].is_empty());
        waiting.min_by_key(|tenant| {
            let band = self.parties[self.waiting[*tenant][0].source].band;
            let band = (self.broken == Broken::Strict).then_some(band);
            (Reverse(band), self.counters[*tenant])
        })
    }

    fn charge(&mut self, request: &Request, output: u64) {
        let tenant = self.parties[request.source].tenant;
        self.counters[tenant] += TARIFF.charge(request.prompt_tokens, 0, output).0;
    }
}

impl Line for Unfair {
    fn push(&mut self, _now: Moment, request: Request) {
        self.waiting[self.parties[request.source].tenant].push_back(request);
    }

    fn pop(&mut self, _now: Moment, room: Room) -> Option<Result<Request, Axis>> {
        let tenant = self.next()?;
        if let Some(axis) = room.bound(self.waiting[tenant][0].tokens()) {
            return Some(Err(axis));
        }
        let request = self.waiting[tenant].pop_front()?;
        match self.broken {
            Broken::ChargesWholeAnswers => {}
            Broken::ChargesPrompts => self.charge(&request, 0),
            Broken::NoLift | Broken::Strict => self.charge(&request, request.output_tokens),
        }
        Some(Ok(request))
    }

    fn on_end(&mut self, _now: Moment, request: &Request, is_answered: bool) {
        let is_whole = is_answered && !self.parties[request.source].hangs_up;
        if self.broken == Broken::ChargesWholeAnswers && is_whole {
            self.charge(request, request.output_tokens);
        }
    }

    fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}
