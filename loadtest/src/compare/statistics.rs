//! From a handful of rounds to one number and how far to trust it.
//!
//! What it is for: medians with a 95 % interval by the percentile bootstrap (Efron, Tibshirani, "An
//! Introduction to the Bootstrap", chapter 13), which assumes no shape of the noise. Pure and seeded: the
//! same rounds give the same interval.

use serde::Serialize;

use crate::seeded::Seeded;

/// A median and the interval that covers it with 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// `None` for no values.
    pub(crate) fn of(values: &[f64], seed: u64) -> Option<Estimate> {
        let median = median_of(values)?;
        let mut seeded = Seeded::new(seed);
        let mut resampled = Vec::with_capacity(RESAMPLES);
        let mut drawn = vec![0.0; values.len()];
        for _ in 0..RESAMPLES {
            drawn.iter_mut().for_each(|value| *value = values[seeded.below(values.len())]);
            resampled.push(median_of(&drawn)?);
        }
        resampled.sort_by(f64::total_cmp);
        let at = |quantile: f64| resampled[(quantile * (RESAMPLES - 1) as f64).round() as usize];
        Some(Estimate { median, low: at(0.025), high: at(0.975) })
    }
}

fn median_of(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

/// Enough for the 2.5th percentile to stand on 250 samples.
const RESAMPLES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(median_of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(Estimate::of(&[], 1), None);
    }

    #[test]
    fn rounds_that_agree_leave_no_interval_and_one_outlier_does_not_move_it() {
        assert_eq!(Estimate::of(&[2.0; 10], 1), Some(Estimate { median: 2.0, low: 2.0, high: 2.0 }));
        let mut rounds = [1.0; 10];
        rounds[3] = 50.0;
        assert_eq!(Estimate::of(&rounds, 1).unwrap(), Estimate { median: 1.0, low: 1.0, high: 1.0 });
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut seeded = Seeded::new(3);
        let covered = (0..200).filter(|&seed| {
            // Ten values around 1, uniform within 0.9..1.1.
            let rounds: Vec<f64> = (0..10).map(|_| 0.9 + 0.2 * seeded.unit()).collect();
            let estimate = Estimate::of(&rounds, seed).unwrap();
            (estimate.low..=estimate.high).contains(&1.0)
        });
        assert!(covered.count() >= 175, "95 % of 200 is 190");
    }

    #[test]
    fn the_same_rounds_and_seed_give_the_same_interval() {
        let rounds = [1.0, 1.1, 0.9, 1.05, 0.97];
        assert_eq!(Estimate::of(&rounds, 9), Estimate::of(&rounds, 9));
    }
}
