//! What it takes to let a request wait and to grant one, by the clock, with so many tenants waiting that one
//! each. Compare figures of one run only. The bar: both together within 1 µs at 10,000 tenants, and beyond
//! that growth by the logarithm.

use benches::Full;
use criterion::{BatchSize, Criterion};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for tenants in TENANTS {
        let mut full = Full::of(tenants);
        criterion.bench_function(&format!("queue/grant_and_wait_again/{tenants}"), |bencher| {
            bencher.iter(|| full.turn());
        });
        let mut full = Full::of(tenants);
        criterion.bench_function(&format!("queue/wait_and_hang_up/{tenants}"), |bencher| {
            bencher.iter(|| full.hang_up());
        });
    }
    criterion.bench_function("queue/fill/10000", |bencher| {
        bencher.iter_batched(|| (), |()| Full::of(10_000), BatchSize::PerIteration);
    });
    criterion.final_summary();
}

const TENANTS: [u64; 3] = [100, 10_000, 100_000];
