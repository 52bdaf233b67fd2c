//! Requests that may be cut for one in need: who they are, who is first, and how often. Bronze gives its
//! place to gold; silver neither gives nor takes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto_core::units::Moment;
use tokio::sync::oneshot;

/// The owner's end.
#[derive(Debug)]
pub struct Preemptible {
    signal: oneshot::Sender<()>,
    answers: Arc<AtomicBool>,
    /// Its tenant allows a stream that answers to be cut.
    may_cut_stream: bool,
}

/// The request's end.
#[derive(Debug)]
pub struct Preemption {
    /// `None` once it was heard, or will never be.
    signal: Option<oneshot::Receiver<()>>,
    answers: Arc<AtomicBool>,
}

impl Preemption {
    /// Both ends, of a request that is about to be dispatched.
    pub fn new(may_cut_stream: bool) -> (Preemption, Preemptible) {
        let (sender, signal) = oneshot::channel();
        let answers = Arc::new(AtomicBool::new(false));
        let victim = Preemptible { signal: sender, answers: Arc::clone(&answers), may_cut_stream };
        (Preemption { signal: Some(signal), answers }, victim)
    }

    /// Its answer has begun: bytes of it are on their way to the caller.
    pub fn on_answering(&self) {
        // Order: relaxed. Late news costs one stream that could have been spared.
        self.answers.store(true, Ordering::Relaxed);
    }

    /// Ready, once, when it is to give its place away. An owner that is gone never says so.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(signal) = &mut self.signal else { return Poll::Pending };
        let heard = ready!(Pin::new(signal).poll(cx));
        self.signal = None;
        if heard.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// All of one lane, oldest first.
#[derive(Debug, Default)]
pub struct Victims {
    known: VecDeque<Preemptible>,
    /// When the last minute's cuts were.
    cuts: VecDeque<Moment>,
    /// Starts in this minute and the one before.
    starts: [u64; 2],
    minute: u64,
}

impl Victims {
    pub fn push(&mut self, victim: Preemptible) {
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|victim| !victim.signal.is_closed());
        }
        if self.known.len() < KNOWN_MAX {
            self.known.push_back(victim);
        }
    }

    /// A request was given a permit.
    pub fn on_start(&mut self, now: Moment) {
        self.turn(now);
        self.starts[0] += 1;
    }

    /// Cuts the newest that has not answered yet, else the newest stream that may be cut. True where one was.
    pub fn cut_one(&mut self, now: Moment) -> bool {
        self.turn(now);
        while self.cuts.front().is_some_and(|at| now.since(*at) >= MINUTE) {
            self.cuts.pop_front();
        }
        let starts = self.starts[0] + self.starts[1];
        if self.cuts.len() as u64 >= (starts * CUTS_PERCENT / 100).max(1) {
            return false;
        }
        self.known.retain(|victim| !victim.signal.is_closed());
        // Order: relaxed, see `on_answering`.
        let answers = |victim: &Preemptible| victim.answers.load(Ordering::Relaxed);
        let silent = self.known.iter().rposition(|victim| !answers(victim));
        let at = silent.or_else(|| self.known.iter().rposition(|victim| victim.may_cut_stream));
        let Some(victim) = at.and_then(|at| self.known.remove(at)) else { return false };
        let is_cut = victim.signal.send(()).is_ok();
        if is_cut {
            self.cuts.push_back(now);
        }
        is_cut
    }

    fn turn(&mut self, now: Moment) {
        let minute = now.0 / MINUTE_NANOS;
        if minute != self.minute {
            let last = if minute == self.minute + 1 { self.starts[0] } else { 0 };
            self.starts = [0, last];
            self.minute = minute;
        }
    }
}

/// Of one model at once; a request beyond is not preempted.
const KNOWN_MAX: usize = 4096;
/// Of the starts of a minute or two; one is always allowed, else a quiet upstream would never give way.
const CUTS_PERCENT: u64 = 5;
const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_NANOS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn is_cut(preemption: &mut Preemption) -> bool {
        preemption.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn the_newest_that_has_not_answered_goes_first_and_a_stream_only_where_it_may() {
        let mut victims = Victims::default();
        let mut made: Vec<_> = [false, false, true, false]
            .map(|may| {
                let (preemption, victim) = Preemption::new(may);
                victims.push(victim);
                preemption
            })
            .into();
        made[3].on_answering();
        made[2].on_answering();
        let order: Vec<_> = (1..=5)
            .map(|minute| {
                let was = victims.cut_one(at(minute * 120));
                (was, made.iter_mut().map(is_cut).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(order[0], (true, vec![false, true, false, false]), "the newest without an answer");
        assert!(order[1].1[0], "then the older one");
        assert!(order[2].1[2], "then a stream that may be cut");
        assert!(!order[3].0, "never one that may not");
    }

    #[test]
    fn at_most_one_in_twenty_starts_is_cut_in_a_minute_and_one_always() {
        let mut victims = Victims::default();
        let held: Vec<_> = (0..20)
            .map(|_| {
                let (preemption, victim) = Preemption::new(false);
                victims.push(victim);
                preemption
            })
            .collect();
        assert!(victims.cut_one(at(1)));
        assert!(!victims.cut_one(at(2)));
        (0..60).for_each(|_| victims.on_start(at(3)));
        assert!(victims.cut_one(at(4)) && victims.cut_one(at(5)));
        assert!(!victims.cut_one(at(6)), "three of sixty");
        drop(held);
    }

    #[test]
    fn one_that_ended_is_not_cut() {
        let mut victims = Victims::default();
        let (gone, victim) = Preemption::new(true);
        victims.push(victim);
        drop(gone);
        assert!(!victims.cut_one(at(1)));
    }
}
