//! Sessions over QUIC (ALPN `atp/1`): the first bidirectional stream carries the session's own frames, each
//! further one an ATP stream, opened by whoever speaks on it first. What is lost of one holds back no other.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto_core::frame::{Encoding, FRAME_BYTES_MAX, Text};
use proto_core::session::{Splitter, prefixed};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream,
    SendStream, TransportConfig, VarInt,
};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Target, tls};
use crate::Failure;
use crate::session::link::{Inbound, Link, Outbound, Plug, link};
use crate::session::queue;

pub async fn connect(target: &Target) -> Result<Link, Failure> {
    let endpoint = &target.endpoint;
    let crypto = tls::client(&target.tls, ALPN)?;
    let crypto = QuicClientConfig::try_from(crypto).map_err(|error| Failure::Tls(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let places = lookup_host((&*endpoint.host, endpoint.port)).await;
    let mut why = target.unreachable("the name has no address");
    for place in places.map_err(|error| target.unreachable(error))? {
        match connect_to(target, place, config.clone()).await {
            Ok((local, connection)) => {
                let encoding = target.encoding;
                return Ok(link(encoding, async move |plug| {
                    carry(&connection, encoding, plug).await;
                    // Whoever waits for the end of this waits until the other end knows.
                    local.wait_idle().await;
                }));
            }
            Err(failure) => why = failure,
        }
    }
    Err(why)
}

async fn connect_to(
    target: &Target,
    place: SocketAddr,
    config: ClientConfig,
) -> Result<(Endpoint, Connection), Failure> {
    let any: SocketAddr = match place {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let local = Endpoint::client(any).map_err(|error| target.unreachable(error))?;
    let connecting = local.connect_with(config, place, &target.endpoint.host);
    let connecting = connecting.map_err(|error| target.unreachable(error))?;
    let connection = connecting.await.map_err(|error| target.unreachable(error))?;
    Ok((local, connection))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(UNACKNOWLEDGED);
    let idle = IdleTimeout::try_from(IDLE).expect("half a minute is a timeout");
    transport
        .ack_frequency_config(Some(acks))
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(STREAMS_MAX)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_BYTES)
        .receive_window(CONNECTION_BYTES);
    transport
}

/// A QUIC stream of ours to write on, as soon as it is known.
enum Bound {
    /// The other end opened one for this ATP stream.
    Here(Text, SendStream),
    Failed(Failure),
}

async fn carry(connection: &Connection, encoding: Encoding, plug: Plug) {
    let Plug { inbound, mut out } = plug;
    let (bound, mut bounds) = mpsc::channel(BOUNDS_MAX);
    let readers = Readers { encoding, inbound: inbound.clone(), bound };
    let mut carried = Carried {
        connection,
        encoding,
        readers,
        writers: HashMap::new(),
        reading: JoinSet::new(),
        writing: JoinSet::new(),
    };
    // The first stream is the session's own: no other is opened before it.
    let control = match open(connection, encoding).await {
        Ok((send, receive)) => carried.begun(send, receive),
        Err(failure) => return drop(inbound.send(Inbound::Failed(failure)).await),
    };
    carried.writers.insert(Text::default(), control);
    let failure = loop {
        tokio::select! {
            said = out.recv() => match said {
                Some(Outbound::Frame { stream, message }) => {
                    carried.write(stream.unwrap_or_default(), message);
                }
                Some(Outbound::Over(id)) => drop(carried.writers.remove(&id)),
                None => break None,
            },
            opened = connection.accept_bi() => match opened {
                Ok((send, receive)) => carried.accept(send, receive),
                Err(error) => break Some(broken(&error)),
            },
            Some(bound) = bounds.recv() => match bound {
                Bound::Here(id, send) => {
                    if !carried.writers.contains_key(&id) {
                        let writer = carried.writer(send);
                        carried.writers.insert(id, writer);
                    }
                }
                Bound::Failed(failure) => break Some(failure),
            },
            Some(_) = carried.reading.join_next() => {}
            Some(_) = carried.writing.join_next() => {}
        }
    };
    match failure {
        Some(failure) => drop(inbound.send(Inbound::Failed(failure)).await),
        None => carried.end().await,
    }
    connection.close(VarInt::from_u32(0), b"");
}

/// What reads a QUIC stream needs.
#[derive(Clone)]
struct Readers {
    encoding: Encoding,
    inbound: mpsc::Sender<Inbound>,
    bound: mpsc::Sender<Bound>,
}

struct Carried<'c> {
    connection: &'c Connection,
    encoding: Encoding,
    readers: Readers,
    /// By ATP stream; the session's own is "". Each is bounded by the credit of its stream, which the session
    /// keeps.
    writers: HashMap<Text, mpsc::UnboundedSender<Bytes>>,
    reading: JoinSet<()>,
    writing: JoinSet<()>,
}

impl Carried<'_> {
    fn begun(&mut self, send: SendStream, receive: RecvStream) -> mpsc::UnboundedSender<Bytes> {
        let readers = self.readers.clone();
        self.reading.spawn(async move { readers.told(readers.read(receive, None).await).await });
        self.writer(send)
    }

    fn write(&mut self, id: Text, message: Bytes) {
        let writer = match self.writers.get(&id) {
            Some(writer) => writer,
            None => {
                let writer = self.opening();
                self.writers.entry(id).or_insert(writer)
            }
        };
        // One that was stopped by the other end: its reset comes as a frame.
        let _ = writer.send(message);
    }

    /// Writes as soon as there is a stream. The other end may allow no more for now: those that end make
    /// room, and end only if this goes on meanwhile.
    fn opening(&mut self) -> mpsc::UnboundedSender<Bytes> {
        // Bounded by the stream's credit.
        let (to, messages) = queue::<Bytes>();
        let (connection, encoding, readers) = (self.connection.clone(), self.encoding, self.readers.clone());
        self.writing.spawn(async move {
            match open(&connection, encoding).await {
                Ok((send, receive)) => {
                    // Ends with the connection at the latest.
                    tokio::spawn(async move { readers.told(readers.read(receive, None).await).await });
                    write(send, messages).await;
                }
                Err(failure) => readers.told(Err(failure)).await,
            }
        });
        to
    }

    fn accept(&mut self, send: SendStream, receive: RecvStream) {
        let readers = self.readers.clone();
        self.reading.spawn(async move { readers.told(readers.read(receive, Some(send)).await).await });
    }

    fn writer(&mut self, send: SendStream) -> mpsc::UnboundedSender<Bytes> {
        // Bounded by the stream's credit.
        let (to, messages) = queue::<Bytes>();
        self.writing.spawn(write(send, messages));
        to
    }

    /// Writes what is left and waits until it has arrived.
    async fn end(mut self) {
        self.writers.clear();
        while self.writing.join_next().await.is_some() {}
    }
}

