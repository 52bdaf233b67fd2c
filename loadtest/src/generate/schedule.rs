//! When requests are due, decided before any is sent.
//!
//! What it is for: open-loop load. A request's moment depends on the rate and the seed, never on how fast
//! earlier answers came; so a slow server meets the same arrivals as a fast one, and its queueing shows
//! (Schroeder, Wierman, Harchol-Balter, "Open versus closed", NSDI 2006). Pure: offsets from the start, no
//! clock.

use std::time::Duration;

use crate::seeded::Seeded;

/// How gaps between arrivals are spread around their mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Exponential gaps, as from many independent users.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// The offsets of all arrivals, ascending, without end.
pub(crate) struct Schedule {
    rate: f64,
    arrivals: Arrivals,
    seeded: Seeded,
    due_s: f64,
    number: u64,
}

impl Schedule {
    /// `rate` is arrivals per second and above 0.
    pub(crate) fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        Schedule { rate, arrivals, seeded: Seeded::new(seed), due_s: 0.0, number: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match self.arrivals {
            // The inverse of the exponential distribution function.
            Arrivals::Poisson => self.due_s += -self.seeded.unit().ln() / self.rate,
            // From the number, not by adding: a sum of gaps would drift.
            Arrivals::Uniform => self.due_s = self.number as f64 / self.rate,
        }
        self.number += 1;
        Some(Duration::from_secs_f64(self.due_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(n: usize, rate: f64, arrivals: Arrivals, seed: u64) -> Vec<Duration> {
        Schedule::new(rate, arrivals, seed).take(n).collect()
    }

    #[test]
    fn uniform_arrivals_keep_their_distance_without_drift() {
        let due = first(100_001, 1000.0, Arrivals::Uniform, 1);
        assert_eq!((due[0], due[1]), (Duration::ZERO, Duration::from_millis(1)));
        assert_eq!(due[100_000], Duration::from_secs(100));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_the_exponential() {
        let due = first(100_000, 500.0, Arrivals::Poisson, 42);
        let gaps: Vec<f64> = due.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 500.0 - 1.0).abs() < 0.02, "mean gap {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "an exponential's deviation is its mean");
    }

    #[test]
    fn a_seed_repeats_its_arrivals_and_another_does_not() {
        assert_eq!(first(50, 10.0, Arrivals::Poisson, 7), first(50, 10.0, Arrivals::Poisson, 7));
        assert_ne!(first(50, 10.0, Arrivals::Poisson, 7), first(50, 10.0, Arrivals::Poisson, 8));
    }

    #[test]
    fn arrivals_ascend_whatever_the_seed() {
        for seed in 0..100 {
            assert!(first(1000, 1e5, Arrivals::Poisson, seed).is_sorted());
        }
    }
}
