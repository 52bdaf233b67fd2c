//! What the index of this gateway follows: the feed of all changes that any gateway made. It is bounded; who
//! fell behind, or lost the connection and so does not know whether this Redis is still the one it was,
//! compares everything anew.
//!
//! Redis shows no state but the newest, so a comparison sees what the feed tells later too. It stops at the
//! version each tenant had reached when it began, and the feed leaves out what is below.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::wall::Wall;
use tokio::runtime::Handle;

use super::draft::Needs;
use super::keys::{self, FEED, FEED_AT, Keys};
use super::scripts;
use super::writer::Shared;
use crate::index::source::{Followed, Source, State};
use crate::store::StoreFault;
use crate::store::feed::{CHANGES_MAX, Change, Unseen};
use crate::store::reading::{ANSWER_BYTES_MAX, Item};

/// Redis, followed. Its methods block: they are called on the index's thread, and on those for blocking work.
pub struct Follower {
    reads: Arc<Shared>,
    runtime: Handle,
    /// The newest change that a search of this gateway asked for.
    reached: AtomicU64,
    seen: Arc<Mutex<Seen>>,
}

/// How far it has followed.
#[derive(Debug, Default)]
struct Seen {
    /// `None`: never.
    at: Option<u64>,
    /// Which connection that was.
    connection: u64,
    /// The versions that a comparison stopped at, by tenant.
    compared: HashMap<String, u64>,
}

/// From the feed: id, and names with their values.
type Told = (u64, Vec<(String, Vec<String>)>);

impl Follower {
    pub fn new(reads: Arc<Shared>) -> Follower {
        let (runtime, reached) = (Handle::current(), AtomicU64::new(0));
        Follower { reads, runtime, reached, seen: Arc::default() }
    }

