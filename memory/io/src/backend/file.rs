//! Items in one file of this machine: reads on threads for blocking work, changes on the writer's.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory_core::audit::EventKind;
use memory_core::consistency::Consistency;
use memory_core::entry::{Entry, Precondition};
use memory_core::place::{Namespace, Place};
use memory_core::wall::Wall;

use super::Noted;
use crate::index::ask::Question;
use crate::index::{Index, Matches};
use crate::store::account::Account;
use crate::store::changes::{Changes, Put, Refused, of_read};
use crate::store::reading::{EventFilter, Integrity, Item, Kept, Page, Reading};
use crate::store::{Fail, Store, StoreFault};
use crate::writer::{Clock, Writer};

/// The store, and the one that changes it.
#[derive(Clone)]
pub struct OneFile {
    pub store: Arc<Store>,
    pub writer: Writer,
    pub index: Index,
    pub clock: Clock,
}

impl OneFile {
    pub async fn put(&self, put: Put) -> Result<Result<Entry, Refused>, StoreFault> {
        self.writer.run(move |writing, now| writing.put(&put, now)).await
    }

    pub async fn delete(
        &self,
        tenant: Arc<str>,
        place: Place,
        precondition: Precondition,
    ) -> Result<Result<bool, Refused>, StoreFault> {
        self.writer.run(move |writing, now| writing.delete(&tenant, &place, precondition, now)).await
    }

    pub async fn delete_paths(&self, tenant: Arc<str>, paths: Vec<String>) -> Result<u64, StoreFault> {
        self.writer.run(move |writing, _| writing.delete_paths(&tenant, &paths)).await
    }

    pub async fn get(
        &self,
        tenant: Arc<str>,
        place: Place,
        consistency: Consistency,
    ) -> Result<Option<Item>, StoreFault> {
        if consistency == Consistency::Strong {
            return self.writer.run(move |writing, now| writing.get(&tenant, &place, now)).await;
        }
        let now = (self.clock)();
        let (whose, at) = (Arc::clone(&tenant), place.clone());
        let item = self.read(move |reading| reading.get(&whose, &at, now)).await?;
        let (kind, detail) = of_read(item.as_ref());
        let (namespace, key) = (place.namespace.to_string(), place.key.to_string());
        self.note_later(tenant, Noted { kind, namespace, key, detail }).await?;
        Ok(item)
    }

    pub async fn list(
        &self,
        tenant: Arc<str>,
        namespace: Namespace,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<(String, Entry)>, StoreFault> {
        let now = (self.clock)();
        self.read(move |reading| reading.list(&tenant, &namespace, &prefix, after.as_deref(), limit, now))
            .await
    }

    pub async fn search(&self, tenant: Arc<str>, question: Question) -> Result<Matches, StoreFault> {
        self.index.search(&tenant, &question, (self.clock)()).await
    }

    pub async fn of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, StoreFault> {
        self.read(move |reading| reading.of_subject(&tenant, &subject, after.as_deref(), limit)).await
    }

    pub async fn items_of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Item>, StoreFault> {
        let now = (self.clock)();
        self.read(move |reading| reading.items_of_subject(&tenant, &subject, after.as_deref(), limit, now))
            .await
    }

    /// Writes an event down that changes nothing else; durable once this returns.
    pub async fn note(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        self.writer.run(move |writing, now| writing.note(&noted.event(&tenant, now))).await
    }

    /// Waits for a place in the queue only, not for the disk.
    pub async fn note_later(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        // Its time is that of what was done, not of when the writer comes to it.
        let now = (self.clock)();
        let begun = self.writer.begin(move |writing, _| writing.note(&noted.event(&tenant, now))).await;
        begun.map(drop)
    }

    pub async fn events(&self, tenant: Arc<str>, filter: EventFilter) -> Result<Vec<Kept>, StoreFault> {
        self.read(move |reading| reading.events(&tenant, &filter)).await
    }

    pub async fn report(
        &self,
        tenant: Arc<str>,
        from: Option<Wall>,
        to: Option<Wall>,
    ) -> Result<BTreeMap<EventKind, u64>, StoreFault> {
        self.read(move |reading| reading.report(&tenant, from, to)).await
    }

    pub async fn integrity(&self, tenant: Arc<str>) -> Result<Integrity, StoreFault> {
        self.read(move |reading| reading.integrity(&tenant)).await
    }

    /// Every tenant that ever did something.
    pub async fn accounts(&self) -> Result<Vec<(String, Account)>, StoreFault> {
        self.read(Reading::accounts).await
    }

    /// Removes what has expired, some of it; how many items.
    pub async fn sweep(&self, tenant: Arc<str>) -> Result<usize, StoreFault> {
        self.writer.run(move |writing, now| writing.sweep(&tenant, now)).await
    }

    /// Reads on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reading) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || store.read(work)).await;
        done.map_err(|_| StoreFault::Stopping)?.inspect_err(|fault| tracing::error!(%fault, "a read failed"))
    }
}
