//! Frames as they come on one stream of a connection. What was received in one packet is not copied.

use std::convert::Infallible;

use bytes::Bytes;
use proto_core::frame::{Encoding, FlagSet, Frame, Malformed, RawJson, Text};
use proto_core::session::{Message, Place, kind};
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Arrival;
use crate::serve::atp::cutter::{Begun, Cutter};
use crate::serve::atp::link::Inbound;
use crate::serve::guard::HEAD_WAIT;

/// One direction of a stream, from its first byte on.
pub struct Reader {
    receive: RecvStream,
    cutter: Cutter,
    encoding: Encoding,
    is_reset: bool,
}

/// Held by a stream's reader: its end tells the writer that nothing more of the peer is to be answered there.
pub type Reading = oneshot::Sender<Infallible>;
pub type Ended = oneshot::Receiver<Infallible>;

impl Reader {
    /// Reads the byte that names the encoding.
    pub async fn begin(mut receive: RecvStream, begun: &Begun) -> Option<Reader> {
        let mut byte = [0];
        receive.read_exact(&mut byte).await.ok()?;
        let Some(encoding) = Encoding::of_byte(byte[0]) else {
            let _ = receive.stop(NOT_AN_ENCODING);
            return None;
        };
        Some(Reader::of(receive, encoding, begun))
    }

    /// Of a stream that this end opened: the peer names no encoding.
    pub fn of(receive: RecvStream, encoding: Encoding, begun: &Begun) -> Reader {
        Reader { receive, cutter: Cutter::new(begun), encoding, is_reset: false }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The next frame; `None` at the end of the stream, or where nothing behind can be understood.
    pub async fn next(&mut self) -> Option<Result<Box<Frame>, Malformed>> {
        loop {
            match self.cutter.poll() {
                Ok(Some(message)) => return Some(self.encoding.decode(&message).map(Box::new)),
                Ok(None) => {
                    let piece = self.piece().await?;
                    self.cutter.on_bytes(piece);
                }
                Err(uncut) => {
                    tracing::debug!(%uncut, "a stream of a session cannot be read on");
                    let _ = self.receive.stop(UNREADABLE);
                    self.is_reset = true;
                    return None;
                }
            }
        }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        match self.receive.read_chunk(CHUNK_BYTES, true).await {
            Ok(chunk) => chunk.map(|chunk| chunk.bytes),
            Err(error) => {
                self.is_reset = matches!(error, ReadError::Reset(_));
                None
            }
        }
    }

    /// Hands on all there is. False once the session is over.
    pub async fn read(&mut self, to: &mpsc::Sender<Inbound>) -> bool {
        while let Some(read) = self.next().await {
            let inbound = match read {
                Ok(frame) => Inbound::Frame(frame),
                Err(malformed) => Inbound::Malformed(malformed),
            };
            if to.send(inbound).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The same for one stream of the session; a reset says that it is over.
    pub async fn read_stream(&mut self, of: &Of) {
        if self.read(&of.inbound).await && self.is_reset {
            of.reset().await;
        }
    }

    /// Whether it ended without an end, or where nothing could be understood any more.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }
}

/// A stream of a session, and where its frames go.
#[derive(Clone)]
pub struct Of {
    pub session: Text,
    pub stream: Text,
    pub inbound: mpsc::Sender<Inbound>,
    pub begun: Begun,
}

impl Of {
    /// The peer wants no more of it: what it means that resets or stops a QUIC stream, as a frame.
    pub async fn reset(&self) {
        // A session that is over needs no telling.
        let _ = self.inbound.send(self.broken()).await;
    }

    /// Apart, so that no stream's task has room for a frame while it waits.
    fn broken(&self) -> Inbound {
        let content = RawJson::parse(RESET).expect("an error as the protocol has it");
        let (session_id, stream_id) = (self.session.clone(), self.stream.clone());
        let place = Place { session_id, stream_id, ..Place::default() };
        let mut frame = Message::new(Text::of_static(kind::ERROR), content).into_frame(place);
        frame.flags = FlagSet::RST.into();
        Inbound::Frame(Box::new(frame))
    }
}

/// A stream that the peer opened, to its end.
pub async fn stream(
    encoding: Encoding,
    session: Text,
    send: SendStream,
    receive: RecvStream,
    inbound: mpsc::Sender<Inbound>,
    arrivals: mpsc::Sender<Box<Arrival>>,
    begun: Begun,
) {
    let Ok(Some(mut reader)) = timeout(HEAD_WAIT, Reader::begin(receive, &begun)).await else { return };
    // What is answered here is written as the session was agreed on.
    if reader.encoding() != encoding {
        let _ = reader.receive.stop(NOT_AN_ENCODING);
        return;
    }
    let first = loop {
        match reader.next().await {
            Some(Ok(frame)) => break frame,
            Some(Err(malformed)) => {
                if inbound.send(Inbound::Malformed(malformed)).await.is_err() {
                    return;
                }
            }
            None => return,
        }
    };
    // A name of its own: the frame's would keep all of the frame.
    let of = Of { session, stream: Text::from(first.stream_id.as_str()), inbound, begun };
    let (reading, ended) = oneshot::channel();
    let arrival = Box::new(Arrival { of: of.clone(), send, ended });
    if arrivals.send(arrival).await.is_err() || of.inbound.send(Inbound::Frame(first)).await.is_err() {
        return;
    }
    reader.read_stream(&of).await;
    drop::<Reading>(reading);
}

const RESET: &[u8] = br#"{"code":"EPROTO","reason":"the QUIC stream was reset"}"#;
/// Read at once: more than a packet, so that what waits is taken as it came.
const CHUNK_BYTES: usize = 64 * 1024;
const NOT_AN_ENCODING: VarInt = VarInt::from_u32(5);
/// A frame longer than any, or no memory for its rest.
const UNREADABLE: VarInt = VarInt::from_u32(6);
