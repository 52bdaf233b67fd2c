//! Remembers. The memory that worker threads share: atomics and one snapshot cell. No lock, no await, no
//! clock.
//!
//! A cell applies a pure step of `dataplane-core` by compare-and-swap: the step is tested by tables there,
//! the cell by loom here (`tests/models`). What a worker can keep to itself is kept per worker ([`tally`]);
//! shared is only what a limit or a balance needs: [`permits`] of an upstream, [`window`]s of tenants and
//! sessions and their budgets ([`pace`]), how [`often`] callers ask, [`endpoint`] and [`balance`]; and what
//! was [`learned`]. [`wake`] is how the owner of a queue hears of room, a [`pipe`] brings one task what
//! another has for it. [`registry`] makes cells outlive snapshots.

pub mod balance;
pub mod count;
pub mod endpoint;
pub mod flow;
pub mod learned;
pub mod ledger;
pub mod often;
pub mod pace;
pub mod permits;
pub mod pipe;
pub mod registry;
pub mod sync;
pub mod tables;
pub mod tally;
pub mod wake;
pub mod window;
