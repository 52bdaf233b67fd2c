//! What a request needs and what it may have: the pure half of admission. Steps over words and values; the
//! cells that workers share are in `dataplane-state`. Never waits, never asks what time it is, never orders
//! those who wait (that is [`crate::fair`]).
//!
//! [`often`]: how many requests a second a caller may make.
//! [`envelope`]: what the caller says of its request. [`estimate`]: what it will take. [`window`]: what a
//! tenant or a session may have in flight or spend. [`pace`]: what a tenant may spend over time. [`permits`]:
//! how much an upstream carries at once.

pub mod envelope;
pub mod estimate;
pub mod often;
pub mod pace;
pub mod permits;
pub mod pressure;
pub mod window;
