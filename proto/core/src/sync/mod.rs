//! The config session between the planes, both ends, as machines without a socket or a clock.
//!
//! [`Publisher`] is the control plane's end, one per connected data plane; [`Subscriber`] is the data
//! plane's. They speak the messages of `atp.control.v1.Sync`; a shell feeds `on_*`, sends what `poll_*`
//! yields and owns every deadline. Neither ever parses a resource: a body is bytes here, [`crate::parse`]
//! says what it means.
//!
//! ```text
//!  data plane                         control plane
//!      | ── hello(node, held) ──────────> |
//!      | <───────────── push(nonce, set) ─|   only where the newest set is not the one held
//!      | ── ack(nonce) | nack(nonce) ───> |   then, and only then, the next push
//!      | <──────── places(of all others) ─|   where adapters registered themselves; at most a few a second
//!      | ── places(its own) ────────────> |   once it was told some
//! ```

mod generation;
pub mod places;
mod publisher;
mod set;
mod subscriber;

pub use generation::{Generation, Held, SetHash};
pub use publisher::{Busy, Event, Publisher, Violation};
pub use set::{PublishedSet, TooLarge, hash, version_of};
pub use subscriber::{Action, Candidate, Question, Subscriber, Ticket, Unexpected};

use crate::wire::atp::control::v1 as wire;

/// Resources of one set. Twice the largest set the project promises to serve (100,000 routes).
pub const RESOURCES_MAX: usize = 200_000;

/// Bytes of one resource as JSON. A route with every candidate filled in has 4 KiB; an adapter with 1,000
/// models 300.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a whole set on the wire. A set travels as one message, so what is stored must fit into one:
/// 64 MiB holds [`RESOURCES_MAX`] resources of 300 bytes.
pub const SET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one gRPC message between the planes, for both ends' decoders and encoders: a full set and its
/// frame.
pub const MESSAGE_BYTES_MAX: usize = SET_BYTES_MAX + 1024 * 1024;

/// Bytes of the name or version a data plane says hello with: long enough for a DNS name.
pub const NODE_BYTES_MAX: usize = 253;

/// Explain questions a data plane owes an answer for. They are asked by people, a few at a time.
pub const QUESTIONS_MAX: usize = 64;

/// Bytes of an explain answer: a plan of 16 candidates with reasons has a few KiB.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Reasons kept of one refusal: more than a person reads, less than a set that is wrong throughout would
/// fill.
pub const REJECTS_MAX: usize = 100;

/// Bytes of one reason.
pub const REASON_BYTES_MAX: usize = 1024;

/// A refusal cut to its bounds, saying how much was cut.
fn bounded(mut rejects: Vec<wire::Reject>) -> Vec<wire::Reject> {
    let cut = rejects.len().saturating_sub(REJECTS_MAX);
    if cut > 0 {
        // One place is for the sentence about the others.
        rejects.truncate(REJECTS_MAX - 1);
        rejects.push(about_the_set(format!("and {} more reasons", cut + 1)));
    }
    for reject in &mut rejects {
        for text in [&mut reject.kind, &mut reject.name, &mut reject.reason] {
            text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
            // Operators read them on a terminal, which must not obey them.
            if text.contains(char::is_control) {
                *text = text.replace(char::is_control, " ");
            }
        }
    }
    rejects
}

/// A reason that is about no resource in particular.
fn about_the_set(reason: String) -> wire::Reject {
    wire::Reject { kind: String::new(), name: String::new(), reason }
}

#[cfg(test)]
mod kit;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod places_tests;
#[cfg(test)]
mod publisher_tests;
#[cfg(test)]
mod subscriber_tests;
