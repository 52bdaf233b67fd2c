//! What an agent says of itself, and what of the limit that leaves. The agent's word lowers, never raises.

use std::time::Duration;

use proto_core::units::Moment;

/// The agent's last status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentStatus {
    #[default]
    Ready,
    /// Takes nothing until it says otherwise.
    Busy,
    /// Takes nothing once `PAUSE_GRACE` has passed; until then as if ready.
    Pause { since: Moment },
    /// Ends soon: one at a time.
    Draining,
}

impl AgentStatus {
    /// What of `limit` is left; `suggested` is the agent's own wish.
    pub fn effective(self, limit: u32, suggested: Option<u32>, now: Moment) -> u32 {
        let wished = limit.min(suggested.unwrap_or(u32::MAX));
        match self {
            AgentStatus::Ready => wished,
            AgentStatus::Busy => 0,
            AgentStatus::Pause { since } if now < since + PAUSE_GRACE => wished,
            AgentStatus::Pause { .. } => 0,
            AgentStatus::Draining => limit.min(1),
        }
    }

    /// When [`AgentStatus::effective`] changes by itself.
    pub(super) fn changes_at(self, now: Moment) -> Option<Moment> {
        match self {
            AgentStatus::Pause { since } => Some(since + PAUSE_GRACE).filter(|end| *end > now),
            _ => None,
        }
    }
}

/// How long requests may still be sent after a pause was announced: those on their way are not refused.
const PAUSE_GRACE: Duration = Duration::from_millis(5000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_leaves_its_share_of_the_limit() {
        let now = Moment(10_000_000_000);
        let pause = AgentStatus::Pause { since: now };
        let last_of_grace = Moment(14_999_999_999);
        let cases = [
            (AgentStatus::Ready, None, now, 8),
            (AgentStatus::Ready, Some(3), now, 3),
            (AgentStatus::Ready, Some(30), now, 8),
            (AgentStatus::Busy, Some(3), now, 0),
            (pause, None, last_of_grace, 8),
            (pause, Some(3), last_of_grace, 3),
            (pause, Some(3), now + PAUSE_GRACE, 0),
            (AgentStatus::Draining, Some(3), now, 1),
        ];
        for (status, suggested, at, left) in cases {
            assert_eq!(status.effective(8, suggested, at), left, "{status:?} {suggested:?}");
        }
        assert_eq!(AgentStatus::Draining.effective(0, None, now), 0);
        assert_eq!(pause.changes_at(now), Some(now + PAUSE_GRACE));
        assert_eq!(pause.changes_at(now + PAUSE_GRACE), None);
    }
}
