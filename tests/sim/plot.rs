//! `sim plots FOLDER` writes the stories of the limiter and of the fair queue as SVG, for docs/concurrency.md
//! and docs/fairness.md.

use std::process::ExitCode;

use proto_core::model::Concurrency;
use tests::sim::fair_plots;
use tests::sim::figures::Trace;
use tests::sim::scenarios::{self, NARROW, NARROWS_AT, OVERLOAD_ENDS, REFUSES, SHARES, WIDE, WIDENS_AT};
use tests::sim::svg::{Chart, Line};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, folder] = &arguments[..] else { return usage() };
    if command != "plots" {
        return usage();
    }
    for (name, chart) in charts().into_iter().chain(fair_plots::charts()) {
        let path = std::path::Path::new(folder).join(format!("{name}.svg"));
        if let Err(error) = std::fs::write(&path, chart.svg()) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: sim plots FOLDER");
    ExitCode::from(2)
}

fn charts() -> Vec<(&'static str, Chart)> {
    use Concurrency::{Aimd, Gradient};
    let gradient = scenarios::step(Gradient, 20, SHARES, SEED);
    let aimd = scenarios::step(Aimd, 20, REFUSES, SEED);
    let capacity = |at: usize| match at {
        NARROWS_AT..WIDENS_AT => NARROW.requests,
        _ => WIDE.requests,
    };
    let capacity =
        Line { name: "capacity".into(), values: (1..=scenarios::STEP_ENDS).map(capacity).collect() };
    let shared = scenarios::shared([Gradient; 2], [20, 20], SHARES, SEED);
    let overload = scenarios::overload(Gradient, 1000, 1000, SHARES, SEED);
    let fixed = scenarios::overload(Concurrency::Fixed, 1000, 1000, SHARES, SEED);
    vec![
        (
            "limits-found",
            Chart {
                title: "What is found when capacity goes from 100 to 30 and back".into(),
                unit: "requests in flight",
                per_second: 1,
                lines: vec![
                    limits("gradient, an upstream that slows down", gradient.trace(0)),
                    limits("aimd, a provider that refuses", aimd.trace(0)),
                    capacity,
                ],
            },
        ),
        (
            "limits-shared",
            Chart {
                title: "Two data planes on one upstream of 100".into(),
                unit: "requests in flight",
                per_second: 1,
                lines: vec![
                    limits("first", shared.trace(0)),
                    limits("second, a minute later", shared.trace(1)),
                ],
            },
        ),
        (
            "limits-overload",
            Chart {
                title: "Ten times the permits and callers: work whose first token came within a second"
                    .into(),
                unit: "seconds of work a second",
                per_second: 1,
                lines: vec![rates("gradient", overload.trace(0)), rates("fixed at 1000", fixed.trace(0))],
            },
        ),
    ]
}

fn limits(name: &str, trace: &Trace) -> Line {
    Line { name: name.into(), values: trace.limits(0, trace.seconds.len()) }
}

fn rates(name: &str, trace: &Trace) -> Line {
    let values = (0..OVERLOAD_ENDS).map(|second| trace.goodput(second, second + 1, 1.0)).collect();
    Line { name: name.into(), values }
}

const SEED: u64 = 1;
