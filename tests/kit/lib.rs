//! What tests of several rooms share: the simulated world. `e2e` has a kit of its own, in `e2e/kit`.

#[path = "../sim/mod.rs"]
pub mod sim;
