//! When a queue is too old: three long waits in a row raise the mark, one short wait takes it down. While it
//! is up, frames are marked with ECN and senders are told how long to wait. It never drops anything.

use std::time::Duration;

/// The queue of one upstream, judged by how long what leaves it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    highs: u8,
    is_raised: bool,
}

/// The mark has just been raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub suggested_wait: Duration,
}

impl Watermark {
    /// Something left the queue after `wait`. The mark only where this raised it, so that it is counted once.
    pub fn on_wait(&mut self, wait: Duration) -> Option<Mark> {
        if wait < HIGH {
            self.highs = 0;
            self.is_raised &= wait > LOW;
            return None;
        }
        self.highs = (self.highs + 1).min(HIGHS);
        let is_first = self.highs == HIGHS && !self.is_raised;
        self.is_raised |= self.highs == HIGHS;
        is_first.then(|| Mark { suggested_wait: wait.min(SUGGESTED_WAIT_MAX) })
    }

    /// Frames get the ECN flag.
    pub fn is_raised(&self) -> bool {
        self.is_raised
    }
}

/// Puts the flag on a frame that does not have it; whether it did.
pub fn mark_ecn(flags: &mut Vec<String>) -> bool {
    let is_new = !flags.iter().any(|flag| flag == ECN);
    if is_new {
        flags.push(ECN.to_owned());
    }
    is_new
}

const ECN: &str = "ECN";
/// Where people begin to notice.
const HIGH: Duration = Duration::from_millis(250);
/// Far enough below that a queue at the edge does not flicker.
const LOW: Duration = Duration::from_millis(50);
/// One long wait is an accident, three are a queue.
const HIGHS: u8 = 3;
/// A sender told more than this would rather give up.
const SUGGESTED_WAIT_MAX: Duration = Duration::from_millis(1000);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(wait: u64) -> Duration {
        Duration::from_millis(wait)
    }

    #[test]
    fn three_long_waits_in_a_row_raise_the_mark_once() {
        let mut mark = Watermark::default();
        assert_eq!([mark.on_wait(ms(250)), mark.on_wait(ms(300))], [None, None]);
        assert_eq!(mark.on_wait(ms(400)), Some(Mark { suggested_wait: ms(400) }));
        assert_eq!([mark.on_wait(ms(500)), mark.on_wait(ms(500))], [None, None]);
        assert!(mark.is_raised());
    }

    #[test]
    fn a_wait_below_the_high_mark_breaks_the_row_and_only_a_short_one_takes_the_mark_down() {
        let mut mark = Watermark::default();
        for wait in [300, 300, 249, 300, 300] {
            assert_eq!(mark.on_wait(ms(wait)), None);
        }
        assert_eq!(mark.on_wait(ms(5000)), Some(Mark { suggested_wait: ms(1000) }));
        mark.on_wait(ms(51));
        assert!(mark.is_raised());
        mark.on_wait(ms(50));
        assert!(!mark.is_raised());
    }

    #[test]
    fn a_frame_is_marked_once() {
        let mut flags = vec!["SYN".to_owned()];
        assert!(mark_ecn(&mut flags));
        assert!(!mark_ecn(&mut flags));
        assert_eq!(flags, ["SYN", "ECN"]);
    }
}
