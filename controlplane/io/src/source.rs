//! A file as the whole truth: read again every second, taken where it changed and is right. A file with
//! mistakes, or none at all, changes nothing: what was taken last stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use controlplane_core::intent::Intent;
use proto_core::parse::{Mistake, Source, documents};
use tokio::io::AsyncReadExt;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::REQUEST_BYTES_MAX;
use crate::metrics::{Metrics, Outcome};
use crate::shutdown::Stopping;
use crate::writer::{WriteFault, Writer};

/// A watched file.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    /// What was looked at last, right or wrong: the same bytes are not judged, nor told of, twice.
    seen: Option<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Content(Vec<u8>),
    Failure(String),
}

impl FileSource {
    pub fn new(path: PathBuf) -> FileSource {
        FileSource { path, seen: None }
    }

    /// Watches until told to stop.
    pub async fn watch(mut self, writer: Writer, metrics: &Metrics, stopping: Stopping) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.wait() => return,
                _ = ticks.tick() => {}
            }
            if let Some(outcome) = self.reconcile(&writer).await {
                metrics.applied(outcome);
            }
        }
    }

    /// Looks once; `None`: there is nothing new.
    pub async fn reconcile(&mut self, writer: &Writer) -> Option<Outcome> {
        let file = self.path.display().to_string();
        let seen = match read(&self.path).await {
            Ok(content) => Seen::Content(content),
            Err(error) => Seen::Failure(error.to_string()),
        };
        if self.seen.as_ref() == Some(&seen) {
            return None;
        }
        let content = match self.seen.insert(seen) {
            Seen::Content(content) => content.clone(),
            Seen::Failure(why) => {
                tracing::error!(file, why, "the resources cannot be read; what was taken last stays");
                return Some(Outcome::Failed);
            }
        };
        let parsed = tokio::task::spawn_blocking({
            let file = file.clone();
            move || documents(&[Source { file: &file, content: &content }])
        });
        let parsed = match parsed.await.ok()? {
            Ok(parsed) => parsed,
            Err(mistakes) => return Some(refused(&file, &mistakes)),
        };
        for warning in &parsed.warnings {
            tracing::warn!("{warning}");
        }
        match writer.submit(Intent::Replace(parsed.documents)).await {
            Ok(applied) => {
                tracing::info!(file, generation = %applied.generation, "resources taken");
                Some(Outcome::Applied)
            }
            Err(WriteFault::Refused(controlplane_core::intent::Refusal::Mistakes(mistakes))) => {
                Some(refused(&file, &mistakes))
            }
            Err(fault) => {
                tracing::error!(file, %fault, "the resources were not taken; trying again");
                // Not of the file's making: the same bytes may do later.
                self.seen = None;
                Some(Outcome::Failed)
            }
        }
    }
}

fn refused(file: &str, mistakes: &[Mistake]) -> Outcome {
    for mistake in mistakes {
        tracing::error!("{mistake}");
    }
    tracing::error!(file, mistakes = mistakes.len(), "the file has mistakes; what was taken last stays");
    Outcome::Mistakes
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = REQUEST_BYTES_MAX as u64;
    tokio::fs::File::open(path).await?.take(limit + 1).read_to_end(&mut content).await?;
    if content.len() as u64 > limit {
        return Err(std::io::Error::other(format!(
            "it has more than {limit} bytes, which is all a file may have"
        )));
    }
    Ok(content)
}

/// How soon an edit is seen. Reading a file of a few KiB costs microseconds.
const READ_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    const ECHO: &str = "kind: Adapter\nname: echo\nspec: { kind: echo, models: [ { name: echo-1 } ] }\n";
    const OTHER: &str = "kind: Adapter\nname: other\nspec: { kind: echo, models: [ { name: echo-1 } ] }\n";

    async fn writer(folder: &Path) -> Writer {
        Writer::start(Box::new(Embedded::open(folder).unwrap())).await.unwrap()
    }

    fn names(writer: &Writer) -> Vec<String> {
        writer.state().stored.entries().map(|entry| entry.document.name.to_string()).collect()
    }

    #[tokio::test]
    async fn the_file_is_the_whole_truth_and_only_a_change_of_it_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, path) = (writer(folder.path()).await, folder.path().join("resources.yaml"));
        let mut source = FileSource::new(path.clone());
        std::fs::write(&path, format!("{ECHO}---\n{OTHER}")).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Applied));
        assert_eq!(names(&writer), ["echo", "other"]);
        assert_eq!(source.reconcile(&writer).await, None);
        std::fs::write(&path, OTHER).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Applied));
        assert_eq!(names(&writer), ["other"]);
    }

    #[tokio::test]
    async fn a_file_with_mistakes_too_large_or_gone_leaves_what_was_taken_last() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, path) = (writer(folder.path()).await, folder.path().join("resources.yaml"));
        let mut source = FileSource::new(path.clone());
        std::fs::write(&path, ECHO).unwrap();
        source.reconcile(&writer).await;
        std::fs::write(&path, ECHO.replace("models", "modles")).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Mistakes));
        assert_eq!(source.reconcile(&writer).await, None, "told once");
        std::fs::write(&path, " ".repeat(REQUEST_BYTES_MAX + 1)).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Failed));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Failed));
        assert_eq!(names(&writer), ["echo"]);
        std::fs::write(&path, OTHER).unwrap();
        assert_eq!(source.reconcile(&writer).await, Some(Outcome::Applied));
        assert_eq!(names(&writer), ["other"]);
    }
}
