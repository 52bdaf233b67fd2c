//! Champion and challenger: who may challenge, and how the two compare. What it finds is for people and for
//! learning; it never changes an answer.

use proto_core::units::{Permille, Picodollars};

use super::share::Share;

/// A model that could run beside the champion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    pub quality: Permille,
    /// Of the same amount of tokens for all.
    pub cost: Picodollars,
}

/// Which contender challenges: of those at least 0.02 better at 1.5 times the cost or less the cheapest, of
/// equally cheap ones the best, of equals the first.
pub fn challenger(champion: Contender, contenders: &[Contender]) -> Option<usize> {
    let is_eligible = |contender: &Contender| {
        let is_better = contender.quality.0 >= champion.quality.0.saturating_add(GAIN_MIN.0);
        let (cost, limit) = (u128::from(contender.cost.0) * 2, u128::from(champion.cost.0) * 3);
        is_better && cost <= limit
    };
    let eligible = contenders.iter().enumerate().filter(|(_, contender)| is_eligible(contender));
    let by = |(at, own): &(usize, &Contender)| (own.cost, std::cmp::Reverse(own.quality), *at);
    eligible.min_by_key(by).map(|(at, _)| at)
}

/// A challenger beside the champion, both whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    pub challenger: super::LaneId,
    /// They say the same.
    pub is_same: bool,
    /// Words in common.
    pub overlap: Share,
    pub is_cheaper: bool,
    pub is_faster: bool,
}

/// Less than that is within what quality is measured to.
const GAIN_MIN: Permille = Permille(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(quality: u16, cost: u64) -> Contender {
        Contender { quality: Permille(quality), cost: Picodollars(cost) }
    }

    #[test]
    fn two_hundredths_better_at_half_as_much_again_is_just_enough() {
        let champion = contender(800, 100);
        assert_eq!(challenger(champion, &[contender(820, 150)]), Some(0));
        assert_eq!(challenger(champion, &[contender(819, 100), contender(820, 151)]), None);
        assert_eq!(challenger(champion, &[]), None);
    }

    #[test]
    fn the_cheapest_challenges_and_of_equally_cheap_ones_the_best() {
        let champion = contender(800, 100);
        let all = [contender(990, 120), contender(830, 110), contender(850, 110), contender(850, 110)];
        assert_eq!(challenger(champion, &all), Some(2));
    }
}
