//! What the control plane does: listens, stores, tells data planes. All it decides is decided in
//! `controlplane_core`.
//!
//! Rooms, in reading order: [`config`] and [`data_dir`] (how it is set up), [`app`] (how its parts are
//! wired), [`store`] (where resources are kept), [`writer`] (the one that changes them), [`source`] (a file
//! as the truth), [`publish`] and [`planes`] (data planes), [`api`] (operators), [`auth`] and [`token`] (who
//! may what), [`listen`], [`tls`], [`http`], [`metrics`] and [`probe`] (whether one is well).
//!
//! Waiting is allowed here: nothing of this crate is on the path of a request to a model.

pub mod api;
pub mod app;
pub mod args;
pub mod auth;
pub mod config;
pub mod data_dir;
pub mod http;
pub mod listen;
mod log;
pub mod metrics;
pub mod planes;
pub mod probe;
pub mod publish;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod tls;
pub mod token;
pub mod writer;

pub use app::{Handle, StartFault, run, start};
pub use config::{Cleartext, Config, Tls};
