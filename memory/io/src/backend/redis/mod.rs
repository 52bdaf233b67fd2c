//! Items in Redis, which several gateways may share. Whatever one call changes, item, counts, expiry and
//! event, is one script, and happens only where nothing of the tenant changed since it was decided; so quotas
//! are exact and the log is one chain, however many gateways write. Every call has a deadline and is counted
//! where it fails. How long Redis keeps what it acknowledged is Redis' own doing.
//!
//! Rooms, in reading order: [`server`] (which one), [`link`] (the connection), [`keys`] (what is called
//! what), [`draft`] (changes before they are made), [`writer`] (who makes them), [`reading`] (lists and the
//! log), [`follow`] (what the index is told).

pub mod draft;
pub mod follow;
pub mod keys;
pub mod link;
pub mod reading;
mod scripts;
pub mod server;
pub mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use memory_core::audit::Secret;
use memory_core::consistency::Consistency;
use memory_core::entry::{Entry, Precondition};
use memory_core::place::Place;
use memory_core::wall::Wall;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::draft::Needs;
use self::follow::Follower;
use self::link::Link;
use self::server::Server;
use self::writer::{Shared, Writer};
use super::Noted;
use crate::app::StartFault;
use crate::index::ask::Question;
use crate::index::{self, Index, Matches};
use crate::store::StoreFault;
use crate::store::account::Account;
use crate::store::changes::{Changes, Put, Refused, of_read};
use crate::store::reading::Item;
use crate::telemetry::Metrics;
use crate::writer::{Clock, Closed};

/// Two connections: what is read does not wait behind what is written.
#[derive(Clone)]
pub struct Redis {
    reads: Arc<Shared>,
    writer: Writer,
    places: Arc<Semaphore>,
    follower: Arc<Follower>,
    index: Index,
}

/// A draft never fails: what it looks at was loaded.
fn sure<T>(done: Result<T, std::convert::Infallible>) -> T {
    let Ok(value) = done;
    value
}

impl Redis {
    /// `clock`: instead of Redis' own. `data_dir`: where the index of this gateway is. A server that is gone
    /// is waited for by those who call; one that must not be used is an error.
    pub async fn open(
        server: Server,
        clock: Option<Clock>,
        secret: Option<Secret>,
        data_dir: &Path,
        metrics: &Metrics,
    ) -> Result<(Redis, Closed, index::Closed), StartFault> {
        let server = Arc::new(server);
        let shared = || {
            Arc::new(Shared {
                link: Link::new(Arc::clone(&server), metrics.store_errors.clone()),
                clock: clock.clone(),
                secret: secret.clone(),
                conflicts: metrics.store_conflicts.clone(),
                failed: metrics.failed.clone(),
            })
        };
        let (reads, writes) = (shared(), shared());
        let (writer, closed) = Writer::start(writes);
        let places = Arc::new(Semaphore::new(READS_MAX));
        match reads.health().await {
            Ok(()) => {}
            Err(fault @ (StoreFault::Unreachable { .. } | StoreFault::Late)) => {
                tracing::warn!(%fault, "calls are answered 503 until it is there");
            }
            Err(fault) => return Err(fault.into()),
        }
        let follower = Arc::new(Follower::new(Arc::clone(&reads)));
        let followed: Arc<Follower> = Arc::clone(&follower);
        let (index, index_closed) = Index::start(followed, data_dir, metrics)
            .map_err(|error| StartFault::Internal(format!("no thread for the search index: {error}")))?;
        Ok((Redis { reads, writer, places, follower, index }, closed, index_closed))
    }

    /// Without user and password.
    pub fn name(&self) -> &str {
        self.reads.link.name()
    }

    /// Whether it answers.
    pub async fn health(&self) -> Result<(), StoreFault> {
        self.reads.health().await
    }

