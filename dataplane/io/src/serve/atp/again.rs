//! Requests that gave their place to another: kept for a while, so that their peer asks for them again by a
//! token instead of saying all of it once more, and is not cut a second time. Of one session; what is lost
//! here is only sent again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proto_core::frame::Text;
use proto_core::model::Qos;
use proto_core::units::Moment;

/// What a request said.
#[derive(Debug, Clone)]
pub struct Again {
    pub content: Bytes,
    pub task_type: Option<Text>,
    pub qos: Option<Qos>,
}

/// Those of a session, the oldest first.
#[derive(Debug, Default)]
pub struct Preempted(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    token: Text,
    since: Moment,
    again: Again,
}

impl Preempted {
    /// False where it is too long to be kept. `token`: a name nobody else has in this session.
    pub fn keep(&mut self, token: Text, again: Again, now: Moment) -> bool {
        self.forget_old(now);
        if again.content.len() > CONTENT_BYTES_MAX {
            return false;
        }
        if self.0.len() >= REQUESTS_MAX {
            self.0.pop_front();
        }
        // In memory of its own: it may be a few bytes of a large frame.
        let content = Bytes::copy_from_slice(&again.content);
        self.0.push_back(Kept { token, since: now, again: Again { content, ..again } });
        true
    }

    /// What the token was given out for; once.
    pub fn take(&mut self, token: &str, now: Moment) -> Option<Again> {
        self.forget_old(now);
        let at = self.0.iter().position(|kept| kept.token.as_str() == token)?;
        self.0.remove(at).map(|kept| kept.again)
    }

    /// When the oldest is forgotten, which nobody waits for but the memory it takes.
    pub fn due(&self) -> Option<Moment> {
        self.0.front().map(|kept| kept.since + KEPT_FOR)
    }

    pub fn on_time(&mut self, now: Moment) {
        self.forget_old(now);
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.0.iter().map(|kept| kept.again.content.len() + size_of::<Kept>()).sum()
    }

    fn forget_old(&mut self, now: Moment) {
        while self.0.front().is_some_and(|kept| now - kept.since >= KEPT_FOR) {
            self.0.pop_front();
        }
    }
}

/// The token of a message that asks for a request again; `None` for any other.
pub fn token(content: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Words {
        resume_token: String,
    }
    // Nearly every message is longer.
    let words = (content.len() <= WORDS_BYTES_MAX).then(|| serde_json::from_slice::<Words>(content).ok());
    words.flatten().map(|words| words.resume_token)
}

/// As long as existing peers keep their tokens.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// A session with more of them is told to send the oldest again.
const REQUESTS_MAX: usize = 16;
/// Of one; a longer request is sent again.
const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// A token and the key before it.
const WORDS_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn again(bytes: usize) -> Again {
        Again { content: Bytes::from(vec![b' '; bytes]), task_type: None, qos: Some(Qos::Bronze) }
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn a_token_is_good_once_and_for_its_time() {
        let mut preempted = Preempted::default();
        assert!(preempted.keep("a".into(), again(3), at(0)) && preempted.keep("b".into(), again(4), at(1)));
        assert!(preempted.take("c", at(2)).is_none());
        assert_eq!(preempted.take("b", at(2)).unwrap().content.len(), 4);
        assert!(preempted.take("b", at(2)).is_none(), "it is spent");
        assert!(preempted.keep("d".into(), again(1), at(2)));
        assert!(preempted.take("a", at(299)).is_some());
        assert!(preempted.take("d", at(302)).is_none(), "it is too old");
        assert_eq!(preempted.held_bytes(), 0);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_in_its_time() {
        let mut preempted = Preempted::default();
        assert_eq!(preempted.due(), None);
        assert!(preempted.keep("a".into(), again(3), at(1)) && preempted.keep("b".into(), again(4), at(2)));
        assert_eq!(preempted.due(), Some(at(301)));
        preempted.on_time(Moment(at(301).0 - 1));
        assert_eq!(preempted.due(), Some(at(301)), "not a moment before");
        preempted.on_time(at(301));
        assert_eq!(preempted.due(), Some(at(302)));
        preempted.on_time(at(302));
        assert_eq!((preempted.due(), preempted.held_bytes()), (None, 0));
    }

    #[test]
    fn so_many_are_kept_and_of_such_a_length() {
        let mut preempted = Preempted::default();
        assert!(preempted.keep("long".into(), again(CONTENT_BYTES_MAX), at(0)));
        assert!(!preempted.keep("longer".into(), again(CONTENT_BYTES_MAX + 1), at(0)));
        for name in 1..REQUESTS_MAX {
            preempted.keep(name.to_string().into(), again(1), at(0));
        }
        assert!(preempted.take("long", at(0)).is_some(), "there was room for all of them");
        for name in REQUESTS_MAX..REQUESTS_MAX + 2 {
            preempted.keep(name.to_string().into(), again(1), at(0));
        }
        assert!(preempted.take("1", at(0)).is_none(), "the oldest made room");
    }

    #[test]
    fn only_a_token_alone_asks_again() {
        assert_eq!(token(br#"{"resume_token":"t"}"#).as_deref(), Some("t"));
        for other in [&br#"{"prompt":"hi"}"#[..], br#"{"resume_token":"t","prompt":"hi"}"#, b"null", b""] {
            assert_eq!(token(other), None);
        }
    }
}
