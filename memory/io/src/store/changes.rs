//! What a change does: to items, to what they take of the quota, to the log. Every change of an item takes
//! its event along. Written once, over the rows of whichever store keeps them; a store only says what its
//! rows are, and makes all that one change did to them durable together.

use std::time::Duration;

use memory_core::audit::{Event, EventKind, Hash, Seal, Secret};
use memory_core::entry::{Entry, Precondition};
use memory_core::place::Place;
use memory_core::quota::{Admitted, Charge, Quota, QuotaFault};
use memory_core::wall::Wall;

use super::account::Account;
use super::reading::Item;

/// A write that is asked for.
#[derive(Debug)]
pub struct Put {
    pub tenant: String,
    pub place: Place,
    /// JSON.
    pub value: Vec<u8>,
    pub precondition: Precondition,
    pub lifetime: Option<Duration>,
    pub quota: Quota,
}

/// Why an item was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The version that lives there instead.
    Precondition(Option<u64>),
    Quota(QuotaFault),
}

/// The rows of one transaction, or of what will be one.
pub trait Rows {
    type Fail;

    /// A new one where the tenant never did anything.
    fn account(&self, tenant: &str) -> Result<Account, Self::Fail>;

    fn save(&mut self, tenant: &str, account: &Account) -> Result<(), Self::Fail>;

    /// What stands at a path, expired or not, and what it takes of the quota.
    fn entry(&self, account: &Account, path: &str) -> Result<Option<(Entry, Charge)>, Self::Fail>;

    /// The same with its value.
    fn item(&self, account: &Account, path: &str, entry: Entry) -> Result<Option<Item>, Self::Fail>;

    /// What has expired, the earliest first, at most `count` and without the path `but`.
    fn expired(
        &self,
        account: &Account,
        now: Wall,
        count: usize,
        but: Option<&str>,
    ) -> Result<Vec<(String, Charge)>, Self::Fail>;

    /// Adds an item where none stands, and counts it.
    fn put_in(
        &mut self,
        account: &mut Account,
        path: &str,
        entry: &Entry,
        put: &Put,
    ) -> Result<(), Self::Fail>;

    /// Removes every trace of an item but its events; whether there was one.
    fn take_out(&mut self, account: &mut Account, path: &str) -> Result<bool, Self::Fail>;

    /// Adds a row to the log; the oldest past [`EVENTS_MAX`] goes.
    fn keep(
        &mut self,
        account: &mut Account,
        number: u64,
        hash: &Hash,
        seal: Option<&Seal>,
        canonical: &str,
    ) -> Result<(), Self::Fail>;

    /// Seals events.
    fn secret(&self) -> Option<&Secret>;
}

impl<R: Rows> Changes for R {}

/// What may be done to them.
pub trait Changes: Rows {
    /// Stores an item, in the place of what was there.
    fn put(&mut self, put: &Put, now: Wall) -> Result<Result<Entry, Refused>, Self::Fail> {
        let mut account = self.account(&put.tenant)?;
        let path = put.place.path();
        let before = self.entry(&account, &path)?;
        let version = before.as_ref().filter(|(entry, _)| entry.is_live(now)).map(|(entry, _)| entry.version);
        if !put.precondition.holds(version) {
            return Ok(Err(Refused::Precondition(version)));
        }
        let stored = Charge::of(&path, put.value.len() as u64);
        let replaced = before.as_ref().map(|(_, charge)| *charge);
        let expired = self.expired(&account, now, EVICTED_MAX, Some(&path))?;
        let charges = expired.iter().map(|(_, charge)| *charge);
        let Admitted { evicted, .. } = match account.usage.admit(put.quota, replaced, stored, charges) {
            Ok(admitted) => admitted,
            Err(fault) => return Ok(Err(Refused::Quota(fault))),
        };
        for (gone, _) in expired.iter().take(evicted) {
            self.take_out(&mut account, gone)?;
        }
        self.take_out(&mut account, &path)?;
        let entry =
            Entry::written(before.as_ref().map(|(entry, _)| entry), account.chain.next, now, put.lifetime);
        self.put_in(&mut account, &path, &entry, put)?;
        let details = [("size", put.value.len() as u64), ("version", entry.version)];
        let (namespace, key) = (put.place.namespace.as_str(), put.place.key.as_str());
        let event =
            Event { at: now, kind: EventKind::Put, tenant: &put.tenant, namespace, key, details: &details };
        self.append(&mut account, &event)?;
        self.save(&put.tenant, &account)?;
        Ok(Ok(entry))
    }

