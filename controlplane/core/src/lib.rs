//! What the control plane decides: intents in, sets and reports out.
//!
//! Rooms, in reading order: [`stored`] (every resource as a value), [`intent`] (what an operator wants, and
//! what it would change), [`check`] (whether the result fits together), [`diff`] (the change as text),
//! [`compile`] (the set data planes are offered), [`fleet`] (who is connected and what each serves),
//! [`registry`] (where adapters that register themselves stand).
//!
//! Pure: no clock, no lock, no socket, no log. The shell in `controlplane/io` stores, listens and tells time.

pub mod check;
pub mod compile;
pub mod diff;
pub mod fleet;
pub mod intent;
pub mod registry;
pub mod stored;
