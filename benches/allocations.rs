//! What a request takes from the heap. First the decisions alone, of which none may allocate once warm; then
//! whole requests through a data plane in this process, counted on its worker threads only: upstream and
//! client are plain sockets on other threads.
//!
//! `--where` also prints from where, by sampled backtraces.

// A global allocator cannot be written without it; this one only counts and passes on.
#![allow(unsafe_code)]

#[path = "allocations/counting.rs"]
mod counting;
#[path = "allocations/served.rs"]
mod served;
#[path = "allocations/upstream.rs"]
mod upstream;

use std::process::ExitCode;

use benches::Mode;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> ExitCode {
    let mode = Mode::of_arguments();
    let is_sound = decisions() & served::measure(mode, benches::has_flag("--where"));
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// No scenario may allocate once it is warm.
fn decisions() -> bool {
    println!("{:<52} {:>12} {:>8}", "allocations", "each time", "bound");
    let mut is_sound = true;
    for scenario in benches::SCENARIOS {
        let mut step = scenario.ready();
        let counted = counting::on_this_thread(|| (0..STEPS).for_each(|_| step()));
        let note = if counted == 0 { "" } else { "  MORE" };
        println!("{:<52} {:>12.3} {:>8}{note}", scenario.name, counted as f64 / STEPS as f64, 0);
        is_sound &= counted == 0;
    }
    is_sound
}

const STEPS: u64 = 1000;
