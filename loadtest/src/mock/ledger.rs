//! What the mock has seen: counters per model, cancellations with their moment, and the last requests.
//!
//! What it is for: a test asserts here what an upstream received, byte for byte, and when it learnt that its
//! client had left. It never grows beyond its bounds: models, cancellations and requests are all limited.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// All counters of one mock. The atomics are plain counts: nothing is ordered by them.
pub(crate) struct Ledger {
    started: Instant,
    models: Mutex<HashMap<String, Arc<ModelTally>>>,
    recent: Mutex<Recent>,
    answers: Mutex<VecDeque<Answered>>,
    connections: AtomicU64,
    refused: AtomicU64,
    identities: AtomicU64,
}

#[derive(Default)]
pub(crate) struct ModelTally {
    requests: AtomicU64,
    completed: AtomicU64,
    faulted: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
    under_way: AtomicU64,
    under_way_max: AtomicU64,
    tokens_sent: AtomicU64,
    prompt_bytes: AtomicU64,
    cancels: Mutex<VecDeque<Cancel>>,
}

#[derive(Default)]
struct Recent {
    seen: VecDeque<Recorded>,
    total: u64,
}

struct Recorded {
    at_ns: u64,
    head: Bytes,
    body: Bytes,
    body_bytes: u64,
}

/// The counters as GET /mock/stats gives them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds since the mock started: the clock of every `*_at_ns` here.
    pub now_ns: u64,
    pub connections: u64,
    /// Connections reset right after accept by the fault `refuse`.
    pub refused: u64,
    pub models: std::collections::BTreeMap<String, ModelStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStats {
    pub requests: u64,
    /// Answers sent to their proper end.
    pub completed: u64,
    /// Answers that met a fault of the script.
    pub faulted: u64,
    /// Answers with a status of the script (of `faulted`), or above its capacity.
    pub refused: u64,
    /// The client left before the end of the answer (also out of a `hang`).
    pub cancelled: u64,
    /// Requests being answered right now.
    pub under_way: u64,
    /// The most there ever were, refused ones not among them.
    pub under_way_max: u64,
    pub tokens_sent: u64,
    /// Bytes of request bodies.
    pub prompt_bytes: u64,
    /// The last cancellations, oldest first; at most 256.
    pub cancels: Vec<Cancel>,
}

/// One answer that began to take shape, at its end: the bill of whoever asked has a row for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub model: String,
    /// The `id` of the answer.
    pub id: String,
    /// As its usage says, or would have.
    pub prompt_tokens: u64,
    /// Tokens written to the wire; of a whole answer that was written, all of them.
    pub tokens_sent: u64,
    /// To its proper end, its usage with it.
    pub is_complete: bool,
}

/// One client that left early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// When the mock learnt of it, on its own clock.
    pub seen_at_ns: u64,
    /// The same moment on the wall clock, nanoseconds since 1970, for a test in another process.
    pub seen_at_unix_ns: u64,
    /// When the request had arrived.
    pub asked_at_ns: u64,
    pub tokens_sent: u64,
    pub how: Left,
}

/// How a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// An orderly end (FIN).
    Closed,
    /// A TCP reset, or an error of writing.
    Reset,
    /// On HTTP/2: the stream was reset, or its connection ended.
    StreamReset,
}

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub at_ns: u64,
    /// `POST /v1/chat/completions HTTP/1.1`; on HTTP/2 put together from the pseudo-headers.
    pub start: String,
    /// Names and values in the order and case of the wire (on HTTP/2: lower case, order per name).
    pub headers: Vec<(String, String)>,
    /// The body as text when it is UTF-8.
    pub body: Option<String>,
    /// The same bytes in base64; always there.
    pub body_base64: String,
    /// Length on the wire; `body` holds at most the first 64 KiB.
    pub body_bytes: u64,
}

/// How an exchange ended, as the ledger counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Faulted,
    /// Above the capacity.
    Full,
    Left(Left),
}

/// One request being answered; what it has not settled when dropped (a stopped mock) counts nowhere.
pub(crate) struct UnderWay {
    tally: Arc<ModelTally>,
    asked_at_ns: u64,
    /// From 0, counted per model since start or reset.
    pub(crate) number: u64,
    /// Under way when it came, itself among them.
    pub(crate) at_once: u64,
    /// What the bill of its answer says, once there is an answer.
    pub(crate) answered: Option<Answered>,
    pub(crate) tokens_sent: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger {
            started: Instant::now(),
            models: Mutex::default(),
            recent: Mutex::default(),
            answers: Mutex::default(),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            identities: AtomicU64::new(0),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    pub(crate) fn on_connection(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed)
    }

