//! A WebSocket's way over one stream of an HTTP/2 connection: the connection's own deadlines do not see which
//! of its streams is not taken, so this one has its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::serve::guard::Serving;
use crate::worker::Worker;

/// A connection that ends where its peer takes nothing for too long; without a worker it has nothing to add.
pub struct Patient<I> {
    io: I,
    shared: Option<Arc<Worker>>,
    /// The stream is one of its connection's requests for as long.
    _serving: Option<Serving>,
    /// There once something had to wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<I> Patient<I> {
    /// For a connection that nobody shares: it has deadlines of its own.
    pub fn alone(io: I) -> Patient<I> {
        Patient { io, shared: None, _serving: None, timer: None, is_waiting: false }
    }

    /// For a stream of a connection.
    pub fn shared(io: I, worker: &Arc<Worker>, serving: Serving) -> Patient<I> {
        Patient { shared: Some(Arc::clone(worker)), _serving: Some(serving), ..Patient::alone(io) }
    }

    /// Nothing is taken: too long?
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(worker) = &self.shared else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TAKES_WAIT)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            timer.as_mut().reset(Instant::now() + worker.ledger.level().patience(TAKES_WAIT));
        }
        ready!(timer.as_mut().poll(cx));
        worker.tally.clients_too_slow.one();
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }

    fn within<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            return self.poll_deadline(cx).map(Err);
        }
        self.is_waiting = false;
        done
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.within(cx, done)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_flush(cx);
        this.within(cx, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_shutdown(cx);
        this.within(cx, done)
    }
}

/// As long as any client may take nothing; less where this worker is hard pressed.
const TAKES_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::config::{Config, Origin};
    use crate::serve::guard::Stage;
    use crate::worker::Shared;

    fn worker() -> Arc<Worker> {
        let config = Config::local("nowhere".into(), Origin::File("nowhere".into()));
        Arc::new(Worker::new(0, Arc::new(Shared::new(config, None)), 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_takes_nothing_ends_after_its_time_and_not_before() {
        let (near, mut far) = duplex(4);
        let (worker, stage) = (worker(), Arc::new(Stage::new(true)));
        let mut near = Patient::shared(near, &worker, stage.on_head());
        for _ in 0..3 {
            near.write_all(b"full").await.unwrap();
            let waiting = timeout(TAKES_WAIT - Duration::from_millis(1), near.write_all(b"more"));
            assert!(waiting.await.is_err(), "it may still be taken");
            far.read_exact(&mut [0; 4]).await.unwrap();
            near.flush().await.unwrap();
        }
        assert_eq!(worker.tally.clients_too_slow.value(), 0);
        near.write_all(b"full").await.unwrap();
        let waited = timeout(TAKES_WAIT + Duration::from_millis(10), near.write_all(b"more"));
        let error = waited.await.expect("it is given up").unwrap_err();
        assert_eq!((error.kind(), worker.tally.clients_too_slow.value()), (io::ErrorKind::TimedOut, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_its_own_has_no_deadline_here() {
        let (near, _far) = duplex(4);
        let mut near = Patient::alone(near);
        near.write_all(b"full").await.unwrap();
        assert!(timeout(TAKES_WAIT * 10, near.write_all(b"more")).await.is_err());
    }
}
