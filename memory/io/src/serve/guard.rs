//! A client's connection with a deadline on every wait for it: for a head, for the next request, for a client
//! that does not read. The wait for a body is its reader's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How often a connection went from waiting for a head to serving a request, and back: even is waiting.
#[derive(Debug, Default)]
pub struct Stage(AtomicU32);

impl Stage {
    /// A head is whole, or the answer to it is out.
    pub fn turn(&self) {
        // Order: relaxed. Both ends live in one task; the atomic only makes sharing legal.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u32 {
        // Order: relaxed, see `turn`.
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection.
pub struct Guarded {
    io: TcpStream,
    stage: Arc<Stage>,
    /// The stage that the read timer was set for, and whether its head had begun.
    armed: Option<(u32, bool)>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub fn new(io: TcpStream, stage: Arc<Stage>) -> Guarded {
        Guarded { io, stage, armed: None, read_timer: Box::pin(sleep(HEAD_WAIT)), write_timer: None }
    }

    fn arm(&mut self, has_begun: bool, wait: Duration) {
        self.armed = Some((self.stage.now(), has_begun));
        self.read_timer.as_mut().reset(Instant::now() + wait);
    }

    fn is_serving(&self) -> bool {
        self.stage.now() % 2 == 1
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.is_serving() {
            return read;
        }
        let stage = this.stage.now();
        if read.is_ready() {
            // The deadline of a head is from its first byte, whatever follows.
            if this.armed != Some((stage, true)) {
                this.arm(true, HEAD_WAIT);
            }
            return read;
        }
        if this.armed.is_none_or(|(armed, _)| armed != stage) {
            // Who has never said anything is not waited for as long as who may ask again.
            this.arm(false, if this.armed.is_none() { HEAD_WAIT } else { IDLE_WAIT });
        }
        ready!(this.read_timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sent nothing in time")))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Pending => {
                let timer = this.write_timer.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
            }
            done => {
                this.write_timer = None;
                done
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// From a connection's or a head's first byte to the head's last: one byte a second must not hold a place.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Between requests. Longer than the keep-alive of common clients, so that it is they who close.
const IDLE_WAIT: Duration = Duration::from_secs(75);
/// Without a byte taken by the client.
const WRITE_STALL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Guarded, Arc<Stage>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stage = Arc::new(Stage::default());
        let guarded = Guarded::new(listener.accept().await.unwrap().0, Arc::clone(&stage));
        (client, guarded, stage)
    }

    /// How long a read waited until it gave up. The clock is paused and jumps when all has come to rest.
    async fn waited(guarded: &mut Guarded) -> Duration {
        let began = Instant::now();
        let error = guarded.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    fn near(found: Duration, expected: Duration) -> bool {
        found >= expected && found < expected + Duration::from_millis(50)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut_as_soon_as_a_slow_head_is() {
        let (_client, mut guarded, _) = pair().await;
        assert!(near(waited(&mut guarded).await, HEAD_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_however_many_follow() {
        let (mut client, mut guarded, _) = pair().await;
        let began = Instant::now();
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = loop {
            if let Err(error) = guarded.read_u8().await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < HEAD_WAIT + Duration::from_secs(2), "{:?}", began.elapsed());
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_there_is_more_time_and_while_serving_no_end_of_it() {
        let (mut client, mut guarded, stage) = pair().await;
        client.write_all(b"x").await.unwrap();
        guarded.read_u8().await.unwrap();
        stage.turn();
        let serving = tokio::time::timeout(10 * IDLE_WAIT, guarded.read_u8()).await;
        assert!(serving.is_err(), "no deadline of its own");
        stage.turn();
        assert!(near(waited(&mut guarded).await, IDLE_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut() {
        let (_client, mut guarded, _) = pair().await;
        let piece = vec![0; 1024 * 1024];
        let error = loop {
            if let Err(error) = guarded.write_all(&piece).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
