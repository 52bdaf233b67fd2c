//! One snapshot of the file. Reads never wait for a write, and never see half of one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use memory_core::audit::{self, Break, EventKind, Hash, Seal, Secret, Verifier};
use memory_core::entry::Entry;
use memory_core::place::{self, Namespace, Place};
use memory_core::wall::Wall;
use redb::{ReadOnlyTable, ReadTransaction};

use super::account::Account;
use super::tables::{AccountRow, EntryRow, EventRow, ValueRow};
use super::{Fail, tables};

/// The tables as of one commit.
pub struct Reading {
    tenants: ReadOnlyTable<&'static str, AccountRow>,
    entries: ReadOnlyTable<(u32, &'static str), EntryRow>,
    values: ReadOnlyTable<(u32, u64), ValueRow>,
    events: ReadOnlyTable<(u32, u64), EventRow>,
    secret: Option<Secret>,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub path: String,
    pub entry: Entry,
    /// JSON.
    pub value: Vec<u8>,
}

/// Some of what was asked for, and where to go on.
#[derive(Debug, PartialEq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// `None`: that was all.
    pub next: Option<String>,
}

/// One event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub number: u64,
    /// Canonical JSON.
    pub event: String,
    pub hash: Hash,
    /// Of the event before, where there was one.
    pub previous: Option<Hash>,
    /// Of a time with a secret.
    pub seal: Option<Seal>,
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventFilter {
    pub from: Option<Wall>,
    /// Not included.
    pub to: Option<Wall>,
    pub kind: Option<EventKind>,
    /// Only those numbered below.
    pub before: Option<u64>,
    pub limit: usize,
}

/// What reading a whole chain again found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integrity {
    pub account: Account,
    pub verdict: Result<(), Break>,
    /// Events with a right seal; `None` where there is no secret to tell.
    pub sealed: Option<u64>,
}

impl Reading {
    pub fn open(transaction: &ReadTransaction, secret: Option<Secret>) -> Result<Reading, Fail> {
        Ok(Reading {
            tenants: transaction.open_table(tables::TENANTS)?,
            entries: transaction.open_table(tables::ENTRIES)?,
            values: transaction.open_table(tables::VALUES)?,
            events: transaction.open_table(tables::EVENTS)?,
            secret,
        })
    }

    /// `None`: it never did anything.
    pub fn account(&self, tenant: &str) -> Result<Option<Account>, Fail> {
        Ok(self.tenants.get(tenant)?.map(|row| Account::of_row(row.value())))
    }

    /// Every tenant that ever did something.
    pub fn accounts(&self) -> Result<Vec<(String, Account)>, Fail> {
        let mut accounts = Vec::new();
        for row in self.tenants.range::<&str>(..)? {
            let (name, account) = row?;
            accounts.push((name.value().to_owned(), Account::of_row(account.value())));
        }
        Ok(accounts)
    }

    pub fn get(&self, tenant: &str, place: &Place, now: Wall) -> Result<Option<Item>, Fail> {
        self.at_path(tenant, &place.path(), now)
    }

    /// Keys below a namespace that begin with `prefix`, sorted, those behind `after` only.
    pub fn list(
        &self,
        tenant: &str,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Wall,
    ) -> Result<Page<(String, Entry)>, Fail> {
        let folder = format!("{namespace}/");
        let whole = format!("{folder}{prefix}");
        let after = after.map(|after| format!("{folder}{after}"));
        let mut rows = Vec::new();
        let next = self.walk(tenant, &whole, after.as_deref(), |path, entry| {
            if rows.len() == limit {
                return ControlFlow::Break(());
            }
            if entry.is_live(now) {
                rows.push((path[folder.len()..].to_owned(), entry));
            }
            ControlFlow::Continue(())
        })?;
        Ok(Page { rows, next: next.map(|path| path[folder.len()..].to_owned()) })
    }

