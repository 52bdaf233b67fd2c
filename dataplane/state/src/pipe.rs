//! A bounded queue from one task to another that weighs next to nothing while it is empty: most sessions are
//! idle, and a channel keeps room for dozens of messages all that time. One sender and one receiver, on any
//! threads; no lock. Waiting is the callers': what would wait leaves a waker and says so.
//!
//! ```text
//! sender ── takes what is there, puts its own before it ──▶ [ newest ▸ … ▸ oldest ] ──▶ receiver takes all,
//!                                                                                       turns it round
//! ```
//! Since only the sender puts in, nothing can have come between its two steps; and whatever the receiver
//! finds it takes whole.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::sync::{AtomicBool, AtomicCell, AtomicUsize, AtomicWaker, Ordering};

/// Both ends of a queue of at most `places`.
pub fn pipe<T>(places: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        put: AtomicCell::new(None),
        held: AtomicUsize::new(0),
        is_closed: AtomicBool::new(false),
        is_whole: AtomicBool::new(false),
        reads: AtomicWaker::new(),
        writes: AtomicWaker::new(),
    });
    let sender = Sender { shared: Arc::clone(&shared), places };
    (sender, Receiver { shared, turned: None, places })
}

/// Puts in. There is one.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    places: usize,
}

/// Takes out. There is one.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Taken already, the oldest first.
    turned: Chain<T>,
    places: usize,
}

struct Shared<T> {
    /// The newest first.
    put: AtomicCell<Chain<T>>,
    /// In the queue, those that were turned round included.
    held: AtomicUsize,
    /// One of the ends is gone.
    is_closed: AtomicBool,
    /// The sender has said that nothing is missing.
    is_whole: AtomicBool,
    reads: AtomicWaker,
    writes: AtomicWaker,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Until something is taken out.
    Full,
    /// Nobody takes any more.
    Closed,
}

type Chain<T> = Option<Box<Node<T>>>;

struct Node<T> {
    value: T,
    next: Chain<T>,
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pipe").field("held", &self.held).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(out)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // One by one: a chain that drops itself does so a call deeper for each.
        let mut chain = self.put.take();
        while let Some(link) = chain {
            chain = link.next;
        }
    }
}

/// A place for one.
#[derive(Debug)]
pub struct Place<'a, T>(&'a mut Sender<T>);

impl<T> Place<'_, T> {
    pub fn send(self, value: T) {
        self.0.put(value);
    }
}

impl<T> Sender<T> {
    pub fn is_closed(&self) -> bool {
        // Order: acquire pairs with the release in `close`.
        self.shared.is_closed.load(Ordering::Acquire)
    }

    /// Until nobody takes any more.
    pub fn closed(&mut self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            // Before the look, so that an end between them wakes.
            self.register(cx.waker());
            if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// A place, where there is one now.
    pub fn try_reserve(&mut self) -> Result<Place<'_, T>, NoPlace> {
        if self.is_closed() {
            return Err(NoPlace::Closed);
        }
        // Order: acquire pairs with the release in `Receiver::pop`: what left is out of the way.
        match self.shared.held.load(Ordering::Acquire) < self.places {
            true => Ok(Place(self)),
            false => Err(NoPlace::Full),
        }
    }

