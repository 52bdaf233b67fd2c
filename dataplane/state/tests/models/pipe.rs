//! A sender and a receiver of a pipe, each a task that sleeps where it has to wait. Who sleeps and is never
//! woken is a thread that waits for nobody: loom says so.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use dataplane_state::pipe::{NoPlace, Receiver, Sender, pipe};
use loom::model::Builder;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// What wakes a task.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.0.notify();
    }
}

/// What a task was woken with that is not there to be run.
#[derive(Default)]
struct Heard(AtomicBool);

impl Wake for Heard {
    fn wake(self: Arc<Heard>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Task {
    bell: Arc<Bell>,
    waker: Waker,
}

impl Task {
    fn new() -> Task {
        let bell = Arc::new(Bell(Notify::new()));
        Task { waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// Polls until it is ready, asleep in between.
    fn run<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        loop {
            match poll(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => self.bell.0.wait(),
            }
        }
    }
}

/// Every interleaving with so few switches away from a thread that could go on.
fn every(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn put(sender: &mut Sender<u32>, values: std::ops::RangeInclusive<u32>) -> u32 {
    let task = Task::new();
    let mut sent = 0;
    for value in values {
        if !task.run(|cx| sender.poll_writable(cx)) {
            break;
        }
        sender.try_reserve().expect("it is writable, and nobody else puts in").send(value);
        sent += 1;
    }
    sent
}

fn take_all(receiver: &mut Receiver<u32>) -> Vec<u32> {
    let task = Task::new();
    let mut taken = Vec::new();
    while let Some(value) = task.run(|cx| receiver.poll_recv(cx)) {
        taken.push(value);
    }
    taken
}

#[test]
fn all_that_is_put_in_comes_out_in_order_and_nobody_sleeps_forever() {
    for places in [1, 2] {
        every(move || {
            let (mut sender, mut receiver) = pipe(places);
            let puts = thread::spawn(move || {
                assert_eq!(put(&mut sender, 1..=3), 3);
                sender.finish();
            });
            assert_eq!(take_all(&mut receiver), [1, 2, 3]);
            assert!(receiver.is_whole(), "the sender said so before it went");
            puts.join().expect("it does not panic");
        });
    }
}

#[test]
fn it_never_holds_more_than_its_places() {
    every(|| {
        let (mut sender, mut receiver) = pipe(1);
        let takes = thread::spawn(move || {
            let first = receiver.try_recv();
            (first, receiver.try_recv(), receiver)
        });
        let mut sent = 0;
        for value in 0..3 {
            match sender.try_reserve() {
                Ok(place) => place.send(value),
                Err(full) => {
                    assert_eq!(full, NoPlace::Full);
                    break;
                }
            }
            sent += 1;
        }
        let (first, second, receiver) = takes.join().expect("it does not panic");
        let taken = [first, second].into_iter().flatten().count();
        assert!(sent <= taken + 1, "{sent} put in, {taken} taken");
        drop(receiver);
        assert_eq!(sender.try_reserve().expect_err("nobody takes"), NoPlace::Closed);
    });
}

#[test]
fn a_receiver_that_goes_wakes_a_sender_that_waits_and_what_was_left_is_let_go() {
    every(|| {
        let (mut sender, mut receiver) = pipe(1);
        let kept = loom::sync::Arc::new(());
        let own = loom::sync::Arc::clone(&kept);
        let puts = thread::spawn(move || {
            let task = Task::new();
            for _ in 0..2 {
                if !task.run(|cx| sender.poll_writable(cx)) {
                    return;
                }
                if let Ok(place) = sender.try_reserve() {
                    place.send(loom::sync::Arc::clone(&own));
                }
            }
        });
        drop(receiver.try_recv());
        drop(receiver);
        puts.join().expect("it does not panic");
        assert_eq!(loom::sync::Arc::strong_count(&kept), 1, "whatever was put in, and when");
    });
}

/// It looks, leaves its waker and sleeps: what was put in between is never heard of.
#[test]
#[should_panic(expected = "it sleeps beside what was put in")]
fn a_receiver_that_does_not_look_again_is_found_out() {
    every(|| {
        let (mut sender, mut receiver) = pipe(1);
        let puts = thread::spawn(move || {
            put(&mut sender, 1..=1);
            sender
        });
        let bell = Arc::new(Heard::default());
        let is_there = receiver.try_recv().is_some();
        receiver.register(&Waker::from(Arc::clone(&bell)));
        let sender = puts.join().expect("it does not panic");
        let is_woken = bell.0.load(Ordering::SeqCst);
        // Before what a failure lets go, which is of the model too.
        drop((sender, receiver));
        assert!(is_there || is_woken, "it sleeps beside what was put in");
    });
}

/// It looks, and looks for the end after that: what was put in between is lost.
#[test]
#[should_panic(expected = "the last one is lost")]
fn a_receiver_that_looks_for_the_end_last_is_found_out() {
    every(|| {
        let (mut sender, mut receiver) = pipe(1);
        let puts = thread::spawn(move || assert_eq!(put(&mut sender, 1..=1), 1));
        let task = Task::new();
        let taken = task.run(|cx| {
            receiver.register(cx.waker());
            match receiver.try_recv() {
                None if receiver.is_closed() => Poll::Ready(None),
                None => Poll::Pending,
                some => Poll::Ready(some),
            }
        });
        assert_eq!(taken, Some(1), "the last one is lost");
        puts.join().expect("it does not panic");
    });
}

/// It finds no place, leaves its waker and sleeps: the place that came free in between stays free.
#[test]
#[should_panic(expected = "it sleeps beside a free place")]
fn a_sender_that_does_not_look_again_is_found_out() {
    every(|| {
        let (mut sender, mut receiver) = pipe(1);
        sender.try_reserve().expect("it is empty").send(1);
        let takes = thread::spawn(move || {
            assert_eq!(receiver.try_recv(), Some(1));
            receiver
        });
        let bell = Arc::new(Heard::default());
        let is_free = sender.try_reserve().is_ok();
        sender.register(&Waker::from(Arc::clone(&bell)));
        let receiver = takes.join().expect("it does not panic");
        let is_woken = bell.0.load(Ordering::SeqCst);
        drop((sender, receiver));
        assert!(is_free || is_woken, "it sleeps beside a free place");
    });
}