    /// Paths with a segment that names the subject.
    pub fn of_subject(
        &self,
        tenant: &str,
        subject: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>, Fail> {
        let mut rows = Vec::new();
        let mut last = after.map(str::to_owned);
        loop {
            let next = self.walk(tenant, "", last.as_deref(), |path, _| {
                if rows.len() == limit {
                    return ControlFlow::Break(());
                }
                if place::names(path, subject) {
                    rows.push(path.to_owned());
                }
                ControlFlow::Continue(())
            })?;
            if next.is_none() || rows.len() == limit {
                return Ok(Page { rows, next });
            }
            last = next;
        }
    }

    /// The same with what the paths hold, where it has not expired; a page ends before it is more than
    /// [`ANSWER_BYTES_MAX`].
    pub fn items_of_subject(
        &self,
        tenant: &str,
        subject: &str,
        after: Option<&str>,
        limit: usize,
        now: Wall,
    ) -> Result<Page<Item>, Fail> {
        let Page { rows: paths, mut next } = self.of_subject(tenant, subject, after, limit)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut last = None;
        for path in paths {
            if let Some(item) = self.at_path(tenant, &path, now)? {
                bytes += item.value.len() as u64;
                if !rows.is_empty() && bytes > ANSWER_BYTES_MAX {
                    next = last;
                    break;
                }
                rows.push(item);
            }
            last = Some(path);
        }
        Ok(Page { rows, next })
    }

    /// What a path holds, if it still does.
    fn at_path(&self, tenant: &str, path: &str, now: Wall) -> Result<Option<Item>, Fail> {
        let Some(account) = self.account(tenant)? else { return Ok(None) };
        let Some(row) = self.entries.get((account.id, path))? else { return Ok(None) };
        let entry = entry_of(row.value());
        if entry.is_live(now) { self.item(account.id, entry) } else { Ok(None) }
    }

    /// Goes over the paths that begin with `prefix` and are behind `after`, until told to stop or
    /// [`ROWS_MAX`] were seen; the last one seen, unless those were all.
    fn walk(
        &self,
        tenant: &str,
        prefix: &str,
        after: Option<&str>,
        mut visit: impl FnMut(&str, Entry) -> ControlFlow<()>,
    ) -> Result<Option<String>, Fail> {
        let Some(account) = self.account(tenant)? else { return Ok(None) };
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let mut last: Option<String> = after.map(str::to_owned);
        let mut seen = 0;
        for row in self.entries.range((account.id, from)..(account.id + 1, ""))? {
            let (key, value) = row?;
            let path = key.value().1;
            if !path.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|after| path <= after) {
                continue;
            }
            if seen == ROWS_MAX || visit(path, entry_of(value.value())).is_break() {
                return Ok(last);
            }
            seen += 1;
            last = Some(path.to_owned());
        }
        Ok(None)
    }

    /// What stands at these places, where it is still that version and lives; in their order, up to the first
    /// with which they would be more than [`ANSWER_BYTES_MAX`].
    pub fn items_of(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, Fail> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (path, version) in places {
            let item = self.at_path(tenant, path, now)?.filter(|item| item.entry.version == *version);
            bytes += item.as_ref().map_or(0, |item| item.value.len() as u64);
            if !items.is_empty() && bytes > ANSWER_BYTES_MAX {
                break;
            }
            items.push(item);
        }
        Ok(items)
    }

    /// Version and time of writing of all that a tenant has, expired or not; in the order of versions.
    pub fn stamps(&self, tenant: &str) -> Result<Vec<(u64, Wall)>, Fail> {
        let Some(account) = self.account(tenant)? else { return Ok(Vec::new()) };
        let mut stamps = Vec::new();
        for row in self.entries.range((account.id, "")..(account.id + 1, ""))? {
            let entry = entry_of(row?.1.value());
            stamps.push((entry.version, entry.updated));
        }
        stamps.sort_unstable();
        Ok(stamps)
    }

