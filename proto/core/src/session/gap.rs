//! A hole in what came: when the other end is asked to send again, and when that is given up.
//!
//! ```text
//!         GAP                  GAP, at most TRIES_MAX times with nothing new
//!  Noticed ───> Asked ─────────────────────────────────────────────────────> GivenUp
//!                 │ ^ something new: counted from the start
//!                 └─┘
//! ```

use std::time::Duration;

use crate::frame::Code;
use crate::units::Moment;

use super::content::Missing;
use super::event::Refusal;

#[derive(Debug)]
pub(super) struct Gap {
    ask_at: Moment,
    tries: u8,
    /// How much had been taken when it was last asked.
    taken: u64,
}

impl Gap {
    /// Noticed now.
    pub fn new(taken: u64, now: Moment) -> Gap {
        Gap { ask_at: now + GAP, tries: 0, taken }
    }

    pub fn due(&self) -> Moment {
        self.ask_at
    }

    /// It is time. False: asking was no use.
    pub fn may_ask(&mut self, taken: u64, now: Moment) -> bool {
        if self.taken != taken {
            (self.taken, self.tries) = (taken, 0);
        }
        if self.tries == TRIES_MAX {
            return false;
        }
        self.tries += 1;
        self.ask_at = now + GAP;
        true
    }
}

/// Says what is missing: numbers of messages, and of fragments where only those are.
pub(super) fn never_came(missing: &[Missing]) -> Refusal {
    let mut reason = String::from("never came:");
    for one in missing {
        let parts: Vec<String> = one.fragments.iter().map(u32::to_string).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(" ")) };
        reason.push_str(&format!(" {}{parts}", one.msg_seq));
    }
    Refusal { reason: reason.into(), ..Refusal::new(Code::SeqRetry, "") }
}

/// From noticing a hole to asking, and from asking to asking again: what is only late has come by then.
pub(super) const GAP: Duration = Duration::from_millis(500);

/// In a row, with nothing new: four seconds.
pub(super) const TRIES_MAX: u8 = 8;

/// Messages asked for at a time.
pub(super) const ITEMS_MAX: usize = 16;

/// Fragments of one message asked for at a time: a frame's worth of numbers.
pub(super) const PARTS_MAX: usize = 64;
