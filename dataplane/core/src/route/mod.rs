//! Whom to ask, and in which order: a route and a request become a plan. Randomness is an argument, so a plan
//! can be replayed and explained.

use arrayvec::ArrayVec;
use proto_core::model::{CANDIDATES_MAX, Grade, ModelStatus, Strategy};
use proto_core::units::{Permille, Picodollars};

use crate::bill::Usage;
use crate::fault::{Fault, Kind};
use crate::table::{CandidateRow, OfferId, OfferRow, RouteId, Table};

/// What a request asks of routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The least quality that is acceptable (`cheapest_acceptable` only).
    pub quality: Permille,
    /// First token wanted within; `None`: whenever.
    pub latency_slo_ms: Option<u32>,
    /// The most it may cost; `None`: not enforced.
    pub cost_max: Option<Picodollars>,
    /// Expected prompt tokens.
    pub input: u64,
    /// Expected answer tokens.
    pub output: u64,
    /// How often another candidate is put second, to learn about it (`cheapest_acceptable` only).
    pub explore: Permille,
}

/// Offers in the order they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub route: RouteId,
    pub offers: ArrayVec<OfferId, CANDIDATES_MAX>,
    /// The second offer is there to be learned about.
    pub explores: bool,
}

impl Wish {
    /// Acceptable quality by the words of `/v1/ask`.
    pub const FAST: Permille = Permille(600);
    pub const BALANCED: Permille = Permille(750);
    pub const HIGH: Permille = Permille(850);

    /// What an answer of the expected size would cost here.
    pub fn expected_cost(&self, offer: &OfferRow) -> Picodollars {
        Usage { input: self.input, output: self.output, ..Usage::default() }.cost(&offer.price)
    }
}

/// The plan of `route` for `wish`. `random` is 64 uniform bits.
pub fn plan(table: &Table, route: RouteId, wish: &Wish, random: u64) -> Result<Plan, Fault> {
    plan_among(table, route, wish, random, |_| true)
}

/// The same, of those offers only that `may` be asked.
pub fn plan_among(
    table: &Table,
    route: RouteId,
    wish: &Wish,
    random: u64,
    may: impl Fn(&OfferRow) -> bool,
) -> Result<Plan, Fault> {
    let row = table.route(route);
    let direct = row.candidates.len() == 1 && !row.declared;
    let mut usable: ArrayVec<CandidateRow, CANDIDATES_MAX> = ArrayVec::new();
    let mut too_dear = false;
    for candidate in &row.candidates {
        let offer = table.offer(candidate.offer);
        // A shadow is never chosen for an answer, unless the caller names it and nothing else.
        if (offer.status == ModelStatus::Shadow && !direct) || !may(offer) {
            continue;
        }
        if wish.cost_max.is_some_and(|most| wish.expected_cost(offer) > most) {
            too_dear = true;
            continue;
        }
        usable.push(*candidate);
    }
    if usable.is_empty() {
        return Err(if too_dear {
            Fault::proxy(Kind::BudgetExceeded)
        } else {
            Fault::client(Kind::ModelUnknown)
        });
    }
    drop_too_short(table, &mut usable, wish);
    Ok(match row.strategy {
        Strategy::CheapestAcceptable => cheapest_acceptable(table, route, &usable, wish, random),
        // A learner's weights, once they arrive, take the place of the declared ones.
        Strategy::Weighted | Strategy::Ucb | Strategy::Thompson => weighted(table, route, &usable, random),
    })
}

/// Leaves out models whose context is known to be too short, unless that leaves none: then the upstream,
/// which counts exactly, may say so.
fn drop_too_short(table: &Table, usable: &mut ArrayVec<CandidateRow, CANDIDATES_MAX>, wish: &Wish) {
    let fits = |candidate: &CandidateRow| {
        let context = table.offer(candidate.offer).context_tokens;
        context.is_none_or(|context| wish.input <= context.0)
    };
    if usable.iter().any(fits) {
        usable.retain(|candidate| fits(candidate));
    }
}

