//! What the benches measure, once: the set that is served, and one scenario for each decision on the path.
//! `decide` takes its time, `instructions` counts what it executes, `allocations` what it takes from the
//! heap, `share` what it costs when several threads meet there.
//!
//! Nothing here knows a clock: moments are arguments, as in the product.

mod admission;
mod fixture;
mod frames;
mod scenarios;
mod waiting;

pub use admission::Admission;
pub use fixture::{
    Fixture, KEY, MODEL, MODEL_OF_TWO, ROUTES, TENANT_KEYS, answer_500, chat_body, event, resources,
};
pub use frames::of_1_kib as frame_of_1_kib;
pub use scenarios::{RIVALS, SCENARIOS, Scenario, Step, scenario};
pub use waiting::Full;

/// How a bench with a main of its own was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// `--test`: once through, to see that it runs.
    pub is_quick: bool,
}

impl Mode {
    /// From the arguments; those that are cargo's own mean nothing here.
    pub fn of_arguments() -> Mode {
        Mode { is_quick: has_flag("--test") }
    }
}

/// Whether the flag was passed.
pub fn has_flag(flag: &str) -> bool {
    std::env::args().skip(1).any(|argument| argument == flag)
}

/// What follows a flag.
pub fn value_of(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}
