//! A resources file: served as it stands, read again when it changes. A version with mistakes changes
//! nothing.

use std::path::PathBuf;
use std::time::Duration;

use proto_core::parse::{Parsed, Source, documents};

use super::Installer;

/// Looks at the file until the process ends.
pub async fn follow(mut installer: Installer, path: PathBuf) {
    let mut last = None;
    let mut number = 0;
    let mut settling = None;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let content = tokio::fs::read(&path).await;
        let content = match content {
            Ok(content) if content.len() <= FILE_BYTES_MAX => content,
            Ok(content) => {
                let bytes = content.len();
                log_once(
                    &mut last,
                    None,
                    || tracing::error!(file = %path.display(), bytes, "too large to serve"),
                );
                continue;
            }
            Err(error) => {
                installer.set_source_ok(false);
                log_once(&mut last, None, || {
                    tracing::error!(file = %path.display(), %error, "the resources file cannot be read");
                });
                continue;
            }
        };
        if last.as_ref().is_some_and(|last| last.as_ref() == Some(&content)) {
            continue;
        }
        // A file that is being written is not read half: it counts once two looks see the same. At a start
        // there is nothing to lose by serving at once.
        if number > 0 && settling.as_ref() != Some(&content) {
            settling = Some(content);
            continue;
        }
        settling = None;
        number += 1;
        let is_served = install(&mut installer, &path, number, &content);
        installer.set_source_ok(is_served);
        last = Some(Some(content));
    }
}

fn install(installer: &mut Installer, path: &std::path::Path, number: u64, content: &[u8]) -> bool {
    let file = path.display().to_string();
    let parsed = match documents(&[Source { file: &file, content }]) {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| tracing::error!("{mistake}"));
            tracing::error!(%file, mistakes = mistakes.len(), "not served; what was served before still is");
            installer.on_refused();
            return false;
        }
    };
    let Parsed { documents, warnings } = parsed;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if documents.is_empty() && number > 1 {
        tracing::error!(%file, "holds no resource; what was served before still is");
        installer.on_refused();
        return false;
    }
    match installer.install(0, number, &documents) {
        Ok(()) => true,
        Err(refusals) => {
            for refusal in &refusals {
                tracing::error!(kind = refusal.kind, name = refusal.name, "{}", refusal.reason);
            }
            tracing::error!(%file, "not served; what was served before still is");
            false
        }
    }
}

/// Says it when it begins, not at every look.
fn log_once(last: &mut Option<Option<Vec<u8>>>, now: Option<Vec<u8>>, log: impl FnOnce()) {
    if *last != Some(now.clone()) {
        log();
        *last = Some(now);
    }
}

/// A change is served within it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
