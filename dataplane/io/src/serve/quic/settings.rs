//! What a QUIC connection may take, before and after its peer is known.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{AckFrequencyConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, VarInt};

/// Protocols this port speaks, the best first.
pub const PROTOCOLS: &[&[u8]] = &[
    ATP,
    #[cfg(feature = "http3")]
    HTTP3,
];
pub const ATP: &[u8] = b"atp/1";
#[cfg(feature = "http3")]
pub const HTTP3: &[u8] = b"h3";

/// For an endpoint that begins. One that goes on keeps its own, with new keys put in: what clients hold to
/// prove their addresses stays true.
pub fn server(keys: Arc<rustls::ServerConfig>) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(crypto(keys)?);
    config
        .transport_config(Arc::new(transport()))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(config)
}

/// What a handshake is made with.
pub fn crypto(
    keys: Arc<rustls::ServerConfig>,
) -> Result<Arc<dyn quinn::crypto::ServerConfig>, NoInitialCipherSuite> {
    Ok(Arc::new(QuicServerConfig::try_from(keys)?))
}

/// Lets a peer that showed a certificate have more: an agent's session has a stream for each piece of work.
pub fn trust(connection: &Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_TRUSTED));
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_TRUSTED));
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED));
    let idle = IdleTimeout::try_from(IDLE_WAIT).expect("half a minute is an idle timeout");
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(CRYPTO_BYTES)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None)
        .ack_frequency_config(Some(acks))
        .allow_spin(false);
    transport
}

/// What a peer that can is asked for (draft-ietf-quic-ack-frequency): an acknowledgement for so many packets
/// instead of two, and none later than its own delay. Each costs a wake-up here, and answers are many small
/// packets.
const UNACKNOWLEDGED: u32 = 10;
/// Requests at once on one connection, as over HTTP/2.
const STREAMS: u32 = 100;
/// A session's thousand and some, for those that follow on ones about to end.
const STREAMS_TRUSTED: u32 = 1100;
/// HTTP/3 has three (RFC 9114 section 6.2), and some for those that mean nothing.
const UNI_STREAMS: u32 = 8;
/// A prompt of common size in one flight, as over HTTP/2.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Of all streams of a connection, unread: two streams' worth,
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// and eight times a message of the largest size in fragments for a peer that is known.
const CONNECTION_WINDOW_TRUSTED: u32 = 8 * 1024 * 1024;
/// Written and not acknowledged: 80 Mbit/s at a tenth of a second from the client.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Of a handshake out of order: a chain of certificates is a few KiB.
const CRYPTO_BYTES: usize = 16 * 1024;
/// Without a packet, the peer is gone.
const IDLE_WAIT: Duration = Duration::from_secs(30);
/// Keeps the way open while a model thinks; translating routers forget after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// First datagrams that wait to be looked at,
const INCOMING_MAX: usize = 1024;
/// and what more of each connection is kept meanwhile: a second datagram of a large greeting, twice.
const INCOMING_BYTES: u64 = 4 * 1500;
