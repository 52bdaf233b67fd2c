//! What one answer shall be like: its size, its pace, and how it fails.
//!
//! A script is words joined by `--`, written behind a model's name (`mock-small--tokens-20--cut-after-5`), in
//! the header `x-mock-script`, or on the command line; later places override earlier ones in the order
//! command line, model, header. Only letters, digits and dashes are used, so that a script passes as a model
//! name everywhere. A word that is not known is an error that lists the known ones, never ignored.

use std::fmt;
use std::time::Duration;

/// How one answer is made. Every number has a bound (see the constants below).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Tokens in an answer; each is one chunk of a stream. At least 1.
    pub tokens: u32,
    /// Exact bytes of an answer's text, spread over its tokens; 0 means the natural `tok1 tok2 ...`.
    pub answer_bytes: u32,
    /// Silence before the first token (or before the whole answer, when it is not streamed).
    pub first_token: Duration,
    /// Tokens per second after the first; 0 means as fast as possible.
    pub token_rate: u32,
    /// The answer repeats the last message instead of counting tokens.
    pub echo: bool,
    /// Events of a stream are gathered into few writes, instead of one write each.
    pub coalesce: bool,
    /// Requests of a model at once; one more is answered 429 at once. 0 means no such limit.
    pub capacity: u32,
    /// Requests of a model at once that it answers at ease; with k times as many the first token takes k
    /// times as long. 0 means that load changes nothing.
    pub at_ease: u32,
    pub fault: Option<Fault>,
    /// How many of 1000 requests meet the fault.
    pub permille: u16,
    /// Only the first so many requests of a model meet the fault; 0 means no such limit.
    pub for_first: u32,
    /// `retry-after` of a status fault in seconds; `None` means 1 for a 429 and no header for others.
    pub retry_after_s: Option<u32>,
    /// Seed of the permille dice.
    pub seed: u64,
}

/// How an answer fails. `After(k)` counts content chunks of a stream; 0 is right behind the head, a k beyond
/// the end means the end. An answer that is not streamed takes half its body for any k above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reset right after accept when set for the whole mock; in a model's script the same as `Reset`.
    Refuse,
    /// TCP reset before any byte of the answer.
    Reset,
    /// TCP reset behind the head and k chunks.
    ResetAfter(u32),
    /// Silence instead of a head, until the client leaves.
    Hang,
    /// Silence behind the head and k chunks, until the client leaves.
    HangAfter(u32),
    /// The connection closes without the last chunk (on HTTP/2: the stream is reset).
    CutAfter(u32),
    /// The body ends cleanly, but without finish_reason and `[DONE]`: silent truncation.
    EndAfter(u32),
    /// One event of broken JSON and a line that is no field; then the answer goes on.
    MalformedSseAfter(u32),
    /// `data: {"error":...}` and then the connection closes without the last chunk.
    SseErrorAfter(u32),
    /// The body of an answer that is not streamed is no JSON.
    MalformedJson,
    /// A good head, then bytes that break the framing; when not streamed, behind a whole body, where they
    /// look like the start of the next answer (on HTTP/2: the stream is reset).
    Garbage,
    /// This status with an error body.
    Status(u16),
    /// So many bytes a second, head included (on HTTP/2: the body only).
    Slow(u32),
    /// `content-length` promises more than is sent before the connection closes.
    WrongLength,
    /// Header lines without end (on HTTP/2: a few thousand of them).
    EndlessHead,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            tokens: 20,
            answer_bytes: 0,
            first_token: Duration::ZERO,
            token_rate: 0,
            echo: false,
            coalesce: false,
            capacity: 0,
            at_ease: 0,
            fault: None,
            permille: 1000,
            for_first: 0,
            retry_after_s: None,
            seed: 1,
        }
    }
}

impl Script {
    /// The part of a model's name behind its first `--`, if it has one.
    pub fn of_model(model: &str) -> Option<&str> {
        model.split_once("--").map(|(_, words)| words)
    }

    /// Overrides this script with `words`.
    pub fn apply(&mut self, words: &str) -> Result<(), BadWord> {
        words.split("--").filter(|word| !word.is_empty()).try_for_each(|word| self.apply_word(word))
    }

