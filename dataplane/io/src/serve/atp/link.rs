//! What joins a session to the connection that carries it: frames in, encoded frames out, both bounded.

use std::sync::Arc;

use bytes::Bytes;
use dataplane_state::ledger::{Debt, Ledger};
use dataplane_state::pipe::{self, NoPlace, pipe};
use proto_core::frame::{Encoding, Frame, Malformed};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::serve::unsent::{Share, Unsent};

/// A session's end of a connection. Dropping it tells the connection that the session needs it no more.
#[derive(Debug)]
pub struct Link {
    pub encoding: Encoding,
    pub inbound: In,
    pub out: Out,
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
    /// Until it is written; `None` where whoever carries it has an account of its own.
    pub held: Option<Held>,
}

/// What a message takes while it waits for its peer.
#[derive(Debug)]
pub struct Held {
    _debt: Debt,
    _places: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// `places`: of its connection's, where that counts what waits.
    pub fn new(debt: Debt, places: Option<OwnedSemaphorePermit>) -> Held {
        Held { _debt: debt, _places: places }
    }
}

impl Outbound {
    /// Of no stream, for a connection without an account of its own.
    pub fn alone(message: Bytes, ledger: &Arc<Ledger>) -> Outbound {
        let held = Held::new(Debt::of(ledger, message.len() as u64), None);
        Outbound { stream: None, message, is_last: false, held: Some(held) }
    }
}

/// Where frames come from.
#[derive(Debug)]
pub enum In {
    /// One reader: weighs nothing while it is empty.
    One(pipe::Receiver<Inbound>),
    /// Several readers.
    Many(mpsc::Receiver<Inbound>),
}

impl In {
    pub async fn recv(&mut self) -> Option<Inbound> {
        match self {
            In::One(pipe) => pipe.recv().await,
            In::Many(channel) => channel.recv().await,
        }
    }

    /// The next there is.
    pub fn try_recv(&mut self) -> Option<Inbound> {
        match self {
            In::One(pipe) => pipe.try_recv(),
            In::Many(channel) => channel.try_recv().ok(),
        }
    }
}

/// Where frames go.
#[derive(Debug)]
pub enum Out {
    /// To a connection, or a stream of one, that carries this session alone.
    Own(Own),
    /// To a connection whose sessions share the way; with the account of what is on it.
    Shared(mpsc::Sender<Outbound>, Arc<Ledger>),
}

/// What is on its way is in the account of its connection.
#[derive(Debug)]
pub struct Own {
    pub to: pipe::Sender<Owed>,
    pub unsent: Option<Arc<Unsent>>,
    pub ledger: Arc<Ledger>,
}

/// A frame on its way, and what it is accounted as.
#[derive(Debug)]
pub struct Owed {
    pub outbound: Outbound,
    pub share: Share,
}

/// A place for one frame.
#[derive(Debug)]
pub enum Place<'a> {
    Own { place: pipe::Place<'a, Owed>, unsent: Option<&'a Arc<Unsent>>, ledger: &'a Arc<Ledger> },
    Shared(mpsc::Permit<'a, Outbound>, &'a Arc<Ledger>),
}

impl Place<'_> {
    pub fn send(self, outbound: Outbound) {
        match self {
            Place::Own { place, unsent, ledger } => {
                let share = Share::new(unsent, ledger, outbound.message.len() as u64);
                place.send(Owed { outbound, share });
            }
            Place::Shared(permit, ledger) => {
                let held = Held::new(Debt::of(ledger, outbound.message.len() as u64), None);
                permit.send(Outbound { held: Some(held), ..outbound });
            }
        }
    }
}

impl Out {
    /// A place, where there is one now.
    pub fn try_reserve(&mut self) -> Result<Place<'_>, NoPlace> {
        match self {
            Out::Own(Own { to, unsent, ledger }) => {
                let place = to.try_reserve()?;
                Ok(Place::Own { place, unsent: unsent.as_ref(), ledger })
            }
            Out::Shared(to, ledger) => match to.try_reserve() {
                Ok(permit) => Ok(Place::Shared(permit, ledger)),
                Err(TrySendError::Full(())) => Err(NoPlace::Full),
                Err(TrySendError::Closed(())) => Err(NoPlace::Closed),
            },
        }
    }

    /// Until there is a place; false: nobody is there.
    pub async fn writable(&mut self) -> bool {
        match self {
            Out::Own(own) => own.to.writable().await,
            Out::Shared(to, _) => to.reserve().await.is_ok(),
        }
    }

    /// The session has said all it had to say.
    pub fn finish(self) {
        if let Out::Own(own) = self {
            own.to.finish();
        }
    }
}

/// The connection's end, where it carries one session and has several readers.
#[derive(Debug)]
pub struct Plug {
    pub inbound: mpsc::Sender<Inbound>,
    pub out: pipe::Receiver<Owed>,
}

/// Both ends.
pub fn link(encoding: Encoding, ledger: &Arc<Ledger>) -> (Link, Plug) {
    let (to, out) = pipe(OUTBOUND_MAX);
    let (inbound, from_connection) = mpsc::channel(INBOUND_MAX);
    let to_connection = Out::Own(Own { to, unsent: None, ledger: Arc::clone(ledger) });
    let link = Link { encoding, inbound: In::Many(from_connection), out: to_connection };
    (link, Plug { inbound, out })
}

/// A session of a connection with one reader.
pub fn branch(encoding: Encoding, out: Out) -> (Link, pipe::Sender<Inbound>) {
    let (to_session, inbound) = pipe(INBOUND_MAX);
    (Link { encoding, inbound: In::One(inbound), out }, to_session)
}

/// Frames read ahead of the session; each at most a megabyte, most of them a few hundred bytes.
const INBOUND_MAX: usize = 16;
/// Frames written ahead of the connection: enough for one write to carry many.
pub const OUTBOUND_MAX: usize = 64;
