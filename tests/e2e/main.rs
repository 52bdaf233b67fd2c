//! End to end: the binary as users start it, in processes of its own, on ports the system chooses; a mock
//! model server in this process behind it, which counts what reached it. Sockets on both sides, nothing
//! shared.
//!
//! A test waits for conditions, each with a deadline; nothing sleeps for a fixed time and hopes.

mod kit;

mod adapters;
mod admission;
mod attached;
mod chain;
mod clients;
mod cost;
mod dialects;
mod drain;
mod escalation;
mod fanout;
mod faults;
mod first_start;
mod logs;
mod mcp;
mod memory;
mod metrics;
mod money;
mod often;
mod planes;
mod pressure;
mod quic;
mod refusals;
mod registered;
mod sdk;
mod sessions;
mod settings;
mod tls;
mod tracing;
