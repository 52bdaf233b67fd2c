//! A load generator that does not let a slow server slow it down.
//!
//! What it is for: latency from the moment a request was *due* (open loop, no coordinated omission: Tene,
//! "How NOT to measure latency"), and CPU time per request (closed loop). One thread, so that it can share a
//! core with the mock and leave the other to the proxy. It never runs without a bound in count or time, never
//! skips an arrival in silence, and loads only this machine unless told otherwise.

pub mod command;
mod events;
mod exchange;
pub mod plan;
pub mod process;
pub mod report;
pub mod schedule;
mod tally;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use exchange::{Phase, Pool};
use plan::{Load, Plan};
use process::CpuTime;
use report::Report;
use schedule::Schedule;
use tally::Tally;

/// Runs a plan on the calling thread; the error names a process that cannot be measured.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| format!("starting a runtime: {e}"))?.block_on(generate(plan))
}

/// Runs a plan on the current runtime.
pub async fn generate(plan: &Plan) -> Result<Report, String> {
    let plan = Rc::new(plan.clone());
    LocalSet::new().run_until(phases(plan)).await
}

async fn phases(plan: Rc<Plan>) -> Result<Report, String> {
    let pool = Rc::new(Pool::default());
    if !plan.warmup.is_zero() {
        let warmup = Bounds { duration: Some(plan.warmup), requests: None };
        phase(&plan, &pool, warmup, plan.seed.wrapping_add(1)).await;
    }
    let before = cpu_times(&plan)?;
    let started = Instant::now();
    let bounds = Bounds { duration: plan.duration, requests: plan.requests };
    let tally = phase(&plan, &pool, bounds, plan.seed).await;
    let elapsed = started.elapsed();
    let used = cpu_times(&plan)?.into_iter().zip(before);
    let cpu = plan.pids.iter().copied().zip(used.map(|(after, before)| after.since(before)));
    Ok(Report::new(&plan, &tally.borrow(), elapsed, cpu))
}

fn cpu_times(plan: &Plan) -> Result<Vec<CpuTime>, String> {
    plan.pids.iter().map(|&pid| CpuTime::of(pid)).collect()
}

#[derive(Clone, Copy)]
struct Bounds {
    duration: Option<Duration>,
    requests: Option<u64>,
}

impl Bounds {
    fn allow(&self, number: u64, offset: Duration) -> bool {
        self.requests.is_none_or(|requests| number < requests)
            && offset < self.duration.unwrap_or(DURATION_MAX).min(DURATION_MAX)
    }
}

/// Ends when every request of the phase has: each has a deadline, so it does.
async fn phase(plan: &Rc<Plan>, pool: &Rc<Pool>, bounds: Bounds, seed: u64) -> Rc<RefCell<Tally>> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    match plan.load {
        Load::Open { rate, arrivals } => {
            open(plan, pool, &tally, bounds, Schedule::new(rate, arrivals, seed)).await;
        }
        Load::Closed { connections } => closed(plan, pool, &tally, bounds, connections).await,
    }
    tally
}

async fn open(
    plan: &Rc<Plan>,
    pool: &Rc<Pool>,
    tally: &Rc<RefCell<Tally>>,
    bounds: Bounds,
    schedule: Schedule,
) {
    let started = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for (number, offset) in (0u64..).zip(schedule) {
        if !bounds.allow(number, offset) {
            break;
        }
        let intended = started + offset;
        wait_for(intended).await;
        while requests.try_join_next().is_some() {}
        // Tasks that have not run yet are no less in flight than those that have.
        if requests.len() >= plan.in_flight_max {
            tally.borrow_mut().on_dropped();
            continue;
        }
        let (plan, pool, tally) = (Rc::clone(plan), Rc::clone(pool), Rc::clone(tally));
        requests.spawn_local(async move {
            Phase { plan: &plan, pool: &pool, tally: &tally }.exchange(number, intended).await;
        });
    }
    while requests.join_next().await.is_some() {}
}

async fn closed(
    plan: &Rc<Plan>,
    pool: &Rc<Pool>,
    tally: &Rc<RefCell<Tally>>,
    bounds: Bounds,
    connections: usize,
) {
    let started = Instant::now();
    let numbers = Rc::new(std::cell::Cell::new(0u64));
    let mut users = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (plan, pool, tally) = (Rc::clone(plan), Rc::clone(pool), Rc::clone(tally));
        let numbers = Rc::clone(&numbers);
        users.spawn_local(async move {
            let phase = Phase { plan: &plan, pool: &pool, tally: &tally };
            while bounds.allow(numbers.get(), started.elapsed()) {
                let number = numbers.replace(numbers.get() + 1);
                phase.exchange(number, Instant::now()).await;
                // A server that refuses at once must not keep the other users from running.
                tokio::task::yield_now().await;
            }
        });
    }
    while users.join_next().await.is_some() {}
}

/// Waits closer than the timer's millisecond: the last stretch is spent yielding.
async fn wait_for(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > TIMER_STEP {
        tokio::time::sleep(left - TIMER_STEP).await;
    }
    loop {
        tokio::task::yield_now().await;
        if Instant::now() >= moment {
            return;
        }
    }
}

/// The timer of tokio rounds up to a millisecond; a second one is for being woken late.
const TIMER_STEP: Duration = Duration::from_millis(2);
/// A day: what a soak test needs, and an end for a plan that names none.
pub const DURATION_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
