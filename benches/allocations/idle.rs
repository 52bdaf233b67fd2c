//! What an idle session keeps beyond the connection that carries it: bytes that worker threads hold after
//! each of many connections has opened a session, had one request answered on a stream that stays open, and
//! acknowledged all of it; less what they held when the same connections were ready to carry one.

mod carriage;
mod client;

use std::net::SocketAddr;

use rustls::ClientConfig;

use self::carriage::Carriage;
use self::client::Client;
use crate::counting;

/// Where the data plane is, and whom to believe over QUIC.
pub struct Doors {
    pub http: SocketAddr,
    pub quic: SocketAddr,
    pub tls: ClientConfig,
}

/// Prints each figure; false where one is above the bound.
pub fn measure(runtime: &tokio::runtime::Runtime, doors: &Doors, tells_where: bool) -> bool {
    println!("{:<52} {:>12} {:>8}", "an idle session, one stream open", "bytes", "bound");
    let ways = WAYS.iter();
    ways.fold(true, |is_sound, way| is_sound & runtime.block_on(of(*way, doors, tells_where)))
}

async fn of((way, bytes_max): (&'static str, f64), doors: &Doors, tells_where: bool) -> bool {
    // What is allocated once, and what the first leave behind, is no session's.
    let mut warm = Vec::new();
    for number in 0..WARM_UP {
        let mut client = Client::new(connected(way, doors, number).await, way, number);
        client.converse().await;
        warm.push(client);
    }
    let mut ready = Vec::new();
    for number in WARM_UP..WARM_UP + SESSIONS {
        ready.push((number, connected(way, doors, number).await));
    }
    let mut clients = Vec::new();
    let before = counting::held_at_rest().await;
    for (number, carriage) in ready {
        let mut client = Client::new(carriage, way, number);
        client.converse().await;
        clients.push(client);
    }
    let after = counting::held_at_rest().await;
    let each = (after.bytes() - before.bytes()) as f64 / f64::from(SESSIONS);
    let is_within = each <= bytes_max;
    let note = if is_within { "" } else { "  MORE" };
    println!("{way:<52} {each:>12.0} {bytes_max:>8}{note}");
    for (size, count) in after.more_than(&before).into_iter().take(if tells_where { 40 } else { 0 }) {
        println!("  {:.2} × {size} bytes", count as f64 / f64::from(SESSIONS));
    }
    is_within
}

async fn connected(way: &str, doors: &Doors, number: u32) -> Carriage {
    match way {
        "over WebSocket" => Carriage::websocket(doors.http).await,
        "over HTTP/2" => Carriage::http2(doors.http).await,
        _ => Carriage::quic(doors.quic, doors.tls.clone(), number).await,
    }
}

/// What may carry a session, and what that may weigh. Over WebSocket 724 bytes of it are what the library
/// keeps to write the longest frame so far in; over QUIC the two streams and their readers are part of it,
/// of which there is nothing before a session is said.
const WAYS: [(&str, f64); 3] =
    [("over WebSocket", 4096.0 + 724.0), ("over HTTP/2", 4096.0), ("over QUIC", 15.0 * 1024.0)];
const WARM_UP: u32 = 20;
const SESSIONS: u32 = 100;