    /// Until there is a place; false: the other end is gone.
    pub fn writable(&mut self) -> impl Future<Output = bool> {
        poll_fn(|cx| self.poll_writable(cx))
    }

    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Err(NoPlace::Full) = self.try_reserve() {
            self.register(cx.waker());
        } else {
            return Poll::Ready(!self.is_closed());
        }
        // It may have been taken between the look and the registering.
        match self.try_reserve() {
            Ok(_) => Poll::Ready(true),
            Err(NoPlace::Closed) => Poll::Ready(false),
            Err(NoPlace::Full) => Poll::Pending,
        }
    }

    /// Wakes it when a place comes free, or the other end goes. Who registers looks again before sleeping.
    pub fn register(&self, waker: &Waker) {
        self.shared.writes.register(waker);
    }

    /// Puts it in as soon as there is a place; gives it back where nobody takes any more.
    pub fn send(&mut self, value: T) -> impl Future<Output = Result<(), T>> {
        let mut value = Some(value);
        poll_fn(move |cx| {
            let has_place = ready!(self.poll_writable(cx));
            let value = value.take().expect("nobody polls what was ready");
            Poll::Ready(if has_place {
                self.put(value);
                Ok(())
            } else {
                Err(value)
            })
        })
    }

    /// Nothing is missing: what was put in is all there was to be.
    pub fn finish(self) {
        // Order: relaxed, published by the release in `close`.
        self.shared.is_whole.store(true, Ordering::Relaxed);
    }

    fn put(&mut self, value: T) {
        // Order: relaxed. Counted before it is there, so that it never leaves uncounted; the swap publishes.
        self.shared.held.fetch_add(1, Ordering::Relaxed);
        let next = self.shared.put.take();
        self.shared.put.store(Some(Box::new(Node { value, next })));
        self.shared.reads.wake();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<T> Receiver<T> {
    /// The oldest; `None`: nothing is there, and nobody puts in any more.
    pub fn recv(&mut self) -> impl Future<Output = Option<T>> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.try_recv() {
            return Poll::Ready(Some(value));
        }
        self.register(cx.waker());
        // Before the look: what was put in before the end is found after it was seen.
        let is_closed = self.is_closed();
        match self.try_recv() {
            Some(value) => Poll::Ready(Some(value)),
            None if is_closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Wakes it when something is put in, or the other end goes. Who registers looks again before sleeping.
    pub fn register(&self, waker: &Waker) {
        self.shared.reads.register(waker);
    }

    /// Nobody puts in any more; what is there still is.
    pub fn is_closed(&self) -> bool {
        // Order: acquire pairs with the release in `close`.
        self.shared.is_closed.load(Ordering::Acquire)
    }

    /// Whether the sender said that nothing is missing, once it is gone.
    pub fn is_whole(&self) -> bool {
        // Order: relaxed, acquired with the sender's end.
        self.shared.is_whole.load(Ordering::Relaxed)
    }

    /// The oldest there is.
    pub fn try_recv(&mut self) -> Option<T> {
        if self.turned.is_none() {
            let mut newest = self.shared.put.take();
            while let Some(mut link) = newest {
                newest = link.next.take();
                link.next = self.turned.take();
                self.turned = Some(link);
            }
        }
        let Node { value, next } = *self.turned.take()?;
        self.turned = next;
        // Order: release pairs with the acquire in `Sender::try_reserve`.
        if self.shared.held.fetch_sub(1, Ordering::Release) >= self.places {
            self.shared.writes.wake();
        }
        Some(value)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        while self.try_recv().is_some() {}
    }
}

impl<T> Shared<T> {
    fn close(&self) {
        // Order: release pairs with the acquires of the other end.
        self.is_closed.store(true, Ordering::Release);
        self.reads.wake();
        self.writes.wake();
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::thread::{self, Thread};

    use super::*;

    struct Unpark(Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }

    fn spawn(run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        thread::Builder::new().spawn(run).unwrap()
    }

    /// A thread that is one task.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn it_takes_as_many_as_it_has_places_and_not_one_more() {
        let (mut sender, mut receiver) = pipe(2);
        for value in 0..2 {
            sender.try_reserve().unwrap().send(value);
        }
        assert!(matches!(sender.try_reserve(), Err(NoPlace::Full)));
        assert_eq!(receiver.try_recv(), Some(0));
        sender.try_reserve().unwrap().send(2);
        assert!(matches!(sender.try_reserve(), Err(NoPlace::Full)), "one is turned round, and counts");
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(1), Some(2), None));
    }

    #[test]
    fn what_was_put_in_before_the_end_is_taken_after_it() {
        let (mut sender, mut receiver) = pipe(2);
        sender.try_reserve().unwrap().send('a');
        drop(sender);
        assert_eq!(block_on(receiver.recv()), Some('a'));
        assert_eq!((block_on(receiver.recv()), receiver.is_whole()), (None, false));
        let (sender, mut receiver) = pipe::<char>(2);
        sender.finish();
        assert_eq!((block_on(receiver.recv()), receiver.is_whole()), (None, true));
    }

    #[test]
    fn whoever_puts_in_where_nobody_takes_gets_it_back() {
        let (mut sender, receiver) = pipe(1);
        let kept = Arc::new(());
        sender.try_reserve().unwrap().send(Arc::clone(&kept));
        drop(receiver);
        assert_eq!(Arc::strong_count(&kept), 1, "what was not taken is let go");
        assert!(matches!(sender.try_reserve(), Err(NoPlace::Closed)));
        assert_eq!(block_on(sender.send(Arc::clone(&kept))).unwrap_err(), kept);
        block_on(sender.closed());
    }

    #[test]
    fn an_end_wakes_who_waits_for_it() {
        let (mut sender, receiver) = pipe::<char>(1);
        let mut closed = Box::pin(sender.closed());
        let is_pending = block_on(poll_fn(|cx| Poll::Ready(closed.as_mut().poll(cx).is_pending())));
        assert!(is_pending);
        let ends = spawn(move || drop(receiver));
        block_on(closed);
        ends.join().unwrap();
    }

    #[test]
    fn two_threads_hand_over_everything_once_and_in_order() {
        // Of a pointer's size, so without a lock.
        assert!(AtomicCell::<Chain<u64>>::is_lock_free());
        for places in [1, 3, 16] {
            let (mut sender, mut receiver) = pipe(places);
            let puts = spawn(move || {
                block_on(async {
                    for value in 0..20_000_u64 {
                        sender.send(value).await.unwrap();
                    }
                });
            });
            block_on(async {
                for value in 0..20_000 {
                    assert_eq!(receiver.recv().await, Some(value));
                }
                assert_eq!(receiver.recv().await, None);
            });
            puts.join().unwrap();
        }
    }

    #[test]
    fn an_empty_one_weighs_less_than_a_hundred_bytes() {
        assert!(size_of::<Shared<[u8; 100]>>() <= 80, "{}", size_of::<Shared<[u8; 100]>>());
    }
}
