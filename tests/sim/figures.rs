//! What a run is judged by.

use proto_core::units::Moment;

/// What one data plane saw.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub seconds: Vec<Second>,
    pub answers: Vec<Answer>,
}

/// The state at the end of a second, and what happened in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    pub at: Moment,
    pub limit: u32,
    pub tokens_limit: u64,
    pub in_flight: u32,
    pub waiting: usize,
    pub answers: u32,
    pub losses: u32,
}

/// A request that was answered whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    pub at: Moment,
    /// From dispatch.
    pub ttft_s: f64,
    /// What it would have been alone.
    pub unloaded_s: f64,
    /// All of its work, to the last token.
    pub work_s: f64,
}

impl Trace {
    /// The limit at the end of each second of `from..to`.
    pub fn limits(&self, from: usize, to: usize) -> Vec<f64> {
        self.seconds[from..to].iter().map(|second| f64::from(second.limit)).collect()
    }

    /// Seconds of work answered a second: at most the upstream's capacity in requests. Not answers, whose
    /// number depends on how long they happen to be.
    pub fn rate(&self, from: usize, to: usize) -> f64 {
        self.goodput(from, to, f64::INFINITY)
    }

    /// Refusals and timeouts a second.
    pub fn loss_rate(&self, from: usize, to: usize) -> f64 {
        let losses: u32 = self.seconds[from..to].iter().map(|second| second.losses).sum();
        f64::from(losses) / (to - from) as f64
    }

    /// The median first token against the median of the same requests alone.
    pub fn stretch(&self, from: usize, to: usize) -> f64 {
        let answers = || {
            let seconds = from as u64 * 1_000_000_000..to as u64 * 1_000_000_000;
            self.answers.iter().filter(move |answer| seconds.contains(&answer.at.0))
        };
        median(answers().map(|answer| answer.ttft_s)) / median(answers().map(|answer| answer.unloaded_s))
    }

    /// Seconds after `from` until the limit is found: the mean of the next `SMOOTH` is within `share` of
    /// `target`, and so is the mean of all that follow up to `to`. `None` where it never is.
    pub fn found_after(&self, from: usize, to: usize, target: f64, share: f64) -> Option<usize> {
        let is_near =
            |start: usize, end: usize| (mean(&self.limits(start, end)) / target - 1.0).abs() <= share;
        let found = (from..=to - SMOOTH).find(|start| is_near(*start, start + SMOOTH) && is_near(*start, to));
        found.map(|start| start + 1 - from)
    }

    /// The share of seconds in which the limit is within `share` of `target`.
    pub fn time_near(&self, from: usize, to: usize, target: f64, share: f64) -> f64 {
        let limits = self.limits(from, to);
        let near = limits.iter().filter(|limit| (*limit / target - 1.0).abs() <= share).count();
        near as f64 / limits.len() as f64
    }

    /// Of [`Trace::rate`] what had its first token within `ttft_s` of being sent.
    pub fn goodput(&self, from: usize, to: usize, ttft_s: f64) -> f64 {
        let seconds = from as u64 * 1_000_000_000..to as u64 * 1_000_000_000;
        let good = |answer: &&Answer| seconds.contains(&answer.at.0) && answer.ttft_s <= ttft_s;
        let work: f64 = self.answers.iter().filter(good).map(|answer| answer.work_s).sum();
        work / (to - from) as f64
    }
}

/// Seconds whose mean counts as the limit: a limit that keeps trying has the shape of a saw.
const SMOOTH: usize = 5;

/// Of at least one number.
pub fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Jain's index of fairness: 1 where all have the same, 1/n where one has all.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_for_equals_and_one_over_n_for_a_monopoly() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[5.0, 0.0]), 0.5);
    }

    #[test]
    fn a_limit_is_found_where_it_comes_near_and_stays_on_the_whole() {
        let trace = |limits: &[u32]| {
            let seconds = limits.iter().map(|limit| Second { limit: *limit, ..Second::default() });
            Trace { seconds: seconds.collect(), answers: Vec::new() }
        };
        let stays = trace(&[100, 100, 30, 30, 30, 30, 30, 38, 30, 30]);
        assert_eq!(stays.found_after(1, 10, 30.0, 0.15), Some(2));
        assert_eq!(stays.time_near(0, 10, 30.0, 0.15), 0.7);
        let leaves = trace(&[30, 30, 30, 30, 30, 30, 30, 90, 90, 90]);
        assert_eq!(leaves.found_after(0, 10, 30.0, 0.15), None);
    }
}
