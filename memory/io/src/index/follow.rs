//! The one that keeps the index: a thread that reads what the store tells of its changes. Nothing that is
//! written waits for it. Where it fails it begins anew, and compares everything the index has with everything
//! the store has; so it needs no memory of what it had done.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::search::{Words, texts};
use prometheus::IntCounter;
use tantivy::columnar::Column;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, Searcher, SegmentReader, TERMINATED, TantivyError, Term};
use tokio::sync::watch;

use super::ask::{Total, Totals, View};
use super::open::Open;
use super::shape::{LENGTH, Leaf, NEVER, UPDATED, VERSION};
use super::source::{Followed, Source, State};
use crate::store::StoreFault;
use crate::store::feed::{Change, Unseen};
use crate::store::reading::Item;

pub struct Follower {
    pub source: Arc<dyn Source>,
    pub folder: PathBuf,
    pub views: watch::Sender<Option<View>>,
    pub failures: IntCounter,
    pub rebuilds: IntCounter,
}

/// Why it has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Store(#[from] StoreFault),
    #[error("the search index failed: {0}")]
    Index(#[from] TantivyError),
    #[error("the search index could not be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("the search index panicked")]
    Panic,
}

/// The index, and what is known of it.
struct Held {
    open: Open,
    totals: Totals,
    /// Bytes of values that no commit has yet.
    waiting: usize,
}

/// What the index has of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    version: u64,
    updated: u64,
    length: u64,
}

