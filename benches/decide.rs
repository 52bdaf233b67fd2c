//! What each decision on the path takes, by the clock. Compare figures of one run only: `instructions` says
//! the same on every machine.

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for scenario in benches::SCENARIOS.iter().chain(benches::RIVALS) {
        let mut step = scenario.ready();
        criterion.bench_function(scenario.name, |bencher| bencher.iter(&mut step));
    }
    criterion.final_summary();
}
