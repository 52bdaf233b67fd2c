//! The mock as raw clients see it, over real loopback sockets.

mod client;
mod counting;
mod faults;
mod shapes;
