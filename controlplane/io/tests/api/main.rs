//! A control plane over its ports, as operators, data planes and orchestrators meet it.
//!
//! Every test starts its own on ports the system chose, with a data folder of its own.

mod access;
mod http;
mod kill;
mod kit;
mod lifecycle;
mod resources;
mod sync;
