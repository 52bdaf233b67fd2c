//! Sessions over a WebSocket: a message each frame, text where it is JSON.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Request};
use proto_core::frame::{Encoding, FRAME_BYTES_MAX};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Stream, Target};
use crate::Failure;
use crate::session::link::{Inbound, Link, Outbound, Plug, hand_over, link};

type Socket = WebSocketStream<Box<dyn Stream>>;

pub async fn connect(target: &Target) -> Result<Link, Failure> {
    let stream = target.stream(b"http/1.1").await?;
    let request = request(target)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let (socket, response) = match client_async_with_config(request, stream, Some(config)).await {
        Ok(opened) => opened,
        Err(tungstenite::Error::Http(response)) => {
            let said = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            return Err(Failure::Rejected { status: response.status().as_u16(), said: said.into_owned() });
        }
        Err(error) => return Err(target.unreachable(error)),
    };
    let agreed = response.headers().get(SEC_WEBSOCKET_PROTOCOL).map(HeaderValue::as_bytes);
    if agreed != Some(target.encoding.subprotocol().as_bytes()) {
        return Err(target.unreachable("it speaks WebSocket, but not this encoding of ATP's frames"));
    }
    let encoding = target.encoding;
    Ok(link(encoding, move |plug| carry(socket, encoding, plug)))
}

fn request(target: &Target) -> Result<Request<()>, Failure> {
    let endpoint = &target.endpoint;
    let url = format!("ws://{}{}/ws", endpoint.authority(), endpoint.base_path);
    let mut request = url.into_client_request().map_err(|error| target.unreachable(error))?;
    let headers = request.headers_mut();
    let protocol = HeaderValue::from_static(target.encoding.subprotocol());
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    if let Some(key) = &target.key {
        let key = HeaderValue::try_from(format!("Bearer {key}")).expect("the key was checked");
        headers.insert(AUTHORIZATION, key);
    }
    Ok(request)
}

async fn carry(socket: Socket, encoding: Encoding, plug: Plug) {
    let Plug { inbound, out } = plug;
    let (sink, stream) = socket.split();
    let mut reading = tokio::spawn(read(stream, encoding, inbound));
    tokio::select! {
        () = write(sink, encoding, out) => {
            // The other end answers the closing, or the time of last words is over.
            let _ = (&mut reading).await;
        }
        _ = &mut reading => {}
    }
    reading.abort();
}

async fn read(mut stream: SplitStream<Socket>, encoding: Encoding, inbound: mpsc::Sender<Inbound>) {
    while let Some(message) = stream.next().await {
        let message = match message {
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) => return,
            Err(error) => {
                let _ = inbound.send(Inbound::Failed(Failure::Broken(error.to_string()))).await;
                return;
            }
        };
        // A session that is over reads on until the other end has closed as well.
        let _ = hand_over(&inbound, encoding, &message).await;
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, encoding: Encoding, mut out: mpsc::Receiver<Outbound>) {
    let mut ready = Vec::with_capacity(TOGETHER_MAX);
    while out.recv_many(&mut ready, TOGETHER_MAX).await > 0 {
        for said in ready.drain(..) {
            let Outbound::Frame { message, .. } = said else { continue };
            let message = match encoding {
                Encoding::Json => match Utf8Bytes::try_from(message) {
                    Ok(text) => Message::Text(text),
                    // JSON is written as UTF-8; what is not cannot be told.
                    Err(_) => continue,
                },
                Encoding::Cbor | Encoding::Bin => Message::Binary(message),
            };
            if sink.feed(message).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

/// Of one connection; the default of the library, 128 KiB, is more than a session holds.
const READ_BYTES: usize = 8 * 1024;
/// Frames that share one write.
const TOGETHER_MAX: usize = 64;
