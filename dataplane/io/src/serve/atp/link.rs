//! What joins a session to the connection that carries it: frames in, encoded frames out, both bounded.

use bytes::Bytes;
use proto_core::frame::{Encoding, Frame, Malformed};
use tokio::sync::mpsc;

/// A session's end of a connection. Dropping it tells the connection that the session needs it no more.
#[derive(Debug)]
pub struct Link {
    pub encoding: Encoding,
    pub inbound: mpsc::Receiver<Inbound>,
    pub out: mpsc::Sender<Outbound>,
}

/// What a connection hands over. Its end is the end of the channel.
#[derive(Debug)]
pub enum Inbound {
    Frame(Box<Frame>),
    /// No frame, and where the next one begins is known all the same.
    Malformed(Malformed),
}

/// One encoded frame for the connection to write.
#[derive(Debug)]
pub struct Outbound {
    /// The stream it is of; `None` for the session's own.
    pub stream: Option<proto_core::frame::Text>,
    pub message: Bytes,
    /// Nothing more comes of this stream.
    pub is_last: bool,
}

/// The connection's end, where it carries one session.
#[derive(Debug)]
pub struct Plug {
    pub inbound: mpsc::Sender<Inbound>,
    pub out: mpsc::Receiver<Outbound>,
}

/// Both ends.
pub fn link(encoding: Encoding) -> (Link, Plug) {
    let (to_connection, out) = mpsc::channel(OUTBOUND_MAX);
    let (link, inbound) = branch(encoding, &to_connection);
    (link, Plug { inbound, out })
}

/// One more session of a connection whose sessions share the way out.
pub fn branch(encoding: Encoding, out: &mpsc::Sender<Outbound>) -> (Link, mpsc::Sender<Inbound>) {
    let (to_session, inbound) = mpsc::channel(INBOUND_MAX);
    (Link { encoding, inbound, out: out.clone() }, to_session)
}

/// Frames read ahead of the session; each at most a megabyte, most of them a few hundred bytes.
const INBOUND_MAX: usize = 16;
/// Frames written ahead of the connection: enough for one write to carry many.
pub const OUTBOUND_MAX: usize = 64;
