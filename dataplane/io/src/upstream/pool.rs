//! Connections to one adapter that wait for work, one pool a worker, so that no two threads meet here.
//!
//! HTTP/1.1: a connection carries one exchange and comes back when its answer was read to the end; one that
//! ends early is closed, because the rest of its answer is still on the way. Whoever holds it also drives it:
//! no task of its own, so a piece of an answer reaches its caller without a switch between tasks, and what
//! arrived together leaves together. HTTP/2: a connection carries many and has a task; a new one is opened
//! when all are full.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use hyper::client::conn::{http1, http2};
use proto_core::units::Moment;

use super::body::RopeBody;
use super::places::Taken;
use crate::clock;

/// One worker's connections to one adapter.
#[derive(Debug)]
pub struct Pool {
    idle: ArrayQueue<Idle>,
    shared: ArrayQueue<Http2>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Moment,
}

/// One HTTP/1.1 connection, in use by at most one exchange. Dropping it closes it at once.
pub struct Http1 {
    /// Of the files it was made with.
    age: u64,
    sender: http1::SendRequest<RopeBody>,
    driver: Driver,
}

/// Reads and writes a connection while it is polled; `None` once it ended.
pub struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

/// One HTTP/2 connection, in use by many.
#[derive(Debug, Clone)]
pub struct Http2 {
    pub sender: http2::SendRequest<RopeBody>,
    in_flight: Arc<AtomicU32>,
    age: u64,
}

/// What a checkout found.
pub enum Found {
    Http1(Lease),
    Http2(Http2, Stream),
}

/// An HTTP/1.1 connection out for one exchange. Dropped before [`Lease::give_back`], it closes, which is how
/// an upstream learns that nobody waits any more.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Http1>,
    taken: Taken,
    worker: usize,
}

/// One stream of an HTTP/2 connection; counts until dropped.
#[derive(Debug)]
pub struct Stream {
    count: Arc<AtomicU32>,
    _taken: Taken,
}

impl Pool {
    pub fn new() -> Pool {
        Pool { idle: ArrayQueue::new(IDLE_MAX), shared: ArrayQueue::new(HTTP2_MAX) }
    }

    /// A connection that can take a request now, if there is one. `age`: of the files in use; what was made
    /// with older ones takes nothing more. `taken`: of this pool's place.
    pub fn checkout(&self, taken: Taken, worker: usize, age: u64) -> Result<Found, Taken> {
        for _ in 0..self.shared.len() {
            let Some(connection) = self.shared.pop() else { break };
            if connection.sender.is_closed() || connection.age < age {
                continue;
            }
            let copy = connection.has_room().then(|| connection.clone());
            // Full queues drop: a connection that is not kept serves its streams and closes.
            let _ = self.shared.push(connection);
            if let Some(connection) = copy {
                let stream = connection.open(taken);
                return Ok(Found::Http2(connection, stream));
            }
        }
        let now = clock::now();
        while let Some(idle) = self.idle.pop() {
            if now - idle.since < IDLE_WAIT && idle.connection.age >= age {
                return Ok(Found::Http1(Lease::new(idle.connection, taken, worker)));
            }
        }
        Err(taken)
    }

    /// Closes what was made with files older than `age`, once it has nothing under way. For the thread that
    /// looks at files: whoever checks out meanwhile may find less than there is, and connects.
    pub fn retire(&self, age: u64) {
        for _ in 0..self.idle.len() {
            let Some(idle) = self.idle.pop() else { break };
            if idle.connection.age >= age {
                let _ = self.idle.push(idle);
            }
        }
        for _ in 0..self.shared.len() {
            let Some(connection) = self.shared.pop() else { break };
            if connection.age >= age {
                let _ = self.shared.push(connection);
            }
        }
    }

    /// Puts a fresh HTTP/2 connection at the disposal of others.
    pub fn share(&self, connection: &Http2) {
        let _ = self.shared.push(connection.clone());
    }
}

impl Http1 {
    pub fn new(
        sender: http1::SendRequest<RopeBody>,
        driver: impl Future<Output = hyper::Result<()>> + Send + 'static,
        age: u64,
    ) -> Http1 {
        Http1 { age, sender, driver: Driver(Some(Box::pin(driver))) }
    }

    /// Whether it can take a request: looks for a close that arrived while nobody looked.
    pub fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.poll(cx);
        self.sender.is_ready()
    }

    /// Its two halves: what sends, and what must be polled for anything to happen.
    pub fn parts(&mut self) -> (&mut http1::SendRequest<RopeBody>, &mut Driver) {
        (&mut self.sender, &mut self.driver)
    }
}

impl Driver {
    /// Reads and writes what can be. How it ends shows at the sender and at the body.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.0
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            self.0 = None;
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an adapter ended");
            }
        }
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("is_closed", &self.sender.is_closed()).finish_non_exhaustive()
    }
}

impl Http2 {
    pub fn new(sender: http2::SendRequest<RopeBody>, age: u64) -> Http2 {
        Http2 { sender, in_flight: Arc::new(AtomicU32::new(0)), age }
    }

    /// Room for one more stream? Only its own worker opens some.
    fn has_room(&self) -> bool {
        // Order: relaxed. A count that steers load; the peer enforces its own limit.
        self.in_flight.load(Ordering::Relaxed) < STREAMS_MAX
    }

    /// One more stream. `taken`: of the connection's place.
    pub fn open(&self, taken: Taken) -> Stream {
        // Order: relaxed, see `Http2::has_room`.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Stream { count: Arc::clone(&self.in_flight), _taken: taken }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Order: relaxed, see `Http2::has_room`.
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    pub fn new(connection: Http1, taken: Taken, worker: usize) -> Lease {
        Lease { connection: Some(connection), taken, worker }
    }

    pub fn connection(&mut self) -> &mut Http1 {
        self.connection.as_mut().expect("a lease holds its connection until it ends")
    }

    /// The answer was read to its end: the next request may have the connection.
    pub fn give_back(mut self, cx: &mut Context<'_>) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.driver.poll(cx);
        if connection.sender.is_closed() {
            return;
        }
        if let Some(pool) = self.taken.place().pool(self.worker) {
            // A full queue drops it, which closes it.
            let _ = pool.idle.push(Idle { connection, since: clock::now() });
        }
    }
}

/// Idle HTTP/1.1 connections kept for one worker and adapter.
const IDLE_MAX: usize = 256;
/// Shorter than the keep-alive of common model servers (uvicorn 5 s is found out by readiness, nginx 75 s).
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// HTTP/2 connections kept for one worker and adapter.
const HTTP2_MAX: usize = 64;
/// Streams on one connection: many small unread frames count against the connection as a whole, so long
/// streams are spread over several.
const STREAMS_MAX: u32 = 64;
