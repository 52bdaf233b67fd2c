//! The words both planes and all clients speak.
//!
//! Rooms, in reading order: [`units`] (what numbers mean), [`model`] (resources, valid by construction),
//! [`parse`] (documents to model, every mistake at once), [`sync`] (the config session between the planes,
//! both ends), [`wire`] (generated messages).
//!
//! Pure: no clock, no lock, no socket, no log. Whatever varies is an argument.

pub mod model;
pub mod parse;
pub mod sync;
pub mod units;
pub mod wire;
