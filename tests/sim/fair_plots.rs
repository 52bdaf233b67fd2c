//! Charts of fairness: service over time, waits.

use super::fair_record::Record;
use super::fair_scenarios::{FROM, NEIGHBOURS_END, PAIR_ENDS, quiet_and_loud, within_share};
use super::svg::{Chart, Line};

pub fn charts() -> Vec<(&'static str, Chart)> {
    vec![("fair-service", service()), ("fair-waits", waits())]
}

fn service() -> Chart {
    let (fair, fifo) = (quiet_and_loud().fair(SEED), quiet_and_loud().fifo(SEED));
    let line = |name: &str, record: &Record, tenant| {
        let tenths = record.course(tenant, PAIR_ENDS);
        Line { name: name.into(), values: tenths.iter().map(|tenths| tenths / 1e7).collect() }
    };
    Chart {
        title: "One tenant asks for as much as there is, another for six times as much".into(),
        unit: "service, million tokens of input",
        per_second: 1,
        lines: vec![
            line("quiet, fair queue", &fair, 0),
            line("loud, fair queue", &fair, 1),
            line("quiet, first come first served", &fifo, 0),
            line("loud, first come first served", &fifo, 1),
        ],
    }
}

fn waits() -> Chart {
    let line = |name: &str, record: Record| {
        let waits = record.waits(|tenant| tenant > 0, FROM, NEIGHBOURS_END - 60);
        Line { name: name.into(), values: waits.distribution(WAIT_MAX, PER_SECOND) }
    };
    Chart {
        title: "Waits of nineteen tenants within their share".into(),
        unit: "of a hundred, started within",
        per_second: PER_SECOND,
        lines: vec![
            line("the twentieth at its share too, fair queue", within_share(1.0).fair(SEED)),
            line("at ten times its share, fair queue", within_share(10.0).fair(SEED)),
            line("at its share, first come first served", within_share(1.0).fifo(SEED)),
            line("at ten times its share, first come first served", within_share(10.0).fifo(SEED)),
        ],
    }
}

const SEED: u64 = 1;
const WAIT_MAX: usize = 5;
const PER_SECOND: usize = 20;