    pub async fn put(&self, put: Put) -> Result<Result<Entry, Refused>, StoreFault> {
        let tenant = Arc::from(put.tenant.as_str());
        let (paths, bytes) = (vec![put.place.path()], put.value.len());
        let needs = Needs { paths, bytes, ..Needs::default() };
        let work = move |draft: &mut draft::Draft<'_>| {
            let done = sure(draft.put(&put, draft.now));
            if matches!(done, Err(Refused::Quota(_))) {
                draft.lack_expired();
            }
            done
        };
        self.writer.run(tenant, needs, work).await
    }

    pub async fn delete(
        &self,
        tenant: Arc<str>,
        place: Place,
        precondition: Precondition,
    ) -> Result<Result<bool, Refused>, StoreFault> {
        let (needs, whose) = (Needs { paths: vec![place.path()], ..Needs::default() }, Arc::clone(&tenant));
        let work =
            move |draft: &mut draft::Draft<'_>| sure(draft.delete(&whose, &place, precondition, draft.now));
        self.writer.run(tenant, needs, work).await
    }

    pub async fn delete_paths(&self, tenant: Arc<str>, paths: Vec<String>) -> Result<u64, StoreFault> {
        let (needs, whose) = (Needs { paths: paths.clone(), ..Needs::default() }, Arc::clone(&tenant));
        self.writer.run(tenant, needs, move |draft| sure(draft.delete_paths(&whose, &paths))).await
    }

    pub async fn get(
        &self,
        tenant: Arc<str>,
        place: Place,
        consistency: Consistency,
    ) -> Result<Option<Item>, StoreFault> {
        let path = place.path();
        if consistency == Consistency::Strong {
            // One at a time is as much as a step carries.
            let (paths, values) = (vec![path.clone()], vec![path]);
            let needs = Needs { paths, values, bytes: VALUE_BYTES_MAX, ..Needs::default() };
            let whose = Arc::clone(&tenant);
            let work = move |draft: &mut draft::Draft<'_>| sure(draft.get(&whose, &place, draft.now));
            return self.writer.run(tenant, needs, work).await;
        }
        let item = {
            let _place = self.place().await?;
            self.at_path(&tenant, &path).await?
        };
        let (kind, detail) = of_read(item.as_ref());
        let (namespace, key) = (place.namespace.to_string(), place.key.to_string());
        self.note_later(tenant, Noted { kind, namespace, key, detail }).await?;
        Ok(item)
    }

    pub async fn note(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        let whose = Arc::clone(&tenant);
        let work = move |draft: &mut draft::Draft<'_>| sure(draft.note(&noted.event(&whose, draft.now)));
        self.writer.run(tenant, Needs::default(), work).await
    }

    pub async fn note_later(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        let whose = Arc::clone(&tenant);
        let work = move |draft: &mut draft::Draft<'_>| sure(draft.note(&noted.event(&whose, draft.now)));
        self.writer.begin(tenant, Needs::default(), work).await.map(drop)
    }

    pub async fn accounts(&self) -> Result<Vec<(String, Account)>, StoreFault> {
        let _place = self.place().await?;
        self.reads.accounts().await
    }

    pub async fn sweep(&self, tenant: Arc<str>) -> Result<usize, StoreFault> {
        let (needs, whose) = (Needs { expired: true, ..Needs::default() }, Arc::clone(&tenant));
        self.writer.run(tenant, needs, move |draft| sure(draft.sweep(&whose, draft.now))).await
    }

    /// With everything that any gateway acknowledged before.
    pub async fn search(&self, tenant: Arc<str>, question: Question) -> Result<Matches, StoreFault> {
        // Not while the index catches up: who only reads would wait for it too.
        let now = {
            let _place = self.place().await?;
            self.follower.look().await?;
            self.now().await?
        };
        self.index.search(&tenant, &question, now).await
    }

    /// Whatever a test wants to do in one step.
    #[cfg(test)]
    pub(in crate::backend) async fn write(
        &self,
        tenant: Arc<str>,
        work: impl FnMut(&mut draft::Draft<'_>) + Send + 'static,
    ) -> Result<(), StoreFault> {
        self.writer.run(tenant, Needs::default(), work).await
    }

    /// One of few: each reading may hold a long answer.
    async fn place(&self) -> Result<SemaphorePermit<'_>, StoreFault> {
        let place = timeout(PLACE_WAIT, self.places.acquire()).await.map_err(|_| StoreFault::Busy)?;
        Ok(place.expect("this semaphore is never closed"))
    }

    /// The time that expiry goes by.
    async fn now(&self) -> Result<Wall, StoreFault> {
        if let Some(clock) = &self.reads.clock {
            return Ok(clock());
        }
        let (seconds, micros): (u64, u64) = self.reads.link.ask(&redis::cmd("TIME")).await?;
        Ok(Wall(seconds * 1000 + micros / 1000))
    }

    /// A row that no gateway wrote.
    fn strange(&self) -> StoreFault {
        self.reads.link.unusable("a row is none that a gateway wrote".into())
    }
}

/// At once: as many as a gateway with a file reads at once.
const READS_MAX: usize = 16;
/// The longest value there may be, and some.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// For one of those places.
const PLACE_WAIT: Duration = Duration::from_secs(5);
