//! TLS towards clients: keys, the authorities that vouch for clients, and what those took back, from files
//! that are read again when they change. What is new is for handshakes to come; connections there are stay,
//! but for those whose certificate is not trusted any more.
//!
//! Never falls back: a file that cannot be used changes nothing, and a client whose certificate names nobody
//! is refused before its first request. Waits only where a connection begins.

mod accept;
mod files;
mod look;
mod server;
mod verify;

pub use self::accept::{Secured, accept};
pub use self::files::{ClientAuth, Files};
pub use self::look::{Look, follow, read};
pub use self::server::{Counts, Loaded, ServerSide};
pub use self::verify::Verified;
