//! An answer on its way into one stream: as fast as its client takes it, and no longer than it wants it. A
//! broken answer ends with a reset, never with a clean end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};
use http_body::{Body as _, Frame};
use tokio::time::{sleep, timeout};

use super::transport::Writing;
use crate::clock;
use crate::relay::Cut;
use crate::serve::answer::AnswerBody;
use crate::serve::unsent::Parcel;
use crate::worker::Worker;

type Stream = RequestStream<Writing<Parcel>, Parcel>;

/// Sends an answer until its end, the client's, or until the client takes nothing for too long.
pub async fn send(
    worker: &Worker,
    mut stream: Stream,
    stopped: Pin<&mut impl Future>,
    response: Response<AnswerBody>,
    is_head: bool,
) {
    let (mut head, body) = response.into_parts();
    if let Some(bytes) = body.size_hint().exact()
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    // Over TCP the library does this.
    head.headers.entry(DATE).or_insert_with(clock::date);
    let sending = pass(worker, &mut stream, Response::from_parts(head, ()), body, is_head);
    let end = tokio::select! {
        biased;
        end = sending => end,
        _ = stopped => return,
    };
    match end {
        Ok(()) => {}
        Err(End::Broken) => {
            // A reset overtakes what is on its way, and that is why the answer broke.
            sleep(ARRIVES_WAIT).await;
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
        Err(End::Slow) => {
            worker.tally.clients_too_slow.one();
            stream.stop_stream(Code::H3_EXCESSIVE_LOAD);
        }
        Err(End::Gone(error)) => tracing::debug!(%error, "a client over HTTP/3 is gone"),
    }
}

/// Why an answer ends early.
enum End {
    Broken,
    Slow,
    Gone(StreamError),
}

async fn pass(
    worker: &Worker,
    stream: &mut Stream,
    head: Response<()>,
    mut body: AnswerBody,
    is_head: bool,
) -> Result<(), End> {
    taken(worker, stream.send_response(head)).await?;
    while !is_head && let Some(frame) = next(&mut body).await {
        match frame.map_err(|_| End::Broken)?.into_data() {
            Ok(parcel) => taken(worker, stream.send_data(parcel)).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    taken(worker, stream.send_trailers(trailers)).await?;
                }
            }
        }
    }
    taken(worker, stream.finish()).await
}

async fn next(body: &mut AnswerBody) -> Option<Result<Frame<Parcel>, Cut>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// A piece is taken in time, or its client is too slow; sooner where this worker is hard pressed.
async fn taken(worker: &Worker, sent: impl Future<Output = Result<(), StreamError>>) -> Result<(), End> {
    match timeout(worker.ledger.level().patience(TAKES_WAIT), sent).await {
        Ok(sent) => sent.map_err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}

/// For one piece, 64 KiB at most: as long as a connection over HTTP/2 may take nothing.
const TAKES_WAIT: Duration = Duration::from_secs(30);
/// For the last piece of a broken answer: a few ways there and back.
const ARRIVES_WAIT: Duration = Duration::from_millis(200);
