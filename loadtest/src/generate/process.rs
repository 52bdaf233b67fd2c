//! CPU time of another process, from /proc.
//!
//! What it is for: the cost of a request in the proxy, which latency does not show while there is room. It
//! reads only, and counts all threads of a process, also those that have ended.

use std::time::Duration;

/// CPU time used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    pub user: Duration,
    pub system: Duration,
}

impl CpuTime {
    /// Of one process; the error says which and why.
    pub fn of(pid: u32) -> Result<CpuTime, String> {
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&path)
            .map_err(|e| format!("{path}: {e}; is the process still running?"))?;
        parse(&stat).ok_or_else(|| format!("{path}: fields 14 and 15 are no numbers: {stat}"))
    }

    /// Sum over processes.
    pub fn of_all(pids: &[u32]) -> Result<CpuTime, String> {
        pids.iter().try_fold(CpuTime::default(), |sum, &pid| {
            let one = CpuTime::of(pid)?;
            Ok(CpuTime { user: sum.user + one.user, system: sum.system + one.system })
        })
    }

    pub fn since(self, before: CpuTime) -> CpuTime {
        let user = self.user.saturating_sub(before.user);
        CpuTime { user, system: self.system.saturating_sub(before.system) }
    }

    pub fn total_us(self) -> f64 {
        (self.user + self.system).as_secs_f64() * 1e6
    }
}

fn parse(stat: &str) -> Option<CpuTime> {
    // The second field is a name in parentheses that may hold spaces and parentheses itself.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(CpuTime { user: TICK * u32::try_from(user).ok()?, system: TICK * u32::try_from(system).ok()? })
}

/// Linux shows ticks of 1/100 s to programs on every architecture (USER_HZ); with a busy second per sample
/// that is 1 %.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat =
            "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 4 0 100 1000 100 18446744073709551615";
        let time = parse(stat).unwrap();
        assert_eq!((time.user, time.system), (Duration::from_millis(2500), Duration::from_millis(500)));
        assert!((time.total_us() - 3e6).abs() < 1.0);
        assert_eq!(parse("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_a_missing_one_is_named() {
        let sum = CpuTime::of_all(&[std::process::id()]).unwrap();
        assert_eq!(sum.since(sum), CpuTime::default());
        assert!(CpuTime::of(u32::MAX).unwrap_err().contains("/proc/4294967295/stat"));
    }
}
