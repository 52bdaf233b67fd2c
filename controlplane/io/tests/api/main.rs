//! A control plane over its ports, as operators, data planes and orchestrators meet it.
//!
//! Every test starts its own on ports the system chose, with a data folder of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic; clippy knows that of test functions only")]

mod access;
mod http;
mod kill;
mod kit;
mod lifecycle;
mod resources;
mod sync;
