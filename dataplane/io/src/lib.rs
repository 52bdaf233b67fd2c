//! Acts: sockets, timers, files, logs and metrics of the data plane. Feeds `dataplane-core` and obeys it.
//!
//! Rooms, in the order a request meets them: [`listen`] and [`serve`] (bytes to requests), [`callers`] (how
//! often they ask), [`admission`] and [`sessions`] (what it may have), [`drive`] and [`attempt`] (runs an
//! exchange), [`queue`] (who waits, and who is next), [`upstream`] (adapters), [`relay`] (answers on their
//! way), [`charge`] (what they cost).
//! Beside the path: [`source`] (where sets come from), [`admin`], [`probes`], [`telemetry`], [`drain`].

pub mod admin;
pub mod admission;
pub mod app;
pub mod attempt;
pub mod callers;
pub mod charge;
pub mod clock;
pub mod config;
pub mod drain;
pub mod drive;
pub mod explain;
pub mod lens;
pub mod listen;
pub mod probe;
pub mod probes;
pub mod queue;
pub mod relay;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod served;
pub mod sessions;
pub mod source;
pub mod telemetry;
pub mod timing;
pub mod tls;
pub mod trace;
pub mod upstream;
pub mod words;
pub mod worker;