    /// Deletes an item; whether there was one.
    fn delete(
        &mut self,
        tenant: &str,
        place: &Place,
        precondition: Precondition,
        now: Wall,
    ) -> Result<Result<bool, Refused>, Self::Fail> {
        let mut account = self.account(tenant)?;
        let path = place.path();
        let live = self.entry(&account, &path)?.map(|(entry, _)| entry).filter(|entry| entry.is_live(now));
        let version = live.map(|entry| entry.version);
        if !precondition.holds(version) {
            return Ok(Err(Refused::Precondition(version)));
        }
        self.take_out(&mut account, &path)?;
        let details = version.map(|version| ("version", version));
        let (namespace, key) = (place.namespace.as_str(), place.key.as_str());
        let kind = EventKind::Delete;
        let event = Event { at: now, kind, tenant, namespace, key, details: details.as_slice() };
        self.append(&mut account, &event)?;
        self.save(tenant, &account)?;
        Ok(Ok(version.is_some()))
    }

    /// Deletes items by their paths, without an event of their own; how many there were.
    fn delete_paths(&mut self, tenant: &str, paths: &[String]) -> Result<u64, Self::Fail> {
        let mut account = self.account(tenant)?;
        let mut deleted = 0;
        for path in paths {
            deleted += u64::from(self.take_out(&mut account, path)?);
        }
        self.save(tenant, &account)?;
        Ok(deleted)
    }

    /// Reads an item in the order of writes, with its event.
    fn get(&mut self, tenant: &str, place: &Place, now: Wall) -> Result<Option<Item>, Self::Fail> {
        let mut account = self.account(tenant)?;
        let path = place.path();
        let live = self.entry(&account, &path)?.map(|(entry, _)| entry).filter(|entry| entry.is_live(now));
        let item = match live {
            None => None,
            Some(entry) => self.item(&account, &path, entry)?,
        };
        let (kind, details) = of_read(item.as_ref());
        let (namespace, key) = (place.namespace.as_str(), place.key.as_str());
        let event = Event { at: now, kind, tenant, namespace, key, details: details.as_slice() };
        self.append(&mut account, &event)?;
        self.save(tenant, &account)?;
        Ok(item)
    }

    /// Writes an event down that changes nothing else.
    fn note(&mut self, event: &Event<'_>) -> Result<(), Self::Fail> {
        let mut account = self.account(event.tenant)?;
        self.append(&mut account, event)?;
        self.save(event.tenant, &account)
    }

    /// Deletes what has expired, of one tenant, at most [`EVICTED_MAX`] items; how many.
    fn sweep(&mut self, tenant: &str, now: Wall) -> Result<usize, Self::Fail> {
        let mut account = self.account(tenant)?;
        let expired = self.expired(&account, now, EVICTED_MAX, None)?;
        for (path, _) in &expired {
            self.take_out(&mut account, path)?;
        }
        if !expired.is_empty() {
            self.save(tenant, &account)?;
        }
        Ok(expired.len())
    }

    /// Adds an event to the tenant's chain.
    fn append(&mut self, account: &mut Account, event: &Event<'_>) -> Result<(), Self::Fail> {
        let number = account.chain.next;
        let canonical = event.canonical();
        let hash = account.chain.append(&canonical);
        let seal = self.secret().map(|secret| secret.seal(&hash));
        self.keep(account, number, &hash, seal.as_ref(), &canonical)
    }
}

/// What the event of a read says.
pub fn of_read(item: Option<&Item>) -> (EventKind, Option<(&'static str, u64)>) {
    match item {
        Some(item) => (EventKind::Get, Some(("version", item.entry.version))),
        None => (EventKind::GetNotFound, None),
    }
}

/// Events of a tenant that are kept: about 25 MB. Older ones go, and the chain goes on from the last that
/// went.
pub const EVENTS_MAX: u64 = 100_000;

/// Expired items that one write removes; a sweep has done with more before they are that many.
pub const EVICTED_MAX: usize = 1000;
