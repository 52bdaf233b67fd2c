//! Readings of more than one row, in steps: Redis does nothing else meanwhile, so none looks at many rows.
//! A step is of one moment, and the next one of a later: what is written between two of them may be told or
//! not.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use memory_core::audit::{self, EventKind, Hash, Seal, Verifier};
use memory_core::entry::Entry;
use memory_core::place::{self, Namespace};
use memory_core::wall::Wall;

use super::Redis;
use super::draft::Needs;
use super::keys::{self, AccountRow, Keys};
use super::scripts;
use crate::store::StoreFault;
use crate::store::account::Account;
use crate::store::reading::{
    ANSWER_BYTES_MAX, EventFilter, Integrity, Item, Kept, Page, ROWS_MAX, is_wanted,
};

/// One event as it stands in the stream.
struct Row {
    number: u64,
    hash: Hash,
    seal: Option<Seal>,
    event: String,
}

/// From a stream: id, and names with their values.
type Told = (AccountRow, Vec<(String, Vec<Vec<u8>>)>);

impl Redis {
    pub async fn list(
        &self,
        tenant: Arc<str>,
        namespace: Namespace,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<(String, Entry)>, StoreFault> {
        let _place = self.place().await?;
        let (folder, now) = (format!("{namespace}/"), self.now().await?);
        let whole = format!("{folder}{prefix}");
        let after = after.map(|after| format!("{folder}{after}"));
        let mut rows = Vec::new();
        let visit = |path: &str, entry: Entry| {
            if rows.len() == limit {
                return ControlFlow::Break(());
            }
            if entry.is_live(now) {
                rows.push((path[folder.len()..].to_owned(), entry));
            }
            ControlFlow::Continue(())
        };
        let next = self.walk(&tenant, &whole, after, limit + 1, visit).await?;
        Ok(Page { rows, next: next.map(|path| path[folder.len()..].to_owned()) })
    }

    pub async fn of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, StoreFault> {
        let _place = self.place().await?;
        self.paths_of_subject(&tenant, &subject, after, limit).await
    }

    pub async fn items_of_subject(
        &self,
        tenant: Arc<str>,
        subject: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<Item>, StoreFault> {
        let _place = self.place().await?;
        let Page { rows: paths, mut next } = self.paths_of_subject(&tenant, &subject, after, limit).await?;
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
        for path in paths {
            if let Some(item) = self.at_path(&tenant, &path).await? {
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

    async fn paths_of_subject(
        &self,
        tenant: &str,
        subject: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, StoreFault> {
        let (mut rows, mut last) = (Vec::new(), after);
        loop {
            let visit = |path: &str, _| {
                if rows.len() == limit {
                    return ControlFlow::Break(());
                }
                if place::names(path, subject) {
                    rows.push(path.to_owned());
                }
                ControlFlow::Continue(())
            };
            let next = self.walk(tenant, "", last, STEP_ROWS, visit).await?;
            if next.is_none() || rows.len() == limit {
                return Ok(Page { rows, next });
            }
            last = next;
        }
    }

    /// What a path holds, if it still does. No event is written of it.
    pub(super) async fn at_path(&self, tenant: &str, path: &str) -> Result<Option<Item>, StoreFault> {
        let needs = Needs { paths: vec![path.into()], values: vec![path.into()], ..Needs::default() };
        let (now, _, mut rows, mut values, ..) = self.reads.load(&Keys::of(tenant), &needs).await?;
        let (Some(row), Some(value)) = (rows.pop().flatten(), values.pop().flatten()) else {
            return Ok(None);
        };
        let (entry, _) = keys::entry_of(&row).ok_or_else(|| self.strange())?;
        Ok(entry.is_live(Wall(now)).then(|| Item { path: path.to_owned(), entry, value }))
    }

    /// Goes over the paths that begin with `prefix` and are behind `after`, `step` at a time, until told to
    /// stop or [`ROWS_MAX`] were seen; the last one seen, unless those were all.
    async fn walk(
        &self,
        tenant: &str,
        prefix: &str,
        after: Option<String>,
        step: usize,
        mut visit: impl FnMut(&str, Entry) -> ControlFlow<()>,
    ) -> Result<Option<String>, StoreFault> {
        let keys = Keys::of(tenant);
        // No character of a path is this large.
        let to = format!("[{prefix}\u{7f}");
        let (mut last, mut seen) = (after, 0);
        loop {
            let from = match last.as_deref().filter(|last| *last >= prefix) {
                Some(last) => format!("({last}"),
                None => format!("[{prefix}"),
            };
            let (paths, rows): (Vec<String>, Vec<Option<String>>) = self
                .reads
                .link
                .read(&scripts::WALK, |call| {
                    call.key(&keys.paths).key(&keys.entries).arg(&from).arg(&to).arg(step);
                })
                .await?;
            let is_last = paths.len() < step;
            for (path, row) in paths.into_iter().zip(rows) {
                let entry = row.as_deref().and_then(keys::entry_of).ok_or_else(|| self.strange())?.0;
                if seen == ROWS_MAX || visit(&path, entry).is_break() {
                    return Ok(last);
                }
                seen += 1;
                last = Some(path);
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    pub async fn events(&self, tenant: Arc<str>, filter: EventFilter) -> Result<Vec<Kept>, StoreFault> {
        let _place = self.place().await?;
        let keys = Keys::of(&tenant);
        let mut kept: Vec<Kept> = Vec::new();
        let mut before = filter.before.unwrap_or(u64::MAX);
        // The newest first, each with the hash of the one behind it: the last of a step waits for the next.
        let mut later: Option<Row> = None;
        while kept.len() < filter.limit && before > 0 {
            let to = (before - 1).to_string();
            let (account, rows) = self.some_events(&keys, "XREVRANGE", &to, "-").await?;
            let is_last = rows.len() < STEP_EVENTS;
            before = rows.last().map_or(0, |row| row.number);
            let mut take = |row: Row, previous: Option<Hash>| {
                if kept.len() < filter.limit && is_wanted(&row.event, &filter) {
                    let Row { number, hash, seal, event } = row;
                    kept.push(Kept { number, event, hash, previous, seal });
                }
            };
            for row in rows {
                let hash = row.hash;
                if let Some(later) = later.replace(row) {
                    take(later, Some(hash));
                }
            }
            if is_last {
                if let Some(oldest) = later.take() {
                    take(oldest, account.anchor.head);
                }
                break;
            }
        }
        Ok(kept)
    }

    pub async fn report(
        &self,
        tenant: Arc<str>,
        from: Option<Wall>,
        to: Option<Wall>,
    ) -> Result<BTreeMap<EventKind, u64>, StoreFault> {
        let _place = self.place().await?;
        let (keys, mut counts, mut next) = (Keys::of(&tenant), BTreeMap::new(), 0);
        loop {
            let (_, rows) = self.some_events(&keys, "XRANGE", &next.to_string(), "+").await?;
            for row in &rows {
                let Some((at, kind)) = audit::read(&row.event) else { continue };
                if from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to) {
                    *counts.entry(kind).or_default() += 1;
                }
            }
            match rows.last().filter(|_| rows.len() == STEP_EVENTS) {
                Some(last) => next = last.number + 1,
                None => return Ok(counts),
            }
        }
    }

    /// Reads every event of a tenant again. Where the oldest go meanwhile it begins anew.
    pub async fn integrity(&self, tenant: Arc<str>) -> Result<Integrity, StoreFault> {
        let _place = self.place().await?;
        let keys = Keys::of(&tenant);
        for _ in 0..TRIES {
            if let Some(integrity) = self.verified(&keys).await? {
                return Ok(integrity);
            }
        }
        Err(StoreFault::Busy)
    }

    /// `None`: events that were to be read have gone meanwhile, as they do when they are too many.
    async fn verified(&self, keys: &Keys) -> Result<Option<Integrity>, StoreFault> {
        let secret = self.reads.secret.as_ref();
        let (first, mut rows) = self.some_events(keys, "XRANGE", "-", "+").await?;
        let mut verifier = Verifier::new(first.anchor, secret);
        let (mut account, mut verdict) = (first, Ok(()));
        loop {
            let is_last = rows.len() < STEP_EVENTS;
            let next = rows.last().map_or(0, |row| row.number + 1);
            for row in rows {
                let Row { number, hash, seal, event } = row;
                verdict =
                    verdict.and_then(|()| verifier.on_event(number, event.as_bytes(), &hash, seal.as_ref()));
            }
            if is_last || verdict.is_err() {
                break;
            }
            (account, rows) = self.some_events(keys, "XRANGE", &next.to_string(), "+").await?;
            if account.anchor.next > next {
                return Ok(None);
            }
        }
        let sealed = secret.map(|_| verifier.sealed());
        // The first step's anchor is what was verified from; the last one's head is what was verified to.
        account.anchor = first.anchor;
        let verdict = verdict.and_then(|()| verifier.finish(account.chain));
        Ok(Some(Integrity { account, verdict, sealed }))
    }

    /// One step over the log, and the account at that moment.
    async fn some_events(
        &self,
        keys: &Keys,
        command: &str,
        from: &str,
        to: &str,
    ) -> Result<(Account, Vec<Row>), StoreFault> {
        let (account, rows): Told = self
            .reads
            .link
            .read(&scripts::EVENTS, |call| {
                call.key(&keys.account).key(&keys.events);
                call.arg(command).arg(from).arg(to).arg(STEP_EVENTS);
            })
            .await?;
        let (_, account) = keys::account_of(account);
        let rows: Option<Vec<Row>> = rows.into_iter().map(|(id, fields)| event_of(&id, fields)).collect();
        Ok((account, rows.ok_or_else(|| self.strange())?))
    }
}

fn event_of(id: &str, fields: Vec<Vec<u8>>) -> Option<Row> {
    let number = id.split_once('-')?.0.parse().ok()?;
    let [_, hash, _, seal, _, event] = <[Vec<u8>; 6]>::try_from(fields).ok()?;
    let seal = Seal::try_from(seal).ok();
    Some(Row { number, hash: hash.try_into().ok()?, seal, event: String::from_utf8(event).ok()? })
}

/// Rows of one step: a millisecond of Redis.
const STEP_ROWS: usize = 500;
/// Events of one step.
const STEP_EVENTS: usize = 500;
/// Of a verification that the oldest events run away from: each reads 100,000.
const TRIES: usize = 3;
