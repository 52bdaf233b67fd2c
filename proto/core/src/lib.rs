//! The words both planes and all clients speak.
//!
//! Rooms, in reading order: [`units`] (what numbers mean), [`model`] (resources, valid by construction),
//! [`parse`] (documents to model, every mistake at once), [`sync`] (the config session between the planes,
//! both ends), [`frame`] (what peers say to a data plane, in three encodings), [`session`] (their
//! conversation, both ends), [`identity`] (who a certificate names), [`probe`] (whether a server is well),
//! [`logline`] (what a log may say), [`wire`] (generated messages).
//!
//! Pure: no clock, no lock, no socket, no log. Whatever varies is an argument.

pub mod frame;
pub mod identity;
pub mod logline;
pub mod model;
pub mod parse;
pub mod probe;
pub mod session;
pub mod sync;
pub mod units;
pub mod wire;
