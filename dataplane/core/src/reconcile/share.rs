//! A part of a whole in whole numbers, so that two of them compare the same whatever order they were added
//! up in.

use proto_core::units::Permille;

/// `part` of `whole`; of nothing it is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    pub part: u64,
    pub whole: u64,
}

impl Share {
    /// For people and JSON.
    pub fn as_f64(self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.part as f64 / self.whole as f64 }
    }

    /// In thousandths, and nothing of nothing is enough for 0 only.
    pub fn is_at_least(self, least: Permille) -> bool {
        let least = u128::from(least.0);
        match self.whole {
            0 => least == 0,
            whole => u128::from(self.part) * 1000 >= least * u128::from(whole),
        }
    }

    /// More than `by` below `other`.
    pub fn is_below(self, other: Share, by: Permille) -> bool {
        let (own, others) = (u128::from(self.whole.max(1)), u128::from(other.whole.max(1)));
        let raised = u128::from(self.part) * 1000 + u128::from(by.0) * own;
        raised * others < u128::from(other.part) * 1000 * own
    }

    /// In 2^20ths, rounded down: sums of these do not depend on their order.
    pub(super) fn fixed(self) -> u64 {
        (u128::from(self.part) * FIXED_ONE / u128::from(self.whole.max(1))) as u64
    }
}

impl PartialEq for Share {
    /// 1 of 2 is 2 of 4.
    fn eq(&self, other: &Share) -> bool {
        let cross = |one: &Share, two: &Share| u128::from(one.part) * u128::from(two.whole.max(1));
        cross(self, other) == cross(other, self)
    }
}

impl Eq for Share {}

/// Finer than any two shares of sixteen lanes can differ, and of two texts that anybody would tell apart.
pub(super) const FIXED_ONE: u128 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(part: u64, whole: u64) -> Share {
        Share { part, whole }
    }

    #[test]
    fn three_of_five_is_six_tenths_and_not_a_hair_more() {
        assert!(share(3, 5).is_at_least(Permille(600)));
        assert!(!share(3, 5).is_at_least(Permille(601)));
        assert_eq!(share(3, 5), share(6, 10));
        assert_ne!(share(3, 5), share(2, 3));
    }

    #[test]
    fn nothing_of_nothing_is_enough_for_nothing() {
        assert!(share(0, 0).is_at_least(Permille(0)));
        assert!(!share(0, 0).is_at_least(Permille(1)));
        assert_eq!(share(0, 0).as_f64(), 0.0);
    }

    #[test]
    fn a_fall_by_exactly_the_step_is_not_below_it() {
        assert!(!share(15, 20).is_below(share(16, 20), Permille(50)));
        assert!(share(14, 20).is_below(share(16, 20), Permille(50)));
        assert!(share(1, 2).is_below(share(2, 3), Permille(50)));
    }
}
