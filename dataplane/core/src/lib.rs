//! Decides. The data plane's decisions as pure values and steps: no clock, no lock, no socket, no log.
//!
//! Rooms, in the order a request meets them: [`dialect`] (bytes to meaning and back), [`table`] (what the set
//! of resources became), [`route`] (whom to ask), [`admit`] (what it needs and may have), [`fair`] (who is
//! next), [`limit`] (how much an upstream is given), [`breaker`] and [`retry`] (whom not to, and how often),
//! [`exchange`] (one request with its answer as a state machine), [`reconcile`] (one question to several, one
//! answer back), [`discover`] (which addresses of an upstream), [`bill`] (what it cost), [`fault`] (what went
//! wrong).

pub mod admit;
pub mod bill;
pub mod breaker;
pub mod dialect;
pub mod discover;
pub mod exchange;
pub mod fair;
pub mod fault;
pub mod limit;
pub mod reconcile;
pub mod retry;
pub mod route;
pub mod table;
pub mod trace;
