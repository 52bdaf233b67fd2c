//! Atomics: the real ones, or loom's when models run (`--cfg loom`), so that a model runs the very code that
//! ships.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
