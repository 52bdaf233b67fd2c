//! What joins a session to the connection that carries it: frames in, encoded frames out, both bounded. What
//! carries it is a transport's business, and what the frames say is the session's.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proto_core::frame::{Encoding, Frame, Malformed, Text};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Failure;

/// A session's end of a connection. Dropping `out` ends the connection after what is in it has been written.
#[derive(Debug)]
pub struct Link {
    pub encoding: Encoding,
    pub inbound: mpsc::Receiver<Inbound>,
    pub out: mpsc::Sender<Outbound>,
    /// Ends when everything is written and the connection is closed.
    pub writer: JoinHandle<()>,
}

/// What a connection hands over. Its end is the end of the channel.
#[derive(Debug)]
pub enum Inbound {
    Frame(Box<Frame>),
    /// No frame, and where the next one begins is known all the same.
    Malformed(Malformed),
    /// Why nothing more comes.
    Failed(Failure),
}

/// What a session has to say.
#[derive(Debug)]
pub enum Outbound {
    /// An encoded frame, without length, of a stream; `None` for the session's own.
    Frame { stream: Option<Text>, message: Bytes },
    /// Nothing more comes or goes on this stream.
    Over(Text),
}

/// The connection's end.
#[derive(Debug)]
pub struct Plug {
    pub inbound: mpsc::Sender<Inbound>,
    pub out: mpsc::Receiver<Outbound>,
}

/// Makes connections: the first one, and those a session comes back on.
pub type Dial = Arc<dyn Fn() -> Dialing + Send + Sync>;
pub type Dialing = Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send>>;

/// Both ends; `carry` writes until it is over.
pub fn link<F>(encoding: Encoding, carry: impl FnOnce(Plug) -> F) -> Link
where
    F: Future<Output = ()> + Send + 'static,
{
    let (to_session, inbound) = mpsc::channel(INBOUND_MAX);
    let (to_connection, out) = mpsc::channel(OUTBOUND_MAX);
    let writer = tokio::spawn(carry(Plug { inbound: to_session, out }));
    Link { encoding, inbound, out: to_connection, writer }
}

/// Decodes a message and hands it over; false once the session needs nothing more.
pub async fn hand_over(inbound: &mpsc::Sender<Inbound>, encoding: Encoding, message: &Bytes) -> bool {
    let what = match encoding.decode(message) {
        Ok(frame) => Inbound::Frame(Box::new(frame)),
        Err(malformed) => Inbound::Malformed(malformed),
    };
    inbound.send(what).await.is_ok()
}

/// Frames read ahead of the session; each at most a megabyte, most of them a few hundred bytes.
const INBOUND_MAX: usize = 16;
/// Frames written ahead of the connection: enough for one write to carry many.
const OUTBOUND_MAX: usize = 64;
