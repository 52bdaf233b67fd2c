//! What the rounds found: each as it comes, then medians, and ratios pair by pair.

use std::fmt;

use serde::Serialize;

use super::Way;
use crate::compare::statistics::Estimate;

/// One way in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub round: usize,
    pub way: Way,
    /// CPU time of the process in the middle for each token, microseconds.
    pub cpu_us: f64,
    /// Share of it spent in the kernel.
    pub system_share: f64,
    pub tokens_per_s: f64,
    /// Of the client, as a part of one core.
    pub client_share: f64,
}

/// All rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub measurements: Vec<Measurement>,
    pub verdicts: Vec<Verdict>,
}

/// One way over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub way: Way,
    pub cpu_us: Option<Estimate>,
    /// Its cost over that of the way all are compared with, within each round.
    pub ratio: Option<Estimate>,
}

impl Found {
    /// Compares all with `base`.
    pub(crate) fn new(measurements: Vec<Measurement>, base: Way, seed: u64) -> Found {
        let mut ways: Vec<Way> = Vec::new();
        for measurement in &measurements {
            if !ways.contains(&measurement.way) {
                ways.push(measurement.way);
            }
        }
        let verdict = |way: Way| {
            let of = |wanted: Way| measurements.iter().filter(move |measured| measured.way == wanted);
            let costs: Vec<f64> = of(way).map(|measured| measured.cpu_us).collect();
            let pairs = of(way).filter_map(|measured| {
                let same = of(base).find(|other| other.round == measured.round)?;
                Some(measured.cpu_us / same.cpu_us)
            });
            let ratio = Estimate::of(&pairs.collect::<Vec<f64>>(), seed).filter(|_| way != base);
            Verdict { way, cpu_us: Estimate::of(&costs, seed), ratio }
        };
        let verdicts = ways.iter().map(|way| verdict(*way)).collect();
        Found { measurements, verdicts }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "round {:>2}  {:<12}{:>8.3} µs/token  kernel {:>3.0} %  {:>8.0} tokens/s  client {:>3.0} %",
            self.round,
            self.way.name(),
            self.cpu_us,
            self.system_share * 100.0,
            self.tokens_per_s,
            self.client_share * 100.0
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CPU per token, and its ratio (median, 95 % interval of the median)")?;
        for Verdict { way, cpu_us, ratio } in &self.verdicts {
            let Some(Estimate { median, low, high }) = cpu_us else { continue };
            write!(f, "  {:<12}{median:>8.3} µs [{low:.3}, {high:.3}]", way.name())?;
            if let Some(Estimate { median, low, high }) = ratio {
                write!(f, "  {median:.3} [{low:.3}, {high:.3}]")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(round: usize, way: Way, cpu_us: f64) -> Measurement {
        let (system_share, tokens_per_s, client_share) = (0.5, 1.0, 0.5);
        Measurement { round, way, cpu_us, system_share, tokens_per_s, client_share }
    }

    #[test]
    fn a_way_is_compared_with_the_base_of_its_own_round() {
        let (base, other) = (Way::Sse, Way::H2);
        let measurements = vec![
            measured(0, base, 2.0),
            measured(0, other, 1.0),
            measured(1, other, 5.0),
            measured(1, base, 10.0),
        ];
        let found = Found::new(measurements, base, 1);
        assert_eq!(found.verdicts[0].ratio, None);
        assert_eq!(found.verdicts[1].ratio, Some(Estimate { median: 0.5, low: 0.5, high: 0.5 }));
    }
}