    fn apply_word(&mut self, word: &str) -> Result<(), BadWord> {
        let bad = || BadWord { word: word.to_owned() };
        let (name, number) = split_number(word).ok_or_else(bad)?;
        match (name, number) {
            ("tokens", Some(n)) if (1..=TOKENS_MAX).contains(&n) => self.tokens = n,
            ("answer-bytes", Some(n)) if n <= ANSWER_BYTES_MAX => self.answer_bytes = n,
            ("first-token-ms", Some(n)) if n <= FIRST_TOKEN_MS_MAX => {
                self.first_token = Duration::from_millis(n.into());
            }
            ("token-rate", Some(n)) if n <= TOKEN_RATE_MAX => self.token_rate = n,
            ("echo", None) => self.echo = true,
            ("coalesce", None) => self.coalesce = true,
            ("capacity", Some(n)) if n <= AT_ONCE_MAX => self.capacity = n,
            ("at-ease", Some(n)) if n <= AT_ONCE_MAX => self.at_ease = n,
            ("permille", Some(n)) if n <= 1000 => self.permille = n as u16,
            ("for-first", Some(n)) => self.for_first = n,
            ("retry-after", Some(n)) => self.retry_after_s = Some(n),
            ("seed", Some(n)) => self.seed = n.into(),
            _ => self.fault = fault_of(name, number).ok_or_else(bad)?,
        }
        Ok(())
    }

    /// Tokens of one answer when the client allows `allowed`, and whether that cut it short.
    pub(crate) fn tokens_within(&self, allowed: Option<u32>) -> (u32, bool) {
        match allowed {
            Some(allowed) if allowed < self.tokens => (allowed, true),
            _ => (self.tokens, false),
        }
    }

    /// The status of a request that found `at_once` under way, itself among them; `None`: there is room.
    pub(crate) fn status_at(&self, at_once: u64) -> Option<u16> {
        (self.capacity > 0 && at_once > u64::from(self.capacity)).then_some(429)
    }

    /// Silence before the first token of a request that found `at_once` under way, itself among them.
    pub(crate) fn first_token_at(&self, at_once: u64) -> Duration {
        let ease = u64::from(self.at_ease);
        if ease == 0 || at_once <= ease {
            return self.first_token;
        }
        self.first_token.mul_f64(at_once as f64 / ease as f64)
    }

    /// The fault that request `number` (from 0) of its model meets.
    pub(crate) fn fault_of_request(&self, number: u64) -> Option<Fault> {
        let early = self.for_first == 0 || number < u64::from(self.for_first);
        let thrown = self.permille == 1000 || crate::seeded::permille_of(self.seed, number) < self.permille;
        self.fault.filter(|_| early && thrown)
    }
}

impl Fault {
    /// Some faults exist only in streams, one only outside; elsewhere they are no fault at all.
    pub(crate) fn is_for(self, streamed: bool) -> bool {
        match self {
            Fault::EndAfter(_) | Fault::MalformedSseAfter(_) | Fault::SseErrorAfter(_) => streamed,
            Fault::MalformedJson => !streamed,
            _ => true,
        }
    }
}

/// `None` inside means: the word `no-fault`, which takes back a fault of an earlier place.
fn fault_of(name: &str, number: Option<u32>) -> Option<Option<Fault>> {
    Some(Some(match (name, number) {
        ("no-fault", None) => return Some(None),
        ("refuse", None) => Fault::Refuse,
        ("reset", None) => Fault::Reset,
        ("reset-after-head", None) => Fault::ResetAfter(0),
        ("reset-after", Some(k)) => Fault::ResetAfter(k),
        ("hang", None) => Fault::Hang,
        ("hang-after", Some(k)) => Fault::HangAfter(k),
        ("cut-after", Some(k)) => Fault::CutAfter(k),
        ("end-after", Some(k)) => Fault::EndAfter(k),
        ("malformed-sse-after", Some(k)) => Fault::MalformedSseAfter(k),
        ("sse-error-after", Some(k)) => Fault::SseErrorAfter(k),
        ("malformed-json", None) => Fault::MalformedJson,
        ("garbage", None) => Fault::Garbage,
        ("status", Some(status @ 400..=599)) => Fault::Status(status as u16),
        ("slow", None) => Fault::Slow(1),
        ("slow", Some(rate @ 1..=SLOW_MAX)) => Fault::Slow(rate),
        ("wrong-length", None) => Fault::WrongLength,
        ("endless-head", None) => Fault::EndlessHead,
        _ => return None,
    }))
}

/// `cut-after-5` is (`cut-after`, 5); `hang` is (`hang`, none). A number too large is no word at all.
fn split_number(word: &str) -> Option<(&str, Option<u32>)> {
    match word.rsplit_once('-') {
        Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((name, Some(digits.parse().ok()?)))
        }
        _ => Some((word, None)),
    }
}

/// A word that no script knows, or whose number is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWord {
    pub word: String,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mock script: `{}` is no known word or out of range; use {WORDS}", self.word)
    }
}

impl std::error::Error for BadWord {}

