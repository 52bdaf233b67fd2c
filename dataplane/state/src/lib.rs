//! Remembers. The memory that worker threads share: atomics and one snapshot cell. No lock, no await, no
//! clock.
//!
//! A cell applies a pure step of `dataplane-core` by compare-and-swap: the step is tested by tables there,
//! the cell by loom here (`tests/models.rs`). What a worker can keep to itself is kept per worker
//! ([`tally`]); shared is only what a limit or a balance needs ([`permits`], [`endpoint`], [`balance`]).
//! [`registry`] makes cells outlive snapshots.

pub mod balance;
pub mod endpoint;
pub mod permits;
pub mod registry;
pub mod sync;
pub mod tables;
pub mod tally;
