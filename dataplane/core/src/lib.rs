//! Decides. The data plane's decisions as pure values and steps: no clock, no lock, no socket, no log.
//!
//! Rooms, in the order a request meets them: [`dialect`] (bytes to meaning and back), [`table`] (what the set
//! of resources became), [`route`] (whom to ask), [`breaker`] and [`retry`] (whom not to, and how often),
//! [`exchange`] (one request with its answer as a state machine), [`bill`] (what it cost), [`fault`] (what
//! went wrong).

pub mod bill;
pub mod breaker;
pub mod dialect;
pub mod exchange;
pub mod fault;
pub mod retry;
pub mod route;
pub mod table;
