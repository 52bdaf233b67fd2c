//! What the memory gateway does: listens, stores, forgets in time. All it decides is decided in
//! `memory_core`.
//!
//! Rooms, in reading order: [`config`] (how it is set up), [`app`] (how its parts are wired), [`identity`]
//! (who calls), [`serve`] (calls and answers), [`backend`] (what they ask of whoever keeps items), [`writer`]
//! (the one that changes the store), [`store`] (where items and events are kept), [`index`] (what is found by
//! its words), [`telemetry`] (what is counted), [`clock`].
//!
//! Waiting is allowed here: nothing of this crate is on the path of a request to a model.

pub mod app;
pub mod backend;
pub mod clock;
pub mod config;
pub mod identity;
pub mod index;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod writer;

pub use app::{Bound, StartFault, bind, bind_at};
pub use config::Config;