/// The first by lot, in proportion to its weight; the others follow by weight. Models kept as a fallback come
/// after every active one.
fn weighted(table: &Table, route: RouteId, usable: &[CandidateRow], random: u64) -> Plan {
    let rank = |candidate: &CandidateRow| table.offer(candidate.offer).status != ModelStatus::Active;
    let first_rank = usable.iter().map(rank).min().unwrap_or(false);
    let in_lot = |candidate: &&CandidateRow| rank(candidate) == first_rank;
    let total: u64 = usable.iter().filter(in_lot).map(|candidate| u64::from(candidate.weight)).sum();
    let mut drawn = 0;
    if total > 0 {
        // Multiply-shift maps 64 random bits on 0..total with a bias below total / 2⁶⁴ (Lemire 2019).
        let mut ticket = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        for (at, candidate) in usable.iter().enumerate().filter(|(_, candidate)| in_lot(candidate)) {
            if ticket < u64::from(candidate.weight) {
                drawn = at;
                break;
            }
            ticket -= u64::from(candidate.weight);
        }
    } else {
        drawn = usable.iter().position(|candidate| in_lot(&candidate)).unwrap_or(0);
    }
    let mut rest: ArrayVec<(usize, CandidateRow), CANDIDATES_MAX> =
        usable.iter().copied().enumerate().filter(|(at, _)| *at != drawn).collect();
    rest.sort_unstable_by_key(|(at, candidate)| (rank(candidate), std::cmp::Reverse(candidate.weight), *at));
    let mut offers = ArrayVec::new();
    offers.push(usable[drawn].offer);
    offers.extend(rest.iter().map(|(_, candidate)| candidate.offer));
    Plan { route, offers, explores: false }
}

/// The cheapest that is good enough, safe enough and fast enough; where there is none, the best within the
/// time, else the best of all. Then perhaps one to learn about, then the others from cheap to dear: the
/// dearest is the last resort.
fn cheapest_acceptable(
    table: &Table,
    route: RouteId,
    usable: &[CandidateRow],
    wish: &Wish,
    random: u64,
) -> Plan {
    let mut by_cost: ArrayVec<(OfferId, Picodollars), CANDIDATES_MAX> = usable
        .iter()
        .map(|candidate| (candidate.offer, wish.expected_cost(table.offer(candidate.offer))))
        .collect();
    by_cost.sort_by_key(|(offer, cost)| (*cost, offer.0));
    let in_time = |offer: &OfferRow| match (offer.latency_p95_ms, wish.latency_slo_ms) {
        (Some(p95), Some(slo)) => p95 <= slo,
        _ => true,
    };
    let acceptable = |offer: &OfferRow, status: ModelStatus| {
        offer.status == status
            && offer.quality >= wish.quality
            && offer.grade >= REQUIRED_GRADE
            && in_time(offer)
    };
    let first = |status| by_cost.iter().position(|(id, _)| acceptable(table.offer(*id), status));
    let best = |among: &dyn Fn(&OfferRow) -> bool| {
        let ids = by_cost.iter().enumerate().filter(|(_, (id, _))| among(table.offer(*id)));
        // Of equals the cheaper: `max_by_key` keeps the last, so walk from dear to cheap.
        ids.rev().max_by_key(|(_, (id, _))| table.offer(*id).quality).map(|(at, _)| at)
    };
    let primary = first(ModelStatus::Active)
        .or_else(|| first(ModelStatus::Fallback))
        .or_else(|| best(&in_time))
        .or_else(|| best(&|_| true))
        .expect("at least one candidate is usable");
    let mut offers = ArrayVec::new();
    offers.push(by_cost.remove(primary).0);
    let explores = (random >> 32) % 1000 < u64::from(wish.explore.0);
    let explored = explores.then(|| explore(table, &by_cost, &in_time, random)).flatten();
    if let Some(at) = explored {
        offers.push(by_cost.remove(at).0);
    }
    offers.extend(by_cost.iter().map(|(offer, _)| *offer));
    Plan { route, offers, explores: explored.is_some() }
}

fn explore(
    table: &Table,
    others: &[(OfferId, Picodollars)],
    in_time: &dyn Fn(&OfferRow) -> bool,
    random: u64,
) -> Option<usize> {
    let may = |(_, (id, _)): &(usize, &(OfferId, Picodollars))| in_time(table.offer(*id));
    let count = others.iter().enumerate().filter(may).count() as u64;
    let pick = (random & u64::from(u32::MAX)).checked_rem(count)?;
    others.iter().enumerate().filter(may).nth(usize::try_from(pick).ok()?).map(|(at, _)| at)
}

/// What `cheapest_acceptable` asks for; anything below is chosen only where nothing acceptable is left.
const REQUIRED_GRADE: Grade = Grade::A;

#[cfg(test)]
mod tests;