    /// Asks Redis how far it is, so that a search finds what any gateway acknowledged before.
    pub async fn look(&self) -> Result<(), StoreFault> {
        let at: Option<u64> = self.reads.link.ask(redis::cmd("GET").arg(FEED_AT)).await?;
        // Order: nothing else is read by it; who reads a smaller one asked earlier.
        self.reached.store(at.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Everything behind a number, and the number it reaches; `None`: some of it is not there any more.
    async fn since(&self, mut at: u64) -> Result<(u64, Option<Vec<Change>>), StoreFault> {
        let mut changes = Vec::new();
        loop {
            let (newest, rows): Told = self
                .reads
                .link
                .read(&scripts::FEED, |call| {
                    call.key(FEED).key(FEED_AT).arg(at).arg(STEP);
                })
                .await?;
            let is_last = rows.len() < STEP;
            for (id, fields) in rows {
                let (number, change) = change_of(&id, fields).ok_or_else(|| self.strange())?;
                if number != at + 1 {
                    return Ok((newest, None));
                }
                at = number;
                changes.push(change);
            }
            if is_last {
                return Ok((newest, (newest == at).then_some(changes)));
            }
            if changes.len() > CHANGES_MAX {
                return Ok((newest, None));
            }
        }
    }

    async fn some(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, StoreFault> {
        let (keys, mut items, mut bytes) = (Keys::of(tenant), Vec::new(), 0);
        for (path, version) in places {
            let needs = Needs { paths: vec![path.clone()], values: vec![path.clone()], ..Needs::default() };
            let (_, _, mut rows, mut values, ..) = self.reads.load(&keys, &needs).await?;
            let found = rows.pop().flatten().zip(values.pop().flatten());
            let item = match found {
                Some((row, value)) => {
                    let (entry, _) = keys::entry_of(&row).ok_or_else(|| self.strange())?;
                    let is_it = entry.version == *version && entry.is_live(now);
                    is_it.then(|| Item { path: path.clone(), entry, value })
                }
                None => None,
            };
            bytes += item.as_ref().map_or(0, |item| item.value.len() as u64);
            if bytes > ANSWER_BYTES_MAX && items.iter().any(Option::is_some) {
                break;
            }
            items.push(item);
        }
        Ok(items)
    }

    fn strange(&self) -> StoreFault {
        self.reads.link.unusable("a row is none that a gateway wrote".into())
    }
}

impl Source for Follower {
    fn reached(&self) -> u64 {
        // Order: as in `look`, whose caller this is.
        self.reached.load(Ordering::Relaxed)
    }

    fn follow(&self) -> Result<Followed, StoreFault> {
        let connection = self.runtime.block_on(self.reads.link.number());
        let mut seen = hold(&self.seen);
        let known = seen.at.filter(|_| seen.connection == connection);
        let (newest, changes) = self.runtime.block_on(self.since(known.unwrap_or(0)))?;
        let unseen = match changes {
            Some(changes) if known.is_some() => {
                let is_new = |change: &Change| match change {
                    Change::Put { tenant, version } => {
                        seen.compared.get(tenant).is_none_or(|below| version >= below)
                    }
                    Change::Gone { .. } => true,
                };
                Unseen::Some(changes.into_iter().filter(is_new).collect())
            }
            _ => Unseen::Lost,
        };
        (seen.at, seen.connection) = (Some(newest), connection);
        let (reads, runtime) = (Arc::clone(&self.reads), self.runtime.clone());
        let state = Newest { reads, runtime, seen: Arc::clone(&self.seen) };
        Ok(Followed { reached: newest, unseen, state: Box::new(state) })
    }

    fn items(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, StoreFault> {
        self.runtime.block_on(self.some(tenant, places, now))
    }
}

/// What Redis has, up to where a comparison began.
struct Newest {
    reads: Arc<Shared>,
    runtime: Handle,
    seen: Arc<Mutex<Seen>>,
}

impl State for Newest {
    /// Where a comparison begins.
    fn tenants(&self) -> Result<Vec<String>, StoreFault> {
        let accounts = self.runtime.block_on(self.reads.accounts())?;
        let next = accounts.iter().map(|(tenant, account)| (tenant.clone(), account.chain.next));
        hold(&self.seen).compared = next.collect();
        Ok(accounts.into_iter().map(|(tenant, _)| tenant).collect())
    }

    fn stamps(&self, tenant: &str) -> Result<Vec<(u64, Wall)>, StoreFault> {
        let (keys, mut stamps, mut last) = (Keys::of(tenant), Vec::new(), 0);
        let below = hold(&self.seen).compared.get(tenant).copied().unwrap_or(0);
        loop {
            let rows: Vec<String> =
                self.runtime.block_on(self.reads.link.read(&scripts::STAMPS, |call| {
                    call.key(&keys.versions).key(&keys.entries).arg(last).arg(STEP);
                }))?;
            let is_last = rows.len() < STEP;
            for row in rows {
                let strange = || self.reads.link.unusable("a row is none that a gateway wrote".into());
                let (entry, _) = keys::entry_of(&row).ok_or_else(strange)?;
                last = entry.version;
                if last < below {
                    stamps.push((entry.version, entry.updated));
                }
            }
            if is_last || last >= below {
                return Ok(stamps);
            }
        }
    }

    fn item(&self, tenant: &str, version: u64) -> Result<Option<Item>, StoreFault> {
        let keys = Keys::of(tenant);
        let told: Vec<Option<Vec<u8>>> =
            self.runtime.block_on(self.reads.link.read(&scripts::VERSION, |call| {
                call.key(&keys.versions).key(&keys.entries).key(&keys.values).arg(version);
            }))?;
        let Ok([Some(path), Some(row), Some(value)]) = <[_; 3]>::try_from(told) else { return Ok(None) };
        let text = |bytes| String::from_utf8(bytes).ok();
        let row = text(row).as_deref().and_then(keys::entry_of);
        Ok(text(path).zip(row).map(|(path, (entry, _))| Item { path, entry, value }))
    }
}

fn change_of(id: &str, fields: Vec<String>) -> Option<(u64, Change)> {
    let number = id.split_once('-')?.0.parse().ok()?;
    let [_, tenant, what, version] = <[String; 4]>::try_from(fields).ok()?;
    let version = version.parse().ok()?;
    let change = match what.as_str() {
        "p" => Change::Put { tenant, version },
        "g" => Change::Gone { tenant, version },
        _ => return None,
    };
    Some((number, change))
}

fn hold(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // A panic under this lock leaves what was seen before.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of one step: a millisecond of Redis.
const STEP: usize = 1000;
