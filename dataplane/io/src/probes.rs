//! The port of probes: health and metrics alone, so that orchestrators and scrapers of other machines reach
//! them and nothing else. On the runtime of the admin port. Whoever reaches it is unknown, so a connection is
//! one request, has seconds for it, and there are few of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::admin::is_foreign;
use crate::serve::answer::AnswerBody;
use crate::serve::health::{self, What};
use crate::worker::Shared;

/// Serves until the process ends.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let answer = move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            // As on the admin port: a page in this machine's browser is somebody else.
            if is_loopback && is_foreign(request.headers()) {
                return said(StatusCode::FORBIDDEN, "this port is for programs on this machine\n");
            }
            let what = match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, path) => page(path),
                _ => None,
            };
            match what {
                Some(Page::Live) => said(StatusCode::OK, "ok\n"),
                Some(Page::Of(what)) => health::answer(&shared, what).await,
                None => said(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"),
            }
        }
    };
    accept(listener, CONNECTION_WAIT, answer).await;
}

enum Page {
    Live,
    Of(What),
}

fn page(path: &str) -> Option<Page> {
    match path {
        "/healthz/live" => Some(Page::Live),
        "/healthz" => Some(Page::Of(What::Health)),
        "/readyz" | "/healthz/ready" => Some(Page::Of(What::Ready)),
        "/metrics" => Some(Page::Of(What::Metrics)),
        _ => None,
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(text));
    *response.status_mut() = status;
    response
}

/// One request a connection, each within `wait`; one connection more than there may be is closed at once.
async fn accept<Answering>(
    listener: TcpListener,
    wait: Duration,
    answer: impl Fn(Request<Incoming>) -> Answering + Clone + Send + 'static,
) where
    Answering: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answering = answer(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let mut http = http1::Builder::new();
            http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(wait);
            // Whoever goes away early, or too late, has lost nothing.
            let _ = timeout(wait, http.serve_connection(TokioIo::new(socket), service)).await;
            drop(place);
        });
    }
}

/// Kubelet, two scrapers, and somebody who looks.
const CONNECTIONS_MAX: usize = 32;
/// Of a connection, its request and its answer: as long as scrapers wait.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// After a failed accept: most likely there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn port(wait: Duration) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, wait, |_| async { said(StatusCode::OK, "well\n") }));
        address
    }

    /// All that comes until the connection ends; a reset is an end.
    async fn rest(socket: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let _ = timeout(Duration::from_secs(20), socket.read_to_end(&mut text)).await.expect("it ends");
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_one_request() {
        let mut socket = TcpStream::connect(port(CONNECTION_WAIT).await).await.unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let told = rest(&mut socket).await;
        assert_eq!(told.matches("HTTP/1.1 200 OK").count(), 1, "{told}");
        assert!(told.ends_with("well\n"), "{told}");
    }

    #[tokio::test]
    async fn one_more_than_there_may_be_is_closed_and_a_place_that_is_left_is_free() {
        let address = port(CONNECTION_WAIT).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(address).await.unwrap();
        assert_eq!(rest(&mut one_more).await, "");
        let mut last = held.pop().unwrap();
        last.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(rest(&mut last).await.ends_with("well\n"), "the last that there may be is served");
        let mut next = TcpStream::connect(address).await.unwrap();
        let _ = next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(rest(&mut next).await.ends_with("well\n"), "its place is free");
    }

    #[tokio::test]
    async fn whoever_says_nothing_is_closed() {
        let mut silent = TcpStream::connect(port(Duration::from_millis(20)).await).await.unwrap();
        rest(&mut silent).await;
    }
}