    pub(crate) fn on_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The number that makes the `id` of an answer unique in this mock.
    pub(crate) fn next_identity(&self) -> u64 {
        self.identities.fetch_add(1, Relaxed)
    }

    pub(crate) fn on_request(&self, model: &str, body_bytes: usize) -> UnderWay {
        let tally = self.tally(model);
        let at_once = tally.under_way.fetch_add(1, Relaxed) + 1;
        tally.prompt_bytes.fetch_add(body_bytes as u64, Relaxed);
        let number = tally.requests.fetch_add(1, Relaxed);
        UnderWay { tally, asked_at_ns: self.now_ns(), number, at_once, answered: None, tokens_sent: 0 }
    }

    pub(crate) fn on_end(&self, mut under_way: UnderWay, outcome: Outcome) {
        if let Some(answered) = under_way.answered.take() {
            let mut answers = lock(&self.answers);
            if answers.len() == ANSWERS_MAX {
                answers.pop_front();
            }
            let is_complete = outcome == Outcome::Completed;
            answers.push_back(Answered { tokens_sent: under_way.tokens_sent, is_complete, ..answered });
        }
        let tally = &under_way.tally;
        tally.tokens_sent.fetch_add(under_way.tokens_sent, Relaxed);
        match outcome {
            Outcome::Completed => tally.completed.fetch_add(1, Relaxed),
            Outcome::Faulted => tally.faulted.fetch_add(1, Relaxed),
            Outcome::Full => tally.refused.fetch_add(1, Relaxed),
            Outcome::Left(how) => {
                let mut cancels = lock(&tally.cancels);
                if cancels.len() == CANCELS_MAX {
                    cancels.pop_front();
                }
                cancels.push_back(Cancel {
                    seen_at_ns: self.now_ns(),
                    seen_at_unix_ns: unix_ns(),
                    asked_at_ns: under_way.asked_at_ns,
                    tokens_sent: under_way.tokens_sent,
                    how,
                });
                drop(cancels);
                tally.cancelled.fetch_add(1, Relaxed)
            }
        };
    }

    /// Keeps one request; `head` is its wire form, start line and header lines.
    pub(crate) fn record(&self, head: Bytes, body: &Bytes) {
        let kept = body.len().min(RECORDED_BODY_BYTES_MAX);
        // Copied, so that a kept slice does not hold the connection's whole read buffer.
        let (head, kept) = (Bytes::copy_from_slice(&head), Bytes::copy_from_slice(&body[..kept]));
        let mut recent = lock(&self.recent);
        recent.total += 1;
        if recent.seen.len() == RECORDED_MAX {
            recent.seen.pop_front();
        }
        let recorded = Recorded { at_ns: self.now_ns(), head, body: kept, body_bytes: body.len() as u64 };
        recent.seen.push_back(recorded);
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        lock(&self.recent).seen.iter().map(Seen::of).collect()
    }

    pub(crate) fn answers(&self) -> Vec<Answered> {
        lock(&self.answers).iter().cloned().collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let models = lock(&self.models);
        Stats {
            now_ns: self.now_ns(),
            connections: self.connections.load(Relaxed),
            refused: self.refused.load(Relaxed),
            models: models.iter().map(|(model, tally)| (model.clone(), tally.stats())).collect(),
        }
    }

    /// Forgets counters and requests. Answers under way settle into the forgotten counters.
    pub(crate) fn reset(&self) {
        lock(&self.models).clear();
        *lock(&self.recent) = Recent::default();
        lock(&self.answers).clear();
        self.connections.store(0, Relaxed);
        self.refused.store(0, Relaxed);
    }

    fn tally(&self, model: &str) -> Arc<ModelTally> {
        let mut models = lock(&self.models);
        if let Some(tally) = models.get(model) {
            return Arc::clone(tally);
        }
        let model = if models.len() < MODELS_MAX { model } else { OTHER_MODELS };
        Arc::clone(models.entry(model.to_owned()).or_default())
    }
}

impl ModelTally {
    fn stats(&self) -> ModelStats {
        ModelStats {
            requests: self.requests.load(Relaxed),
            completed: self.completed.load(Relaxed),
            faulted: self.faulted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            under_way: self.under_way.load(Relaxed),
            under_way_max: self.under_way_max.load(Relaxed),
            tokens_sent: self.tokens_sent.load(Relaxed),
            prompt_bytes: self.prompt_bytes.load(Relaxed),
            cancels: lock(&self.cancels).iter().cloned().collect(),
        }
    }
}