/// A stream to the other end, which names the encoding.
async fn open(connection: &Connection, encoding: Encoding) -> Result<(SendStream, RecvStream), Failure> {
    let (mut send, receive) = connection.open_bi().await.map_err(|error| broken(&error))?;
    send.write_all(&[encoding.byte()]).await.map_err(|error| broken(&error))?;
    Ok((send, receive))
}

async fn write(mut send: SendStream, mut messages: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        let length = Bytes::copy_from_slice(&prefixed(&message));
        if send.write_all_chunks(&mut [length, message]).await.is_err() {
            return;
        }
    }
    let _ = send.finish();
    // Until the other end has it all, or cares no more.
    let _ = send.stopped().await;
}

impl Readers {
    /// Reads a QUIC stream to its end. `send`: its other direction, where the other end opened it.
    async fn read(&self, mut receive: RecvStream, mut send: Option<SendStream>) -> Result<(), Failure> {
        let mut encoding = self.encoding;
        let mut splitter = Splitter::new(FRAME_BYTES_MAX);
        let mut is_begun = send.is_none();
        while let Ok(Some(chunk)) = receive.read_chunk(CHUNK_BYTES, true).await {
            let mut data = chunk.bytes;
            if !is_begun {
                let first = data.split_to(1)[0];
                let unknown = || Failure::Garbled(format!("a stream in encoding {first}"));
                encoding = Encoding::of_byte(first).ok_or_else(unknown)?;
                is_begun = true;
            }
            splitter.on_bytes(data);
            while let Some(message) = splitter.poll().map_err(|long| Failure::Garbled(long.to_string()))? {
                let what = match encoding.decode(&message) {
                    Ok(frame) => {
                        if let Some(send) = send.take() {
                            let _ = self.bound.send(Bound::Here(frame.stream_id.clone(), send)).await;
                        }
                        Inbound::Frame(Box::new(frame))
                    }
                    Err(malformed) => Inbound::Malformed(malformed),
                };
                // A session that is over reads on until the other end has closed as well.
                let _ = self.inbound.send(what).await;
            }
        }
        Ok(())
    }

    async fn told(&self, read: Result<(), Failure>) {
        if let Err(failure) = read {
            let _ = self.bound.send(Bound::Failed(failure)).await;
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Broken(error.to_string())
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Failure {
        broken(&error)
    }
}

const ALPN: &[u8] = b"atp/1";
/// Beside heartbeats: a connection that is silent for so long is gone.
const IDLE: Duration = Duration::from_secs(30);
/// An acknowledgement for so many packets instead of two (draft-ietf-quic-ack-frequency), and none later
/// than the other end's own delay: an adapter's answers are many small packets, and each acknowledgement
/// wakes both.
const UNACKNOWLEDGED: VarInt = VarInt::from_u32(10);
/// Streams the other end may have open here: as many as a session takes, and the control stream.
const STREAMS_MAX: VarInt = VarInt::from_u32(1100);
/// A stream's credit in content, and room for the frames around it.
const STREAM_BYTES: VarInt = VarInt::from_u32(512 << 10);
const CONNECTION_BYTES: VarInt = VarInt::from_u32(8 << 20);
const CHUNK_BYTES: usize = 64 * 1024;
const BOUNDS_MAX: usize = 16;
