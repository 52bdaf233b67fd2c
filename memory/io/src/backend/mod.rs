//! What calls ask of whatever keeps items: the seam between them and the store. Each method is one change, or
//! one reading, with its event; what it promises is the same whoever keeps them.

pub mod file;
pub mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;

use memory_core::audit::{Event, EventKind};
use memory_core::consistency::Consistency;
use memory_core::entry::{Entry, Precondition};
use memory_core::place::{Namespace, Place};
use memory_core::wall::Wall;

pub use self::file::OneFile;
pub use self::redis::Redis;
use crate::index::Matches;
use crate::index::ask::Question;
use crate::store::account::Account;
use crate::store::changes::{Put, Refused};
use crate::store::reading::{EventFilter, Integrity, Item, Kept, Page};
use crate::store::{FILE, StoreFault};

/// Who keeps items. Handles are cheap.
#[derive(Clone)]
pub enum Backend {
    /// One file of this machine, for one gateway.
    File(OneFile),
    /// For several.
    Redis(Redis),
}

/// An event before its time and tenant are put to it.
#[derive(Debug, Clone)]
pub struct Noted {
    pub kind: EventKind,
    pub namespace: String,
    pub key: String,
    pub detail: Option<(&'static str, u64)>,
}

impl Noted {
    pub fn event<'a>(&'a self, tenant: &'a str, at: Wall) -> Event<'a> {
        let Noted { kind, namespace, key, detail } = self;
        Event { at, kind: *kind, tenant, namespace, key, details: detail.as_slice() }
    }
}

impl Backend {
    /// Whether it could take a call now.
    pub async fn health(&self) -> Result<(), StoreFault> {
        match self {
            // It is opened anew by the next call where it failed.
            Backend::File(_) => Ok(()),
            Backend::Redis(redis) => redis.health().await,
        }
    }

    /// Where the audit log is, for people; nothing secret.
    pub fn name(&self) -> &str {
        match self {
            Backend::File(_) => FILE,
            Backend::Redis(redis) => redis.name(),
        }
    }

    pub async fn put(&self, put: Put) -> Result<Result<Entry, Refused>, StoreFault> {
        match self {
            Backend::File(file) => file.put(put).await,
            Backend::Redis(redis) => redis.put(put).await,
        }
    }

    pub async fn delete(
        &self,
        tenant: Arc<str>,
        place: Place,
        precondition: Precondition,
    ) -> Result<Result<bool, Refused>, StoreFault> {
        match self {
            Backend::File(file) => file.delete(tenant, place, precondition).await,
            Backend::Redis(redis) => redis.delete(tenant, place, precondition).await,
        }
    }

    pub async fn delete_paths(&self, tenant: Arc<str>, paths: Vec<String>) -> Result<u64, StoreFault> {
        match self {
            Backend::File(file) => file.delete_paths(tenant, paths).await,
            Backend::Redis(redis) => redis.delete_paths(tenant, paths).await,
        }
    }

    /// With its event.
    pub async fn get(
        &self,
        tenant: Arc<str>,
        place: Place,
        consistency: Consistency,
    ) -> Result<Option<Item>, StoreFault> {
        match self {
            Backend::File(file) => file.get(tenant, place, consistency).await,
            Backend::Redis(redis) => redis.get(tenant, place, consistency).await,
        }
    }

    /// Keys below a namespace that begin with `prefix`, sorted, those behind `after` only.
    pub async fn list(
        &self,
        tenant: Arc<str>,
        namespace: Namespace,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<(String, Entry)>, StoreFault> {
        match self {
            Backend::File(file) => file.list(tenant, namespace, prefix, after, limit).await,
            Backend::Redis(redis) => redis.list(tenant, namespace, prefix, after, limit).await,
        }
    }

    /// The items that a question's words say most about, the best first.
    pub async fn search(&self, tenant: Arc<str>, question: Question) -> Result<Matches, StoreFault> {
        match self {
            Backend::File(file) => file.search(tenant, question).await,
            Backend::Redis(redis) => redis.search(tenant, question).await,
        }
    }

    /// Paths with a segment that names the subject.
    pub async fn of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, StoreFault> {
        match self {
            Backend::File(file) => file.of_subject(tenant, subject, after, limit).await,
            Backend::Redis(redis) => redis.of_subject(tenant, subject, after, limit).await,
        }
    }

    /// The same with what they hold, where it has not expired; fewer where they are large.
    pub async fn items_of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Item>, StoreFault> {
        match self {
            Backend::File(file) => file.items_of_subject(tenant, subject, after, limit).await,
            Backend::Redis(redis) => redis.items_of_subject(tenant, subject, after, limit).await,
        }
    }

    /// Writes an event down that changes nothing else; as durable as a write once this returns.
    pub async fn note(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        match self {
            Backend::File(file) => file.note(tenant, noted).await,
            Backend::Redis(redis) => redis.note(tenant, noted).await,
        }
    }

    /// Waits for a place in the queue only.
    pub async fn note_later(&self, tenant: Arc<str>, noted: Noted) -> Result<(), StoreFault> {
        match self {
            Backend::File(file) => file.note_later(tenant, noted).await,
            Backend::Redis(redis) => redis.note_later(tenant, noted).await,
        }
    }

    /// Events, the newest first.
    pub async fn events(&self, tenant: Arc<str>, filter: EventFilter) -> Result<Vec<Kept>, StoreFault> {
        match self {
            Backend::File(file) => file.events(tenant, filter).await,
            Backend::Redis(redis) => redis.events(tenant, filter).await,
        }
    }

    /// How many events of each kind there were in a time; `to` is not included.
    pub async fn report(
        &self,
        tenant: Arc<str>,
        from: Option<Wall>,
        to: Option<Wall>,
    ) -> Result<BTreeMap<EventKind, u64>, StoreFault> {
        match self {
            Backend::File(file) => file.report(tenant, from, to).await,
            Backend::Redis(redis) => redis.report(tenant, from, to).await,
        }
    }

    /// Reads every event of a tenant again.
    pub async fn integrity(&self, tenant: Arc<str>) -> Result<Integrity, StoreFault> {
        match self {
            Backend::File(file) => file.integrity(tenant).await,
            Backend::Redis(redis) => redis.integrity(tenant).await,
        }
    }

    /// Every tenant that ever did something.
    pub async fn accounts(&self) -> Result<Vec<(String, Account)>, StoreFault> {
        match self {
            Backend::File(file) => file.accounts().await,
            Backend::Redis(redis) => redis.accounts().await,
        }
    }

    /// Removes what has expired, some of it; how many items.
    pub async fn sweep(&self, tenant: Arc<str>) -> Result<usize, StoreFault> {
        match self {
            Backend::File(file) => file.sweep(tenant).await,
            Backend::Redis(redis) => redis.sweep(tenant).await,
        }
    }
}

#[cfg(test)]
mod tests;
