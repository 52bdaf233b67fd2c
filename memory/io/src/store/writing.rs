//! One transaction that changes items and events. Every change of an item takes its event along.

use std::time::Duration;

use memory_core::audit::{Event, EventKind, Secret};
use memory_core::entry::{Entry, Precondition};
use memory_core::place::Place;
use memory_core::quota::{Admitted, Charge, Quota, QuotaFault};
use memory_core::search::Words;
use memory_core::wall::Wall;
use redb::{ReadableTable, Table, WriteTransaction};

use super::account::Account;
use super::reading::{Item, entry_of};
use super::tables::{AccountRow, EntryRow, EventRow, ValueRow};
use super::{Fail, tables};

/// The tables, open for writing.
pub struct Writing<'t> {
    tenants: Table<'t, &'static str, AccountRow>,
    entries: Table<'t, (u32, &'static str), EntryRow>,
    values: Table<'t, (u32, u64), ValueRow>,
    expiry: Table<'t, (u32, u64, &'static str), ()>,
    words: Table<'t, (u32, &'static str, u64), (u32, u64)>,
    events: Table<'t, (u32, u64), EventRow>,
    secret: Option<&'t Secret>,
}

/// A write that is asked for.
#[derive(Debug)]
pub struct Put {
    pub tenant: String,
    pub place: Place,
    /// JSON.
    pub value: Vec<u8>,
    /// Of the value.
    pub words: Words,
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

impl<'t> Writing<'t> {
    pub fn open(transaction: &'t WriteTransaction, secret: Option<&'t Secret>) -> Result<Writing<'t>, Fail> {
        Ok(Writing {
            tenants: transaction.open_table(tables::TENANTS)?,
            entries: transaction.open_table(tables::ENTRIES)?,
            values: transaction.open_table(tables::VALUES)?,
            expiry: transaction.open_table(tables::EXPIRY)?,
            words: transaction.open_table(tables::WORDS)?,
            events: transaction.open_table(tables::EVENTS)?,
            secret,
        })
    }

