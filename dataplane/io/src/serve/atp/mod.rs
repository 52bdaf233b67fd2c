//! ATP sessions: whoever carries them (WebSocket, HTTP/2, QUIC), what they ask for runs through the same
//! exchange as everything else.
//!
//! ```text
//! connection ──frames──▶ Link ──▶ Conversation (a task, with the machine) ──Job──▶ work (a task each)
//!            ◀──frames── Link ◀──                ▲                                         │
//!                                                └──────────── Delivery ◀── Outbox ◀───────┘
//! ```
//!
//! A connection may be lost and the conversation go on: the next connection brings it a new link.

mod again;
mod attached;
mod compat;
pub mod conversation;
pub mod cutter;
mod fan;
mod gathered;
pub mod h2;
pub mod link;
mod opening;
pub(in crate::serve) mod outbox;
mod patient;
pub mod registry;
mod seats;
mod strand;
mod told;
pub(in crate::serve) mod work;
pub mod ws;

pub use opening::Caller;
pub use seats::Seats;
pub use told::Told;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::X_API_KEY;

/// What says who calls, and from where.
pub const CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, X_API_KEY, HOST, ORIGIN];

/// Those of a request, in memory of their own: a session would keep all the bytes its request came in.
pub fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in &CREDENTIALS {
        for value in headers.get_all(name) {
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).expect("it was a header's value");
            copy.set_sensitive(value.is_sensitive());
            kept.append(name, copy);
        }
    }
    kept
}
