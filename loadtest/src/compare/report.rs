//! What a comparison found, for people and for programs.
//!
//! What it is for: every single measurement next to the sum, so that a reader can doubt it. It never prints a
//! ratio without its interval.

use std::fmt;

use serde::Serialize;

use super::rounds::{Case, Measurement, Proxy};
use super::statistics::Estimate;

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What ran where, in words.
    pub setting: Vec<String>,
    pub measurements: Vec<Measurement>,
    pub verdicts: Vec<Verdict>,
}

/// One case over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub case: Case,
    /// CPU microseconds per request or chunk.
    pub nginx_us: Option<Estimate>,
    pub atp_us: Option<Estimate>,
    /// atp's cost over nginx's, pair by pair of the same round.
    pub ratio: Option<Estimate>,
}

impl Comparison {
    pub(crate) fn new(setting: Vec<String>, measurements: Vec<Measurement>, seed: u64) -> Self {
        let verdicts = Case::ALL.into_iter().map(|case| Verdict::of(case, &measurements, seed));
        let verdicts =
            verdicts.filter(|verdict| verdict.nginx_us.is_some() || verdict.atp_us.is_some()).collect();
        Comparison { setting, measurements, verdicts }
    }
}

impl Verdict {
    fn of(case: Case, measurements: &[Measurement], seed: u64) -> Verdict {
        let of = |proxy: Proxy| {
            let mine = measurements.iter().filter(move |m| m.case == case && m.proxy == proxy);
            mine.map(|m| (m.round, m.cpu_us))
        };
        let costs = |proxy: Proxy| of(proxy).map(|(_, cost)| cost).collect::<Vec<f64>>();
        let pairs = of(Proxy::Atp).filter_map(|(round, atp)| {
            let (_, nginx) = of(Proxy::Nginx).find(|(other, _)| *other == round)?;
            Some(atp / nginx)
        });
        Verdict {
            case,
            nginx_us: Estimate::of(&costs(Proxy::Nginx), seed),
            atp_us: Estimate::of(&costs(Proxy::Atp), seed),
            ratio: Estimate::of(&pairs.collect::<Vec<f64>>(), seed),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (proxy, case) =
            (format!("{:?}", self.proxy).to_lowercase(), format!("{:?}", self.case).to_lowercase());
        write!(f, "round {:>2}  {proxy:<6} {case:<9}", self.round)?;
        write!(
            f,
            "{:>9.3} µs/{:<8} kernel {:>3.0} %",
            self.cpu_us,
            self.case.per(),
            self.system_share * 100.0
        )?;
        let rate = if self.case.is_streamed() { self.chunks_per_s } else { self.good_per_s };
        write!(
            f,
            "{rate:>10.0}/s  p50 {:>8.0} µs  p99 {:>8.0} µs",
            self.latency_p50_us, self.latency_p99_us
        )?;
        if self.case.is_streamed() { write!(f, "  {:.2} chunks/read", self.chunks_per_read) } else { Ok(()) }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for verdict in &self.verdicts {
            let case = format!("{:?}", verdict.case).to_lowercase();
            writeln!(f, "{case}: CPU per {} (median, 95 % interval of the median)", verdict.case.per())?;
            let rows = [
                ("nginx", verdict.nginx_us, " µs"),
                ("atp", verdict.atp_us, " µs"),
                ("atp/nginx", verdict.ratio, ""),
            ];
            for (name, estimate, unit) in rows {
                let Some(Estimate { median, low, high }) = estimate else { continue };
                writeln!(f, "  {name:<10}{median:>9.3}{unit}  [{low:.3}, {high:.3}]")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(round: usize, case: Case, proxy: Proxy, cpu_us: f64) -> Measurement {
        let (good, good_per_s, chunks_per_s, chunks_per_read) = (1, 1.0, 1.0, 1.0);
        let (system_share, latency_p50_us, latency_p99_us) = (0.5, 1.0, 1.0);
        Measurement {
            round,
            case,
            proxy,
            cpu_us,
            system_share,
            good,
            good_per_s,
            chunks_per_s,
            chunks_per_read,
            latency_p50_us,
            latency_p99_us,
        }
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_never_across() {
        // The machine slows down threefold between the rounds; the ratio stays.
        let measurements = vec![
            measured(0, Case::Requests, Proxy::Nginx, 10.0),
            measured(0, Case::Requests, Proxy::Atp, 20.0),
            measured(1, Case::Requests, Proxy::Atp, 60.0),
            measured(1, Case::Requests, Proxy::Nginx, 30.0),
        ];
        let comparison = Comparison::new(Vec::new(), measurements, 1);
        assert_eq!(comparison.verdicts.len(), 1, "nothing was streamed");
        assert_eq!(comparison.verdicts[0].ratio, Some(Estimate { median: 2.0, low: 2.0, high: 2.0 }));
        assert!(comparison.to_string().contains("atp/nginx"));
    }

    #[test]
    fn one_proxy_alone_has_a_cost_and_no_ratio() {
        let comparison = Comparison::new(Vec::new(), vec![measured(0, Case::Streams, Proxy::Nginx, 4.0)], 1);
        let verdict = &comparison.verdicts[0];
        assert_eq!((verdict.nginx_us.unwrap().median, verdict.atp_us, verdict.ratio), (4.0, None, None));
        assert!(comparison.to_string().contains("CPU per chunk") && !comparison.to_string().contains("atp"));
    }
}