    /// Stores an item, in the place of what was there.
    pub fn put(&mut self, put: &Put, now: Wall) -> Result<Result<Entry, Refused>, Fail> {
        let mut account = self.account(&put.tenant)?;
        let path = put.place.path();
        let before = self.entry(account.id, &path)?;
        let version = before.as_ref().filter(|(entry, _)| entry.is_live(now)).map(|(entry, _)| entry.version);
        if !put.precondition.holds(version) {
            return Ok(Err(Refused::Precondition(version)));
        }
        let stored = Charge::of(&path, put.value.len() as u64);
        let replaced = before.as_ref().map(|(_, charge)| *charge);
        let expired = self.expired(account.id, now, EVICTED_MAX, Some(&path))?;
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
    pub fn delete(
        &mut self,
        tenant: &str,
        place: &Place,
        precondition: Precondition,
        now: Wall,
    ) -> Result<Result<bool, Refused>, Fail> {
        let mut account = self.account(tenant)?;
        let path = place.path();
        let live = self.entry(account.id, &path)?.map(|(entry, _)| entry).filter(|entry| entry.is_live(now));
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
    pub fn delete_paths(&mut self, tenant: &str, paths: &[String]) -> Result<u64, Fail> {
        let mut account = self.account(tenant)?;
        let mut deleted = 0;
        for path in paths {
            deleted += u64::from(self.take_out(&mut account, path)?);
        }
        self.save(tenant, &account)?;
        Ok(deleted)
    }

    /// Reads an item in the order of writes, with its event.
    pub fn get(&mut self, tenant: &str, place: &Place, now: Wall) -> Result<Option<Item>, Fail> {
        let mut account = self.account(tenant)?;
        let path = place.path();
        let live = self.entry(account.id, &path)?.map(|(entry, _)| entry).filter(|entry| entry.is_live(now));
        let item = match live {
            None => None,
            Some(entry) => {
                let row = self.values.get((account.id, entry.version))?;
                row.map(|row| Item { path: path.clone(), entry, value: row.value().1.to_vec() })
            }
        };
        let (kind, details) = of_read(item.as_ref());
        let (namespace, key) = (place.namespace.as_str(), place.key.as_str());
        let event = Event { at: now, kind, tenant, namespace, key, details: details.as_slice() };
        self.append(&mut account, &event)?;
        self.save(tenant, &account)?;
        Ok(item)
    }

    /// Writes an event down that changes nothing else.
    pub fn note(&mut self, event: &Event<'_>) -> Result<(), Fail> {
        let mut account = self.account(event.tenant)?;
        self.append(&mut account, event)?;
        self.save(event.tenant, &account)
    }

    /// Deletes what has expired, of one tenant, at most [`EVICTED_MAX`] items; how many.
    pub fn sweep(&mut self, tenant: &str, now: Wall) -> Result<usize, Fail> {
        let mut account = self.account(tenant)?;
        let expired = self.expired(account.id, now, EVICTED_MAX, None)?;
        for (path, _) in &expired {
            self.take_out(&mut account, path)?;
        }
        if !expired.is_empty() {
            self.save(tenant, &account)?;
        }
        Ok(expired.len())
    }

    fn account(&self, tenant: &str) -> Result<Account, Fail> {
        if let Some(row) = self.tenants.get(tenant)? {
            return Ok(Account::of_row(row.value()));
        }
        let mut last = 0;
        for row in self.tenants.iter()? {
            last = last.max(Account::of_row(row?.1.value()).id);
        }
        Ok(Account::new(last + 1))
    }

    fn save(&mut self, tenant: &str, account: &Account) -> Result<(), Fail> {
        self.tenants.insert(tenant, account.row())?;
        Ok(())
    }

    /// What stands at a path, expired or not, and what it takes of the quota.
    fn entry(&self, id: u32, path: &str) -> Result<Option<(Entry, Charge)>, Fail> {
        let row = self.entries.get((id, path))?;
        Ok(row.map(|row| (entry_of(row.value()), Charge::of(path, row.value().5))))
    }

    fn expired(
        &self,
        id: u32,
        now: Wall,
        count: usize,
        but: Option<&str>,
    ) -> Result<Vec<(String, Charge)>, Fail> {
        let mut expired = Vec::new();
        // Expired at its very moment, see `Entry::is_live`.
        for row in self.expiry.range((id, 0, "")..(id, now.0.saturating_add(1), ""))? {
            let key = row?.0;
            let path = key.value().2;
            if but == Some(path) {
                continue;
            }
            if expired.len() == count {
                break;
            }
            if let Some((_, charge)) = self.entry(id, path)? {
                expired.push((path.to_owned(), charge));
            }
        }
        Ok(expired)
    }

    fn put_in(&mut self, account: &mut Account, path: &str, entry: &Entry, put: &Put) -> Result<(), Fail> {
        let Entry { version, created, updated, expires } = *entry;
        let (id, bytes, total) = (account.id, put.value.len() as u64, put.words.total);
        let row = (version, created.0, updated.0, expires.map_or(0, |expires| expires.0), total, bytes);
        self.entries.insert((id, path), row)?;
        self.values.insert((id, version), (path, put.value.as_slice()))?;
        if let Some(expires) = expires {
            self.expiry.insert((id, expires.0, path), ())?;
        }
        for (word, occurs) in &put.words.counts {
            self.words.insert((id, word.as_str(), version), (*occurs, total))?;
        }
        account.usage = account.usage.with(None, Charge::of(path, bytes));
        account.words = account.words.saturating_add(total);
        Ok(())
    }

    /// Removes every trace of an item but its events; whether there was one.
    fn take_out(&mut self, account: &mut Account, path: &str) -> Result<bool, Fail> {
        let id = account.id;
        let Some((entry, total, bytes)) = self.entries.remove((id, path))?.map(|row| {
            let row = row.value();
            (entry_of(row), row.4, row.5)
        }) else {
            return Ok(false);
        };
        if let Some(expires) = entry.expires {
            self.expiry.remove((id, expires.0, path))?;
        }
        let value = self.values.remove((id, entry.version))?.map(|row| row.value().1.to_vec());
        let value = value.and_then(|value| serde_json::from_slice(&value).ok());
        let words = value.map(|value| Words::of(&value)).unwrap_or_default();
        for word in words.counts.keys() {
            self.words.remove((id, word.as_str(), entry.version))?;
        }
        account.usage = account.usage.without(Charge::of(path, bytes));
        account.words = account.words.saturating_sub(total);
        Ok(true)
    }

    /// Adds an event to the tenant's chain; the oldest past [`EVENTS_MAX`] goes.
    fn append(&mut self, account: &mut Account, event: &Event<'_>) -> Result<(), Fail> {
        let number = account.chain.next;
        let canonical = event.canonical();
        let hash = account.chain.append(&canonical);
        let seal = self.secret.map(|secret| secret.seal(&hash));
        let seal = seal.as_ref().map_or(&[][..], |seal| seal);
        self.events.insert((account.id, number), (&hash, seal, canonical.as_str()))?;
        while account.chain.next - account.anchor.next > EVENTS_MAX {
            let first = account.anchor.next;
            let gone = self.events.remove((account.id, first))?.map(|row| *row.value().0);
            account.anchor.next = first + 1;
            account.anchor.head = gone.or(account.anchor.head);
        }
        Ok(())
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
