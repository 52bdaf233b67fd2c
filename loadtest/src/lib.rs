//! The load test: a mock model server, an open-loop generator, the comparison with nginx, and overload.
//!
//! What it is for: measuring a proxy from the outside, and giving other packages' tests an upstream that
//! misbehaves on request (`mock::serve`). It is a stranger on the network: it uses no crate of the planes and
//! knows nothing of them but their wire formats; sessions it speaks by the client library.
//!
//! What it never does: reach beyond loopback unless told so, run without a bound in time and count, or hide a
//! request it could not send (an arrival it had no room for is a failed one).

pub mod compare;
pub mod generate;
pub mod mock;
pub mod overload;
mod seeded;
pub mod sessions;
pub mod tls;
