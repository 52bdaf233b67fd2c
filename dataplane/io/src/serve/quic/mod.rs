//! QUIC: one endpoint on one UDP port, for HTTP/3 and for ATP. What is spoken is agreed on in the handshake
//! (ALPN).
//!
//! The endpoint has a thread of its own: a flood of datagrams that are no connection's is looked at there and
//! delays no request. A connection that proved its address goes to a worker and stays there, as those over
//! TCP do. Never serves before the handshake is over: nothing is sent or taken that could be replayed.

mod atp;
mod connection;
mod counts;
mod endpoint;
#[cfg(feature = "http3")]
pub mod h3;
mod settings;

pub use self::counts::Counts;
pub use self::endpoint::{bind, serve};
