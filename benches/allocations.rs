//! What a request takes from the heap. First the decisions alone, of which none may allocate once warm; then
//! whole requests through a data plane in this process, counted on its worker threads only: upstream and
//! client are plain sockets on other threads. Last, what a session that does nothing keeps.
//!
//! `--where` also prints from where, by sampled backtraces.

// A global allocator cannot be written without it; this one only counts and passes on.
#![allow(unsafe_code)]

#[path = "allocations/counting.rs"]
mod counting;
#[path = "allocations/idle.rs"]
mod idle;
#[path = "allocations/served.rs"]
mod served;
#[path = "allocations/upstream.rs"]
mod upstream;

use std::hint::black_box;
use std::process::ExitCode;

use benches::Mode;
use bytes::Bytes;
use proto_core::frame::{Encoding, json};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> ExitCode {
    let mode = Mode::of_arguments();
    let is_sound = decisions() & frames() & served::measure(mode, benches::has_flag("--where"));
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// No scenario may allocate more than it has to, once it is warm; decisions nothing.
fn decisions() -> bool {
    println!("{:<52} {:>12} {:>8}", "allocations", "each time", "bound");
    let mut is_sound = true;
    for scenario in benches::SCENARIOS {
        let mut step = scenario.ready();
        let counted = counting::on_this_thread(|| (0..STEPS).for_each(|_| step()));
        is_sound &= is_within(scenario.name, counted, scenario.allocations);
    }
    is_sound
}

/// Frames in JSON whose messages nobody else holds, as they come from a socket: taking the first part of one
/// makes it shared.
fn frames() -> bool {
    let message = benches::frame_of_1_kib(Encoding::Json);
    let messages: Vec<Bytes> = (0..STEPS).map(|_| Bytes::copy_from_slice(&message)).collect();
    let counted = counting::on_this_thread(|| {
        for message in &messages {
            drop(black_box(json::decode(message)));
        }
    });
    is_within("read_json_frame_1_kib, fresh from a socket", counted, 2)
}

fn is_within(name: &str, counted: u64, bound: u64) -> bool {
    let is_within = counted <= bound * STEPS;
    let note = if is_within { "" } else { "  MORE" };
    println!("{name:<52} {:>12.3} {bound:>8}{note}", counted as f64 / STEPS as f64);
    is_within
}

const STEPS: u64 = 1000;
