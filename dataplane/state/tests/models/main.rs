//! Models of our own atomics under loom: every interleaving of a few steps. Each has a broken twin that must
//! fail, so that a model which proves nothing is noticed.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p dataplane-state --test models --release`.
#![cfg(loom)]

mod cells;
mod flow;
mod learned;
mod often;
mod pace;
mod permits;
mod pipe;
mod queue;
mod window;
