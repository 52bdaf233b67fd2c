//! What is found by its words: a tantivy index beside the store, made from it and following it. The store
//! knows nothing of it and waits for nothing of it; a search waits until the index has everything that was
//! acknowledged before it.
//!
//! Rooms, in reading order: [`source`] (what is asked of a store), [`shape`] (what is kept of an item),
//! `split` (its words), `open` (the files), `disk` (how they are written), `follow` (who keeps it), [`ask`]
//! (questions).

pub mod ask;
mod disk;
mod follow;
mod open;
pub mod shape;
pub mod source;
mod split;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use memory_core::wall::Wall;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use self::ask::{Hits, Question, View};
use self::follow::Follower;
use self::source::Source;
use crate::store::StoreFault;
use crate::store::reading::Item;
use crate::telemetry::Metrics;

/// Whoever asks. The thread that keeps the index ends once every handle is gone.
#[derive(Clone)]
pub struct Index {
    source: Arc<dyn Source>,
    views: watch::Receiver<Option<View>>,
    wake: SyncSender<()>,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Matches {
    pub items: Vec<(f32, Item)>,
    /// To go on behind the last of them; `None`: those were all.
    pub next: Option<usize>,
}

/// Told when the thread has ended.
pub type Closed = oneshot::Receiver<()>;

impl Index {
    /// Starts the thread. `data_dir`: where its folder is.
    pub fn start(
        source: Arc<dyn Source>,
        data_dir: &Path,
        metrics: &Metrics,
    ) -> std::io::Result<(Index, Closed)> {
        let (views, seen) = watch::channel(None);
        // One is enough: it means that somebody waits for all there is.
        let (wake, wakes) = sync_channel(1);
        let (ended, closed) = oneshot::channel();
        let follower = Follower {
            source: Arc::clone(&source),
            folder: data_dir.join(FOLDER),
            views,
            failures: metrics.index_failures.clone(),
            rebuilds: metrics.index_rebuilds.clone(),
        };
        std::thread::Builder::new().name("memory-index".into()).spawn(move || {
            follower.run(&wakes);
            // Nobody waits for it where the gateway was dropped.
            let _ = ended.send(());
        })?;
        Ok((Index { source, views: seen, wake }, closed))
    }

    /// The items that a question's words say most about, the best first; fewer than asked for where they
    /// would make the answer too long.
    pub async fn search(
        &self,
        tenant: &Arc<str>,
        question: &Question,
        now: Wall,
    ) -> Result<Matches, StoreFault> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let view = self.view(self.source.reached()).await?;
            let (source, whose, asked) = (Arc::clone(&self.source), Arc::clone(tenant), question.clone());
            let found = tokio::task::spawn_blocking(move || find(&*source, &view, &whose, &asked, now));
            let (matches, is_whole) = found.await.map_err(|_| StoreFault::Search)??;
            // What was found and is not there any more was written over meanwhile, maybe by something that
            // would be found too.
            if is_whole || left == 0 {
                return Ok(matches);
            }
        }
    }

    /// The index with everything up to a change.
    async fn view(&self, reached: u64) -> Result<View, StoreFault> {
        let mut views = self.views.clone();
        let is_new = |view: &Option<View>| view.as_ref().is_some_and(|view| view.reached >= reached);
        if !is_new(&views.borrow_and_update()) {
            // A full channel wakes it too.
            let _ = self.wake.try_send(());
        }
        let view = timeout(BEHIND_WAIT, views.wait_for(is_new)).await.map_err(|_| StoreFault::Behind)?;
        view.map_err(|_| StoreFault::Stopping)?.clone().ok_or(StoreFault::Behind)
    }
}

/// Asks the index, and the store for what it named; whether all of that was there.
fn find(
    source: &dyn Source,
    view: &View,
    tenant: &str,
    question: &Question,
    now: Wall,
) -> Result<(Matches, bool), StoreFault> {
    let Hits { rows, has_more } = view.ask(tenant, question, now).map_err(|error| {
        tracing::error!(%error, "a search failed");
        StoreFault::Search
    })?;
    let (scores, places): (Vec<f32>, Vec<_>) =
        rows.into_iter().map(|hit| (hit.score, (hit.path, hit.version))).unzip();
    let found = source.items(tenant, &places, now)?;
    let (told, is_cut) = (found.len(), found.len() < places.len());
    let is_whole = found.iter().all(Option::is_some);
    let next = (has_more || is_cut).then_some(question.skip + told);
    let items = scores.into_iter().zip(found).filter_map(|(score, item)| item.map(|item| (score, item)));
    Ok((Matches { items: items.collect(), next }, is_whole))
}

/// In the data folder; can be deleted while no gateway runs.
pub const FOLDER: &str = "memory.index";
/// For the index to catch up, or to be made: after that a search is to come again.
const BEHIND_WAIT: Duration = Duration::from_secs(5);
/// Of one search, where others write what it finds.
const TRIES: u32 = 3;

#[cfg(test)]
mod tests;
