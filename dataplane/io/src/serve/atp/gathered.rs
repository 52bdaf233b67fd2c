//! Small writes that leave together, in a buffer that is there only until they have left: a library's own
//! buffer stays as long as its connection, and most connections are idle. Reads pass through and are counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes to `io`, gathered until they are flushed.
#[derive(Debug)]
pub struct Gathered<I> {
    io: I,
    waiting: Vec<u8>,
    /// Of `waiting`, written already.
    written: usize,
    read: Arc<AtomicUsize>,
}

impl<I> Gathered<I> {
    pub fn new(io: I) -> Gathered<I> {
        Gathered { io, waiting: Vec::new(), written: 0, read: Arc::default() }
    }
}

impl<I> Gathered<I> {
    /// Bytes that were read; whoever knows what became of them takes them off.
    pub fn read_bytes(&self) -> &Arc<AtomicUsize> {
        &self.read
    }
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        (self.waiting, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buf.filled().len());
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        // Order: relaxed. Counted and looked at by one task.
        this.read.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting.len() + bytes.len() > GATHERED_BYTES_MAX {
            ready!(this.poll_waiting(cx))?;
            if bytes.len() > GATHERED_BYTES_MAX {
                return Pin::new(&mut this.io).poll_write(cx, bytes);
            }
        }
        this.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_waiting(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_waiting(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

/// Dozens of tokens share a write.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn small_writes_leave_together_in_order_and_leave_no_buffer_behind() {
        let (near, mut far) = duplex(1 << 20);
        let mut gathered = Gathered::new(near);
        gathered.write_all(b"ab").await.unwrap();
        gathered.write_all(b"cd").await.unwrap();
        assert_eq!(gathered.waiting, b"abcd");
        gathered.flush().await.unwrap();
        assert_eq!(gathered.waiting.capacity(), 0);
        let mut heard = [0; 4];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"abcd");
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_the_most_and_what_is_longer_follows_what_came_before() {
        let (near, mut far) = duplex(1 << 20);
        let mut gathered = Gathered::new(near);
        let most = vec![b'a'; GATHERED_BYTES_MAX];
        gathered.write_all(&most).await.unwrap();
        assert_eq!(gathered.waiting.len(), GATHERED_BYTES_MAX, "at the edge");
        gathered.write_all(b"b").await.unwrap();
        assert_eq!(gathered.waiting, b"b", "one past it: the rest has left");
        gathered.write_all(&vec![b'c'; GATHERED_BYTES_MAX + 1]).await.unwrap();
        gathered.shutdown().await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), 2 * GATHERED_BYTES_MAX + 2);
        assert_eq!((heard[GATHERED_BYTES_MAX], heard[GATHERED_BYTES_MAX + 1]), (b'b', b'c'));
    }

    #[tokio::test]
    async fn a_peer_that_takes_little_gets_all_of_it() {
        let (near, mut far) = duplex(3);
        let mut gathered = Gathered::new(near);
        let writing = tokio::spawn(async move {
            gathered.write_all(b"0123456789").await.unwrap();
            gathered.shutdown().await.unwrap();
        });
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        writing.await.unwrap();
        assert_eq!(heard, b"0123456789");
    }
}
