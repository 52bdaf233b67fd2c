//! What the memory gateway decides: where an item stands and how long, who may store how much, what the
//! audit log says and whether it was changed, which words must not be kept, what a search finds.
//!
//! Rooms, in reading order: [`wall`] (time as calendars have it), [`place`] (namespaces and keys), [`entry`]
//! (one item), [`quota`] (what a tenant may store), [`consistency`] (what a read may miss), [`audit`] (the
//! chain of events), [`anomaly`] (who looks around too much), [`redact`] (personal data and secrets),
//! [`search`] (words and their weight).
//!
//! Pure: no clock, no lock, no socket, no file, no log. Whatever varies is an argument.

pub mod anomaly;
pub mod audit;
pub mod consistency;
pub mod entry;
pub mod place;
pub mod quota;
pub mod redact;
pub mod search;
pub mod wall;