impl UnderWay {
    /// There is room for it: it will be answered.
    pub(crate) fn on_let_in(&self) {
        self.tally.under_way_max.fetch_max(self.at_once, Relaxed);
    }

    /// It is answered with a status of the script.
    pub(crate) fn on_refused(&self) {
        self.tally.refused.fetch_add(1, Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.tally.under_way.fetch_sub(1, Relaxed);
    }
}

impl Seen {
    /// The header's first value, its name compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn of(recorded: &Recorded) -> Seen {
        let head = String::from_utf8_lossy(&recorded.head);
        let mut lines = head.lines();
        Seen {
            at_ns: recorded.at_ns,
            start: lines.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(split_field)
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            body: String::from_utf8(recorded.body.to_vec()).ok(),
            body_base64: base64::engine::general_purpose::STANDARD.encode(&recorded.body),
            body_bytes: recorded.body_bytes,
        }
    }
}

/// Splits at the first colon that does not start the name, as a pseudo-header's does.
fn split_field(line: &str) -> Option<(&str, &str)> {
    let colon = line.char_indices().skip(1).find(|(_, c)| *c == ':')?.0;
    Some((&line[..colon], &line[colon + 1..]))
}

/// A poisoned lock means a panicking test elsewhere; counters stay readable for its report.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// A test run names a few dozen models; beyond this they are counted together.
const MODELS_MAX: usize = 4096;
const OTHER_MODELS: &str = "(other models)";
/// Enough for a test to look at each one; the counter goes on beyond.
const CANCELS_MAX: usize = 256;
/// What a test of ten thousand requests asks for, with some room; about 2 MiB.
const ANSWERS_MAX: usize = 16_384;
/// A test looks at the last few; 64 of at most 64 KiB keep the mock under 5 MiB.
const RECORDED_MAX: usize = 64;
const RECORDED_BODY_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_settle_once_and_reset_forgets_them() {
        let ledger = Ledger::new();
        for (number, outcome) in
            [Outcome::Completed, Outcome::Faulted, Outcome::Left(Left::Reset)].iter().enumerate()
        {
            let mut under_way = ledger.on_request("m", 10);
            assert_eq!(under_way.number, number as u64);
            assert_eq!(ledger.stats().models["m"].under_way, 1);
            under_way.tokens_sent = 3;
            ledger.on_end(under_way, *outcome);
        }
        let stats = ledger.stats().models["m"].clone();
        assert_eq!((stats.requests, stats.completed, stats.faulted, stats.cancelled), (3, 1, 1, 1));
        assert_eq!((stats.under_way, stats.tokens_sent, stats.prompt_bytes), (0, 9, 30));
        assert_eq!((stats.cancels[0].tokens_sent, stats.cancels[0].how), (3, Left::Reset));
        ledger.reset();
        assert!(ledger.stats().models.is_empty());
    }

    #[test]
    fn a_model_past_the_bound_is_counted_with_the_others() {
        let ledger = Ledger::new();
        for n in 0..MODELS_MAX {
            drop(ledger.on_request(&format!("m{n}"), 0));
        }
        assert!(!ledger.stats().models.contains_key(OTHER_MODELS));
        drop(ledger.on_request("one more", 0));
        assert_eq!(ledger.stats().models[OTHER_MODELS].requests, 1);
    }

    #[test]
    fn the_last_64_requests_and_64_kib_of_each_are_kept() {
        let ledger = Ledger::new();
        let body = Bytes::from(vec![b'x'; RECORDED_BODY_BYTES_MAX + 1]);
        for n in 0..=RECORDED_MAX {
            ledger.record(Bytes::from(format!("GET /{n} HTTP/1.1\r\nX-Number: {n}\r\nA:b\r\n\r\n")), &body);
        }
        let seen = ledger.requests();
        assert_eq!(seen.len(), RECORDED_MAX);
        assert_eq!(seen[0].start, "GET /1 HTTP/1.1");
        assert_eq!(seen[0].headers, [("X-Number".into(), "1".into()), ("A".into(), "b".into())]);
        assert_eq!(seen[0].body.as_ref().unwrap().len(), RECORDED_BODY_BYTES_MAX);
        assert_eq!(seen[0].body_bytes, RECORDED_BODY_BYTES_MAX as u64 + 1);
    }
}
