//! One request over a connection of the pool, to its end.
//!
//! What it is for: sending, reading, timing and naming what went wrong. It never retries: only a kept
//! connection that had died before the request was written is replaced, as every client does.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::events::Events;
use super::plan::Plan;
use super::tally::{Ended, Failure, Tally, record};

/// What all requests of a phase share.
pub(crate) struct Phase<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) pool: &'a Pool,
    pub(crate) tally: &'a RefCell<Tally>,
}

/// Idle connections; never more than were once in flight.
#[derive(Default)]
pub(crate) struct Pool(RefCell<Vec<SendRequest<Full<Bytes>>>>);

impl Phase<'_> {
    /// Sends request `number`, which was due at `intended`, and counts it.
    pub(crate) async fn exchange(&self, number: u64, intended: Instant) {
        let lag = intended.elapsed();
        self.tally.borrow_mut().on_sent();
        let attempt = tokio::time::timeout(self.plan.timeout, self.attempt(number, intended));
        let failure = match attempt.await {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some(Failure::Timeout),
        };
        self.tally.borrow_mut().on_end(&Ended { latency: intended.elapsed(), lag, failure });
    }

    async fn attempt(&self, number: u64, intended: Instant) -> Result<(), Failure> {
        loop {
            let kept = self.pool.take().await;
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let response = match sender.send_request(self.request(number)).await {
                // Not written: the kept connection had ended meanwhile. There are only so many of them.
                Err(e) if e.is_canceled() && is_kept => continue,
                Err(e) if e.is_parse() => return Err(Failure::Malformed),
                Err(_) => return Err(Failure::Reset),
                Ok(response) => response,
            };
            let status = response.status();
            let read = if status.is_success() && self.plan.stream {
                self.read_stream(response.into_body(), intended).await
            } else {
                self.read_whole(response.into_body()).await
            };
            read?;
            self.pool.give_back(sender);
            return if status.is_success() { Ok(()) } else { Err(Failure::Status(status.as_u16())) };
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(self.plan.target.address).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Connect)?;
        // How it ends is seen by the request on it.
        tokio::task::spawn_local(connection);
        self.tally.borrow_mut().connections += 1;
        Ok(sender)
    }

    fn request(&self, number: u64) -> Request<Full<Bytes>> {
        let bodies = &self.plan.ask;
        let body = bodies[(number % bodies.len() as u64) as usize].clone();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.plan.target.path.clone();
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, self.plan.target.authority.clone());
        for (name, value) in &self.plan.headers {
            headers.insert(name, value.clone());
        }
        request
    }

    async fn read_whole(&self, mut body: Incoming) -> Result<(), Failure> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Failure::Cut)?;
            self.tally.borrow_mut().body_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Ok(())
    }

    async fn read_stream(&self, mut body: Incoming, intended: Instant) -> Result<(), Failure> {
        let mut events = Events::default();
        let mut last: Option<Instant> = None;
        let whole = loop {
            match body.frame().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => {
                    let Some(bytes) = frame.data_ref() else { continue };
                    let chunks = events.on_bytes(bytes);
                    self.on_read(bytes.len(), chunks, intended, &mut last);
                }
            }
        };
        let mut tally = self.tally.borrow_mut();
        tally.chunks += events.chunks;
        tally.tokens += events.tokens;
        match events {
            Events { error: true, .. } => Err(Failure::ErrorEvent),
            Events { done: true, .. } if whole => Ok(()),
            _ => Err(Failure::Cut),
        }
    }

    fn on_read(&self, bytes: usize, chunks: u64, intended: Instant, last: &mut Option<Instant>) {
        let mut tally = self.tally.borrow_mut();
        tally.body_bytes += bytes as u64;
        if chunks == 0 {
            return;
        }
        tally.reads += 1;
        let now = Instant::now();
        match last.replace(now) {
            Some(last) => tally.on_chunks(chunks, now - last),
            None => {
                record(&mut tally.first_token_ns, now.saturating_duration_since(intended));
                if chunks > 1 {
                    tally.on_chunks(chunks - 1, Duration::ZERO);
                }
            }
        }
    }
}

impl Pool {
    /// The connection used last that still lives.
    async fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.0.borrow_mut().pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn give_back(&self, sender: SendRequest<Full<Bytes>>) {
        if !sender.is_closed() {
            self.0.borrow_mut().push(sender);
        }
    }
}