/// Every word, for messages and `--help`.
pub const WORDS: &str = "tokens-N (1..1000000), answer-bytes-N (0..16777216), first-token-ms-N, \
token-rate-N (tokens/s, 0 = unpaced), echo, coalesce, capacity-N (requests of a model at once, one more is \
answered 429; 0 = any), at-ease-N (with k times as many at once the first token takes k times as long), \
permille-N (share of requests with the fault), \
for-first-N (only the first N requests of a model meet the fault), retry-after-N (seconds), seed-N; and one \
fault of: refuse, reset, reset-after-head, reset-after-K, hang, hang-after-K, cut-after-K, end-after-K, \
malformed-sse-after-K, sse-error-after-K, malformed-json, garbage, status-N (400..599), slow, \
slow-N (bytes/s), wrong-length, endless-head, no-fault";

/// An answer of a million chunks already takes seconds; more would only be a typing error.
const TOKENS_MAX: u32 = 1_000_000;
/// The whole text is built in memory when it is not streamed.
const ANSWER_BYTES_MAX: u32 = 16 << 20;
/// One hour: longer than any deadline a test would wait for.
const FIRST_TOKEN_MS_MAX: u32 = 3_600_000;
/// Finer than the timer's millisecond a rate is only a burst per tick.
const TOKEN_RATE_MAX: u32 = 1_000_000;
/// More than the mock has connections.
const AT_ONCE_MAX: u32 = 1_000_000;
/// A slow answer faster than this is not slow.
const SLOW_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn script(words: &str) -> Script {
        let mut script = Script::default();
        script.apply(words).unwrap();
        script
    }

    #[test]
    fn a_models_name_carries_its_script_behind_two_dashes() {
        assert_eq!(Script::of_model("mock-small--tokens-20--cut-after-5"), Some("tokens-20--cut-after-5"));
        assert_eq!(Script::of_model("gpt-4o-mini"), None);
        let read = script("tokens-7--answer-bytes-500--first-token-ms-50--token-rate-100--cut-after-5--echo");
        assert_eq!((read.tokens, read.answer_bytes, read.token_rate, read.echo), (7, 500, 100, true));
        assert_eq!((read.first_token, read.fault), (Duration::from_millis(50), Some(Fault::CutAfter(5))));
    }

    #[test]
    fn every_fault_has_its_word() {
        let words = "refuse reset reset-after-head reset-after-3 hang hang-after-3 cut-after-3 end-after-3 \
            malformed-sse-after-3 sse-error-after-3 malformed-json garbage status-529 slow slow-9 \
            wrong-length endless-head";
        let faults: Vec<_> = words.split_whitespace().map(|word| script(word).fault.unwrap()).collect();
        assert_eq!(faults.len(), 17);
        assert_eq!(faults[12], Fault::Status(529));
        assert_eq!(script("hang--no-fault").fault, None);
    }

    #[test]
    fn a_word_unknown_or_out_of_range_is_refused_by_name() {
        for word in
            ["tokns-5", "tokens", "tokens-0", "tokens-1000001", "permille-1001", "status-200", "echo-1"]
        {
            let refused = Script::default().apply(word).unwrap_err();
            assert_eq!(refused.word, word);
            assert!(refused.to_string().contains("cut-after-K"), "the message lists what exists");
        }
        assert!(Script::default().apply("tokens-99999999999").is_err());
    }

    #[test]
    fn a_fault_for_the_first_two_spares_the_third() {
        let read = script("reset--for-first-2");
        let met: Vec<bool> = (0..4).map(|n| read.fault_of_request(n).is_some()).collect();
        assert_eq!(met, [true, true, false, false]);
    }

    #[test]
    fn a_permille_is_met_by_about_its_share_and_repeats() {
        let read = script("reset--permille-100");
        let met = |seed: u64| {
            let read = Script { seed, ..read.clone() };
            (0..10_000).filter(|&n| read.fault_of_request(n).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(met(1), met(1));
        assert_ne!(met(1), met(2));
        assert!((800..1200).contains(&met(1).len()), "{} of 10000", met(1).len());
        assert_eq!(script("reset--permille-0").fault_of_request(0), None);
    }

    #[test]
    fn a_capacity_refuses_what_is_above_it_and_load_beyond_ease_delays_in_proportion() {
        let read = script("capacity-4--at-ease-2--first-token-ms-10");
        assert_eq!((read.status_at(4), read.status_at(5)), (None, Some(429)));
        let delays = [1, 2, 3, 4].map(|at_once| read.first_token_at(at_once).as_millis());
        assert_eq!(delays, [10, 10, 15, 20]);
        assert_eq!(script("capacity-0").status_at(1_000_000), None);
        assert_eq!(script("first-token-ms-10").first_token_at(1000).as_millis(), 10);
    }

    #[test]
    fn a_client_that_allows_fewer_tokens_cuts_the_answer() {
        let read = script("tokens-20");
        assert_eq!(read.tokens_within(None), (20, false));
        assert_eq!(read.tokens_within(Some(20)), (20, false));
        assert_eq!(read.tokens_within(Some(19)), (19, true));
    }
}