impl Follower {
    /// Follows until nobody can ask any more.
    pub fn run(self, wakes: &Receiver<()>) {
        // A panic of the library leaves nothing behind that the next round would use.
        let follow = || catch_unwind(AssertUnwindSafe(|| self.follow(wakes))).unwrap_or(Err(Fault::Panic));
        while let Err(fault) = follow() {
            self.failures.inc();
            tracing::error!(%fault, "searches wait until the index is read again");
            self.views.send_replace(None);
            if wakes.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn follow(&self, wakes: &Receiver<()>) -> Result<(), Fault> {
        let (open, is_new) = Open::at(&self.folder)?;
        if is_new {
            self.rebuilds.inc();
        }
        let mut held = Held { open, totals: Totals::default(), waiting: 0 };
        let Followed { reached, state, .. } = self.source.follow()?;
        held.compare(&*state)?;
        drop(state);
        self.publish(&mut held, reached)?;
        let mut told = reached;
        loop {
            if wakes.recv_timeout(TICK) == Err(RecvTimeoutError::Disconnected) {
                return Ok(());
            }
            let Followed { reached, unseen, state } = self.source.follow()?;
            match unseen {
                // Nothing new, and searches know how far that is: a comparison may have seen more than it
                // says.
                Unseen::Some(changes) if changes.is_empty() && reached == told => continue,
                Unseen::Some(changes) => held.apply(&changes, &*state)?,
                Unseen::Lost => held.compare(&*state)?,
            }
            drop(state);
            self.publish(&mut held, reached)?;
            told = reached;
        }
    }

    fn publish(&self, held: &mut Held, reached: u64) -> Result<(), Fault> {
        held.commit()?;
        let (searcher, shape) = (held.open.reader.searcher(), Arc::clone(&held.open.shape));
        self.views.send_replace(Some(View { reached, searcher, shape, totals: Arc::clone(&held.totals) }));
        Ok(())
    }
}

impl Held {
    fn commit(&mut self) -> Result<(), Fault> {
        self.waiting = 0;
        Ok(self.open.commit()?)
    }

    fn apply(&mut self, changes: &[Change], state: &dyn State) -> Result<(), Fault> {
        for change in changes {
            match change {
                Change::Put { tenant, version } => {
                    // One that is gone by now was never here.
                    if let Some(item) = state.item(tenant, *version)? {
                        let words = self.add(tenant, &item)?;
                        let mut totals = self.totals();
                        let total = totals.entry(tenant.clone()).or_default();
                        *total = Total { items: total.items + 1, words: total.words + words };
                    }
                }
                Change::Gone { tenant, version } => {
                    let term = self.open.shape.id_term(tenant, *version);
                    let Some(words) = length_of(&self.open.reader.searcher(), &term)? else { continue };
                    self.open.writer.delete_term(term);
                    let mut totals = self.totals();
                    let total = totals.entry(tenant.clone()).or_default();
                    total.items = total.items.saturating_sub(1);
                    total.words = total.words.saturating_sub(words);
                }
            }
        }
        Ok(())
    }

    /// Takes out what the store has not, and takes in what it has.
    fn compare(&mut self, state: &dyn State) -> Result<(), Fault> {
        let searcher = self.open.reader.searcher();
        let mut tenants = state.tenants()?;
        tenants.extend(tenants_of(&searcher, self.open.shape.tenant)?);
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in &tenants {
            let total = self.compare_tenant(&searcher, tenant, state)?;
            self.totals().insert(tenant.clone(), total);
        }
        Ok(())
    }

    fn compare_tenant(
        &mut self,
        searcher: &Searcher,
        tenant: &str,
        state: &dyn State,
    ) -> Result<Total, Fault> {
        let (mut has, mut total) =
            (stamps_of(searcher, &self.open.shape.tenant_term(tenant))?, Total::default());
        has.sort_unstable_by_key(|stamp| stamp.version);
        let mut has = has.into_iter().peekable();
        for (version, updated) in state.stamps(tenant)? {
            while let Some(stamp) = has.next_if(|stamp| stamp.version < version) {
                self.open.writer.delete_term(self.open.shape.id_term(tenant, stamp.version));
            }
            let mut same = None;
            let mut others = 0;
            while let Some(stamp) = has.next_if(|stamp| stamp.version == version) {
                if stamp.updated == updated.0 && same.is_none() { same = Some(stamp) } else { others += 1 }
            }
            let words = match same {
                Some(stamp) if others == 0 => stamp.length,
                _ => {
                    self.open.writer.delete_term(self.open.shape.id_term(tenant, version));
                    let Some(item) = state.item(tenant, version)? else { continue };
                    self.add(tenant, &item)?
                }
            };
            total = Total { items: total.items + 1, words: total.words + words };
        }
        for stamp in has {
            self.open.writer.delete_term(self.open.shape.id_term(tenant, stamp.version));
        }
        Ok(total)
    }

    /// Words of it.
    fn add(&mut self, tenant: &str, item: &Item) -> Result<u64, Fault> {
        // What is no JSON has no words; it is told of where it is read.
        let texts = serde_json::from_slice(&item.value).map(|value| texts(&value)).unwrap_or_default();
        let length = Words::of(&texts).count();
        let (path, entry) = (item.path.as_str(), item.entry);
        let (version, updated) = (entry.version, entry.updated.0);
        let expires = entry.expires.map_or(NEVER, |expires| expires.0);
        let leaf = Leaf { tenant, path, version, updated, expires, texts: &texts, length };
        if let Err(stopped) = self.open.writer.add_document(self.open.shape.document(&leaf)) {
            // Its thread has ended; what it ended of is told by a commit.
            return Err(self.open.commit().err().unwrap_or(stopped).into());
        }
        self.waiting += item.value.len();
        if self.waiting > WAITING_BYTES_MAX {
            self.commit()?;
        }
        Ok(length)
    }

    fn totals(&self) -> MutexGuard<'_, HashMap<String, Total>> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tenants_of(searcher: &Searcher, field: tantivy::schema::Field) -> Result<Vec<String>, Fault> {
    let mut tenants = Vec::new();
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(field)?;
        let mut terms = index.terms().stream()?;
        while let Some((name, _)) = terms.next() {
            tenants.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(tenants)
}

/// What the index has of a tenant.
fn stamps_of(searcher: &Searcher, tenant: &Term) -> Result<Vec<Stamp>, Fault> {
    let mut stamps = Vec::new();
    for segment in searcher.segment_readers() {
        let column = |name| segment.fast_fields().u64(name);
        let (versions, written, lengths) = (column(VERSION)?, column(UPDATED)?, column(LENGTH)?);
        each_alive(segment, tenant, |doc| {
            let value = |column: &Column<u64>| column.first(doc).unwrap_or_default();
            let (version, updated) = (value(&versions), value(&written));
            stamps.push(Stamp { version, updated, length: value(&lengths) });
        })?;
    }
    Ok(stamps)
}

/// Words of the one item that has a term; `None`: it is not there.
fn length_of(searcher: &Searcher, id: &Term) -> Result<Option<u64>, Fault> {
    let mut length = None;
    for segment in searcher.segment_readers() {
        let mut found = None;
        each_alive(segment, id, |doc| found = Some(doc))?;
        if let Some(doc) = found {
            length = segment.fast_fields().u64(LENGTH)?.first(doc);
        }
    }
    Ok(length)
}

fn each_alive(segment: &SegmentReader, term: &Term, mut visit: impl FnMut(u32)) -> Result<(), Fault> {
    let index = segment.inverted_index(term.field())?;
    let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? else { return Ok(()) };
    while postings.doc() != TERMINATED {
        if !segment.is_deleted(postings.doc()) {
            visit(postings.doc());
        }
        postings.advance();
    }
    Ok(())
}

/// Between two looks at what changed, where nobody asks.
const TICK: Duration = Duration::from_millis(200);
/// After a failure: a disk that is full is not asked at once again.
const PAUSE: Duration = Duration::from_secs(1);
/// Of values that were handed to tantivy and have no commit yet: they wait in its queue as documents.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
