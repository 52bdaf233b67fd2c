//! Sessions over HTTP/2: one request whose body is this end's frames and whose answer is the other's, each
//! frame behind its length.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto_core::frame::{Encoding, FRAME_BYTES_MAX};
use proto_core::model::Scheme;
use proto_core::session::{Splitter, prefixed};
use tokio::sync::mpsc;

use super::Target;
use crate::Failure;
use crate::session::link::{Inbound, Link, Outbound, Plug, hand_over, link};

pub async fn connect(target: &Target) -> Result<Link, Failure> {
    let stream = TokioIo::new(target.stream(b"h2").await?);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_BYTES)
        .initial_connection_window_size(CONNECTION_BYTES)
        .max_header_list_size(HEADER_BYTES);
    let handshake = builder.handshake(stream).await;
    let (sender, connection) = handshake.map_err(|error| target.unreachable(error))?;
    let driver = tokio::spawn(async move {
        // How it ends shows at the body.
        let _ = connection.await;
    });
    let endpoint = &target.endpoint;
    let scheme = if endpoint.scheme == Scheme::Https { "https" } else { "http" };
    let path = format!("{scheme}://{}{}/atp/v1/session", endpoint.authority(), endpoint.base_path);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(CONTENT_TYPE, target.encoding.content_type());
    if let Some(key) = &target.key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let encoding = target.encoding;
    let request = request.body(()).map_err(|error| target.unreachable(error))?;
    Ok(link(encoding, async move |plug| {
        carry(sender, request, encoding, plug).await;
        driver.abort();
    }))
}

async fn carry(mut sender: SendRequest<Frames>, request: Request<()>, encoding: Encoding, plug: Plug) {
    let Plug { inbound, out } = plug;
    let request = request.map(|()| Frames { out, is_over: false });
    // The answer's head may come as late as the other end likes: the session has a deadline for its opening.
    let failure = match sender.send_request(request).await {
        Ok(response) if response.status().is_success() => read(response, encoding, &inbound).await,
        Ok(response) => Err(refusal(response).await),
        Err(error) => Err(Failure::Broken(chain(&error))),
    };
    if let Err(failure) = failure {
        let _ = inbound.send(Inbound::Failed(failure)).await;
    }
}

async fn read(
    response: Response<Incoming>,
    encoding: Encoding,
    inbound: &mpsc::Sender<Inbound>,
) -> Result<(), Failure> {
    let mut body = response.into_body();
    let mut splitter = Splitter::new(FRAME_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Broken(chain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        splitter.on_bytes(data);
        while let Some(message) = splitter.poll().map_err(|long| Failure::Garbled(long.to_string()))? {
            // A session that is over reads on until the other end has closed as well.
            let _ = hand_over(inbound, encoding, &message).await;
        }
    }
    Ok(())
}

async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status().as_u16();
    let said = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let said = said.map(|said| String::from_utf8_lossy(&said.to_bytes()).into_owned());
    Failure::Rejected { status, said: said.unwrap_or_default() }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// What a session says, as the body of a request: ends with the session.
struct Frames {
    out: mpsc::Receiver<Outbound>,
    is_over: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut data = BytesMut::new();
        // Many small frames in one: a receiver charges for each that is small.
        while data.len() < TOGETHER_BYTES && !self.is_over {
            match self.out.poll_recv(cx) {
                Poll::Ready(Some(Outbound::Frame { message, .. })) => {
                    data.extend_from_slice(&prefixed(&message));
                    data.extend_from_slice(&message);
                }
                Poll::Ready(Some(Outbound::Over(_))) => {}
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => break,
            }
        }
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data.freeze()))));
        }
        if self.is_over { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// What is read ahead of the session. All its streams at their credit, and a long message.
const STREAM_BYTES: u32 = 2 << 20;
const CONNECTION_BYTES: u32 = 4 << 20;
const HEADER_BYTES: u32 = 16 * 1024;
/// A write's worth.
const TOGETHER_BYTES: usize = 16 * 1024;
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