    /// One version of an item, where it is the one that stands.
    pub fn version(&self, tenant: &str, version: u64) -> Result<Option<Item>, Fail> {
        let Some(account) = self.account(tenant)? else { return Ok(None) };
        let Some(row) = self.values.get((account.id, version))? else { return Ok(None) };
        let (path, value) = row.value();
        let Some(entry) = self.entries.get((account.id, path))? else { return Ok(None) };
        let entry = entry_of(entry.value());
        Ok(Some(Item { path: path.to_owned(), entry, value: value.to_vec() }))
    }

    fn item(&self, id: u32, entry: Entry) -> Result<Option<Item>, Fail> {
        let row = self.values.get((id, entry.version))?;
        Ok(row.map(|row| {
            let (path, value) = row.value();
            Item { path: path.to_owned(), entry, value: value.to_vec() }
        }))
    }

    /// Events, the newest first.
    pub fn events(&self, tenant: &str, filter: &EventFilter) -> Result<Vec<Kept>, Fail> {
        let Some(account) = self.account(tenant)? else { return Ok(Vec::new()) };
        let before = filter.before.unwrap_or(u64::MAX);
        let mut kept: Vec<Kept> = Vec::new();
        let mut rows = self.events.range((account.id, 0)..(account.id, before))?.rev().peekable();
        while let Some(row) = rows.next() {
            if kept.len() == filter.limit {
                break;
            }
            let (key, value) = row?;
            let (hash, seal, event) = value.value();
            if is_wanted(event, filter) {
                let previous = match rows.peek() {
                    Some(Ok((_, earlier))) => Some(*earlier.value().0),
                    _ => account.anchor.head,
                };
                let (number, event, seal) = (key.value().1, event.to_owned(), Seal::try_from(seal).ok());
                kept.push(Kept { number, event, hash: *hash, previous, seal });
            }
        }
        Ok(kept)
    }

    /// How many events of each kind there were in a time; `to` is not included.
    pub fn report(
        &self,
        tenant: &str,
        from: Option<Wall>,
        to: Option<Wall>,
    ) -> Result<BTreeMap<EventKind, u64>, Fail> {
        let mut counts = BTreeMap::new();
        let Some(account) = self.account(tenant)? else { return Ok(counts) };
        for row in self.events.range((account.id, 0)..=(account.id, u64::MAX))? {
            let (_, value) = row?;
            let Some((at, kind)) = audit::read(value.value().2) else { continue };
            if from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to) {
                *counts.entry(kind).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Reads every event of a tenant again.
    pub fn integrity(&self, tenant: &str) -> Result<Integrity, Fail> {
        let account = self.account(tenant)?.unwrap_or(Account::new(0));
        let mut verifier = Verifier::new(account.anchor, self.secret.as_ref());
        let mut verdict = Ok(());
        for row in self.events.range((account.id, 0)..=(account.id, u64::MAX))? {
            let (key, value) = row?;
            let (hash, seal, event) = value.value();
            let seal = Seal::try_from(seal).ok();
            verdict = verifier.on_event(key.value().1, event.as_bytes(), hash, seal.as_ref());
            if verdict.is_err() {
                break;
            }
        }
        let sealed = self.secret.as_ref().map(|_| verifier.sealed());
        let verdict = verdict.and_then(|()| verifier.finish(account.chain));
        Ok(Integrity { account, verdict, sealed })
    }
}

/// Of a row of the table of entries.
pub fn entry_of(row: EntryRow) -> Entry {
    let (version, created, updated, expires, ..) = row;
    let expires = (expires != 0).then_some(Wall(expires));
    Entry { version, created: Wall(created), updated: Wall(updated), expires }
}

pub fn is_wanted(event: &str, filter: &EventFilter) -> bool {
    let EventFilter { from, to, kind, .. } = filter;
    if from.is_none() && to.is_none() && kind.is_none() {
        return true;
    }
    let Some((at, of)) = audit::read(event) else { return false };
    from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to) && kind.is_none_or(|kind| kind == of)
}

/// Rows that one page looks at, most of them expired where it does.
pub const ROWS_MAX: usize = 10_000;
/// Values of one answer together, unless one alone is more: answers wait in memory until they are taken.
pub const ANSWER_BYTES_MAX: u64 = 2 * 1024 * 1024;
