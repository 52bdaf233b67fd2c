//! Files that may change: looked at now and then, on a thread that no request shares. They are written one
//! after the other, and each piece by piece: what is new counts once two looks see the same, and is judged
//! once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::server;
use crate::worker::Shared;

/// What was seen last, where that is not what is in use.
#[derive(Debug)]
pub struct Look<C> {
    last: Option<Result<C, String>>,
    is_judged: bool,
}

impl<C> Default for Look<C> {
    fn default() -> Look<C> {
        Look { last: None, is_judged: false }
    }
}

impl<C: PartialEq> Look<C> {
    /// What is to be judged now, or the reason why it cannot be read.
    pub fn on_found(&mut self, found: Result<C, String>, in_use: &C) -> Option<Result<C, String>> {
        if found.as_ref() == Ok(in_use) {
            *self = Look::default();
            return None;
        }
        if self.last.as_ref() != Some(&found) {
            *self = Look { last: Some(found), is_judged: false };
            return None;
        }
        (!std::mem::replace(&mut self.is_judged, true)).then_some(found)
    }
}

/// Looks at the files of listeners and adapters until the process ends.
pub async fn follow(shared: Arc<Shared>) {
    let mut listeners = Look::default();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(side) = &shared.tls {
            server::look(side, &mut listeners).await;
        }
        let Some(served) = shared.tables.peek() else { continue };
        for upstream in &served.upstreams {
            match upstream.look_at_files().await {
                // Order: relaxed, numbers for people.
                Some(true) => shared.adapter_files_taken.fetch_add(1, Ordering::Relaxed),
                // Order: relaxed, see above.
                Some(false) => shared.adapter_files_refused.fetch_add(1, Ordering::Relaxed),
                None => continue,
            };
        }
    }
}

/// A whole file of a bounded size.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error| format!("{} cannot be read: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(wrong)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes, more than {FILE_BYTES_MAX}", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}

/// A change is in use within three of these.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A list of revocations of a large authority.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_judged_once_and_only_when_seen_twice() {
        let mut look = Look::default();
        let mut see = |found: Result<u8, &str>, in_use: u8| {
            look.on_found(found.map_err(str::to_owned), &in_use).map(|found| found.is_ok())
        };
        assert_eq!(see(Ok(1), 1), None);
        assert_eq!(see(Ok(2), 1), None, "it may be half of something");
        assert_eq!(see(Ok(3), 1), None, "it was");
        assert_eq!(see(Ok(3), 1), Some(true));
        assert_eq!(see(Ok(3), 1), None, "refused; not judged again");
        assert_eq!(see(Err("gone"), 1), None);
        assert_eq!(see(Err("gone"), 1), Some(false));
        assert_eq!(see(Err("gone"), 1), None);
        assert_eq!(see(Ok(1), 1), None, "as it was before");
        assert_eq!(see(Ok(3), 1), None);
        assert_eq!(see(Ok(3), 1), Some(true), "a new try after all was well");
    }
}
