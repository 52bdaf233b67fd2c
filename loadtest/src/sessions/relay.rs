//! A relay that is nothing but quinn: frames from one mutually authenticated connection to another.
//!
//! What it is for: what any relay of frames over QUIC must spend at least, measured beside ours. Three parts:
//! the relay, a far end that speaks at a pace, and a near end that counts. What it never does: look into a
//! frame, or hold one back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto_core::frame::{Encoding, FRAME_BYTES_MAX, RawJson, Text};
use proto_core::session::{Message, Place, Splitter, prefixed};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};

use super::certs::Certs;
use super::clients::Count;
use super::pace::Pace;

/// Relays whatever comes to `upstream`, one connection for one.
pub(crate) async fn relay(certs: &Certs, listen: SocketAddr, upstream: SocketAddr) -> Result<(), String> {
    let endpoint = server(certs, listen)?;
    while let Some(incoming) = endpoint.accept().await {
        let certs = certs.clone();
        tokio::spawn(async move {
            let Ok(near) = incoming.await else { return };
            let Ok((_endpoint, far)) = connect(&certs, upstream).await else { return };
            while let Ok((near_send, near_receive)) = near.accept_bi().await {
                let Ok((far_send, far_receive)) = far.open_bi().await else { return };
                tokio::spawn(copy(near_receive, far_send));
                tokio::spawn(copy(far_receive, near_send));
            }
        });
    }
    Ok(())
}

/// Frame by frame; those that came in one piece go in one.
async fn copy(mut from: RecvStream, mut to: SendStream) {
    let mut splitter = Splitter::new(FRAME_BYTES_MAX);
    let mut chunks = Vec::new();
    while let Ok(Some(chunk)) = from.read_chunk(CHUNK_BYTES, true).await {
        splitter.on_bytes(chunk.bytes);
        while let Ok(Some(message)) = splitter.poll() {
            chunks.push(Bytes::copy_from_slice(&prefixed(&message)));
            chunks.push(message);
        }
        if to.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
    }
    let _ = to.finish();
}

/// Answers every stream with frames such as a session's, as `pace` says.
pub(crate) async fn far(certs: &Certs, listen: SocketAddr, pace: Pace) -> Result<(), String> {
    let endpoint = server(certs, listen)?;
    let frame = frame()?;
    while let Some(incoming) = endpoint.accept().await {
        let frame = frame.clone();
        tokio::spawn(async move {
            let Ok(near) = incoming.await else { return };
            while let Ok((mut send, mut receive)) = near.accept_bi().await {
                let frame = frame.clone();
                tokio::spawn(async move {
                    if receive.read_to_end(FRAME_BYTES_MAX).await.is_err() {
                        return;
                    }
                    let mut ticks = pace.ticks();
                    for _ in 0..pace.tokens {
                        ticks.tick().await;
                        let mut chunks = [Bytes::copy_from_slice(&prefixed(&frame)), frame.clone()];
                        if send.write_all_chunks(&mut chunks).await.is_err() {
                            return;
                        }
                    }
                    let _ = send.finish();
                });
            }
        });
    }
    Ok(())
}

/// A token of an answer as the data plane tells it to a peer.
pub(crate) fn frame() -> Result<Bytes, String> {
    let chunk = super::pace::chunk(7).to_string();
    let content = RawJson::parse(Bytes::from(chunk)).map_err(|malformed| malformed.to_string())?;
    let message = Message { adapter: Some("dialed".into()), ..Message::new("agent.result.partial", content) };
    let place = Place {
        session_id: Text::from("5f2b6c1de07a4438"),
        stream_id: Text::from("17"),
        msg_seq: 7,
        ..Place::default()
    };
    Encoding::Bin.encode(&message.into_frame(place)).map_err(|malformed| malformed.to_string())
}

/// Asks on `streams` streams, again and again, and counts what comes.
pub(crate) async fn near(
    certs: &Certs,
    relay: SocketAddr,
    streams: usize,
    count: Count,
) -> Result<(), String> {
    let (_endpoint, connection) = connect(certs, relay).await?;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let (connection, count, question) = (connection.clone(), count.clone(), frame()?);
        asking.spawn(async move {
            while !count.is_over() {
                ask(&connection, &question, &count).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.map_err(|error| error.to_string())??;
    }
    Ok(())
}

async fn ask(connection: &Connection, question: &Bytes, count: &Count) -> Result<(), String> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    let mut chunks = [Bytes::copy_from_slice(&prefixed(question)), question.clone()];
    send.write_all_chunks(&mut chunks).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())?;
    let mut splitter = Splitter::new(FRAME_BYTES_MAX);
    while let Some(chunk) = receive.read_chunk(CHUNK_BYTES, true).await.map_err(|error| error.to_string())? {
        splitter.on_bytes(chunk.bytes);
        while let Some(message) = splitter.poll().map_err(|error| error.to_string())? {
            // A near end reads its frames, as a session's does.
            Encoding::Bin.decode(&message).map_err(|error| error.to_string())?;
            count.one();
        }
    }
    Ok(())
}

fn server(certs: &Certs, listen: SocketAddr) -> Result<Endpoint, String> {
    let crypto = QuicServerConfig::try_from(certs.server(ALPN)?).map_err(|error| error.to_string())?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Endpoint::server(config, listen).map_err(|error| format!("{listen}: {error}"))
}

async fn connect(certs: &Certs, to: SocketAddr) -> Result<(Endpoint, Connection), String> {
    let crypto = QuicClientConfig::try_from(certs.client(ALPN)?).map_err(|error| error.to_string())?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).map_err(|error| error.to_string())?;
    let connecting = endpoint.connect_with(config, to, "localhost").map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| format!("{to}: {error}"))?;
    Ok((endpoint, connection))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_MAX)
        .stream_receive_window(STREAM_BYTES)
        .receive_window(CONNECTION_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

const ALPN: &[u8] = b"relay";
/// As the data plane reads.
const CHUNK_BYTES: usize = 64 * 1024;
/// As the data plane allows a peer that it knows.
const STREAMS_MAX: VarInt = VarInt::from_u32(1100);
const STREAM_BYTES: VarInt = VarInt::from_u32(256 * 1024);
const CONNECTION_BYTES: VarInt = VarInt::from_u32(8 * 1024 * 1024);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_far_end_says_arrives_frame_by_frame_through_the_relay() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let certs = Certs::make(directory.path()).unwrap();
        let any = || SocketAddr::from((Ipv4Addr::LOCALHOST, super::super::stage::free_udp_port().unwrap()));
        let (at, upstream) = (any(), any());
        let pace = Pace { tokens: 30, token_rate: 0 };
        let (far_certs, relay_certs) = (certs.clone(), certs.clone());
        let served = tokio::spawn(async move { far(&far_certs, upstream, pace).await });
        let relayed = tokio::spawn(async move { relay(&relay_certs, at, upstream).await });
        let (_endpoint, connection) = connect(&certs, at).await.unwrap();
        let count = Count::default();
        for _ in 0..3 {
            ask(&connection, &frame().unwrap(), &count).await.unwrap();
        }
        assert_eq!(count.so_far(), 90);
        served.abort();
        relayed.abort();
    }
}
