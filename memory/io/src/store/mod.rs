//! Where items and events are kept: a redb file, `memory.redb` in the data folder, readable by its owner
//! only. What an item is found by, its value, its expiry and its event change in one transaction, and a
//! commit is on disk when it returns; so the file is consistent after `kill -9` or a power cut, and nothing
//! that was acknowledged is lost.
//!
//! Everything here blocks: it runs on the writer's thread, or on those for blocking work.

pub mod account;
pub mod changes;
pub mod feed;
pub mod reading;
mod tables;
pub mod writing;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use memory_core::audit::Secret;
use memory_core::wall::Wall;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use self::feed::Feed;
use self::reading::{Item, Reading};
use self::writing::Writing;
use crate::index::source::{Followed, Source, State};

/// The file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` after an error: redb refuses all use of a database whose file failed once, so it is opened
    /// anew. Reads and writes share the lock; only opening anew holds it alone.
    database: RwLock<Option<Database>>,
    secret: Option<Secret>,
    feed: Feed,
    /// Goes with the store, after the database: the last field.
    _open: oneshot::Sender<()>,
}

/// Ends once the last handle of a store is gone and its file is closed.
pub type FileClosed = oneshot::Receiver<()>;

/// Why the store did not do it. After one of a write nobody knows whether it happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreFault {
    #[error("{path} is open in another process; stop that gateway or give this one another --data-dir")]
    InUse { path: String },
    #[error("cannot use the store {path}: {why}")]
    Unusable { path: String, why: String },
    #[error(
        "the store {path} has format {found}, this program reads {expected}; run the program that wrote it"
    )]
    Format { path: String, found: u64, expected: u64 },
    /// Nothing of it was done.
    #[error("cannot reach the store {path}: {why}")]
    Unreachable { path: String, why: String },
    #[error("the gateway is stopping")]
    Stopping,
    /// Nothing of it was done, nor will be.
    #[error("the store does not keep up with those who write")]
    Busy,
    #[error("the store took too long; the write may still happen")]
    Late,
    #[error("the search index is being made from what is stored; try again in a moment")]
    Behind,
    #[error("the search index cannot be read; the log says why")]
    Search,
}

impl Store {
    /// Opens the file of a data folder, creating it where it is missing.
    /// `secret`: seals events.
    pub fn open(data_dir: &Path, secret: Option<Secret>) -> Result<(Store, FileClosed), StoreFault> {
        let path = data_dir.join(FILE);
        let database = open(&path)?;
        let (open, closed) = oneshot::channel();
        Ok((
            Store { path, database: RwLock::new(Some(database)), secret, feed: Feed::default(), _open: open },
            closed,
        ))
    }

    /// Reads the newest committed state.
    pub fn read<T>(&self, work: impl FnOnce(&Reading) -> Result<T, Fail>) -> Result<T, StoreFault> {
        self.attempt(|database| work(&Reading::open(&database.begin_read()?, self.secret.clone())?))
    }

    /// Runs one transaction. Committed, and on disk, once this returns well; where `work` fails, nothing of
    /// it happened.
    pub fn write<T>(&self, work: impl FnOnce(&mut Writing<'_>) -> Result<T, Fail>) -> Result<T, StoreFault> {
        self.attempt(|database| {
            let transaction = begin(database)?;
            let mut writing = Writing::open(&transaction, self.secret.as_ref())?;
            let value = work(&mut writing)?;
            let changes = std::mem::take(&mut writing.changes);
            drop(writing);
            // Whoever follows sees the commit and its changes, or neither.
            let mut turn = self.feed.turn();
            let committed = transaction.commit();
            if committed.is_ok() {
                turn.add(changes)
            } else {
                turn.lose()
            }
            Ok(committed.map(|()| value)?)
        })
    }

    fn attempt<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fail>) -> Result<T, StoreFault> {
        self.reopen()?;
        // A panic under this lock changes nothing that the next holder would see.
        let held = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = held.as_ref() else {
            return Err(self.unusable("it failed just now; try again"));
        };
        let done = work(database);
        drop(held);
        done.map_err(|Fail(error)| {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.unusable(error)
        })
    }

    fn reopen(&self) -> Result<(), StoreFault> {
        let is_open = self.database.read().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_open {
            return Ok(());
        }
        let mut held = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = Some(open(&self.path)?);
        }
        Ok(())
    }

    fn unusable(&self, why: impl ToString) -> StoreFault {
        StoreFault::Unusable { path: self.path.display().to_string(), why: why.to_string() }
    }
}

impl Source for Store {
    fn reached(&self) -> u64 {
        self.feed.reached()
    }

    fn follow(&self) -> Result<Followed, StoreFault> {
        self.attempt(|database| {
            let mut turn = self.feed.turn();
            let reading = Reading::open(&database.begin_read()?, self.secret.clone())?;
            let (reached, unseen) = turn.take();
            let path = self.path.clone();
            Ok(Followed { reached, unseen, state: Box::new(Committed { reading, path }) })
        })
    }

    fn items(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, StoreFault> {
        self.read(|reading| reading.items_of(tenant, places, now))
    }
}

/// The state after one commit.
struct Committed {
    reading: Reading,
    path: PathBuf,
}

impl Committed {
    fn told<T>(&self, read: Result<T, Fail>) -> Result<T, StoreFault> {
        read.map_err(|Fail(error)| StoreFault::Unusable {
            path: self.path.display().to_string(),
            why: error.to_string(),
        })
    }
}

impl State for Committed {
    fn tenants(&self) -> Result<Vec<String>, StoreFault> {
        let accounts = self.told(self.reading.accounts())?;
        Ok(accounts.into_iter().map(|(name, _)| name).collect())
    }

    fn stamps(&self, tenant: &str) -> Result<Vec<(u64, Wall)>, StoreFault> {
        self.told(self.reading.stamps(tenant))
    }

    fn item(&self, tenant: &str, version: u64) -> Result<Option<Item>, StoreFault> {
        self.told(self.reading.version(tenant, version))
    }
}

/// An error of the file, before its path is put to it.
#[derive(Debug)]
pub struct Fail(redb::Error);

/// redb has one error for each step; all of them become its general one.
macro_rules! from_redb {
    ($($step:ident),+) => {
        $(impl From<redb::$step> for Fail {
            fn from(error: redb::$step) -> Fail {
                Fail(error.into())
            }
        })+
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

/// Opens the file and makes it a store.
fn open(path: &Path) -> Result<Database, StoreFault> {
    let shown = path.display().to_string();
    let unusable = |why: String| StoreFault::Unusable { path: shown.clone(), why };
    create_private(path).map_err(|error| unusable(error.to_string()))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreFault::InUse { path: shown.clone() },
        error => unusable(error.to_string()),
    })?;
    match prepare(&database).map_err(|Fail(error)| unusable(error.to_string()))? {
        tables::FORMAT => Ok(database),
        found => Err(StoreFault::Format { path: shown, found, expected: tables::FORMAT }),
    }
}

/// Makes the tables of a new file; the format of it. One that has them is only read, so that what is stored
/// can be read also where the disk is full.
fn prepare(database: &Database) -> Result<u64, Fail> {
    match database.begin_read()?.open_table(tables::META) {
        Ok(meta) => match meta.get("format")?.map(|format| format.value()) {
            None | Some(tables::FORMAT_BEFORE) => {}
            Some(format) => return Ok(format),
        },
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let transaction = begin(database)?;
    let format = {
        let mut meta = transaction.open_table(tables::META)?;
        let found = meta.get("format")?.map(|format| format.value());
        match found {
            None | Some(tables::FORMAT_BEFORE) => {
                meta.insert("format", tables::FORMAT)?;
                transaction.delete_table(tables::WORDS)?;
                tables::FORMAT
            }
            Some(format) => format,
        }
    };
    if format == tables::FORMAT {
        Writing::open(&transaction, None)?;
    }
    transaction.commit()?;
    Ok(format)
}

fn begin(database: &Database) -> Result<WriteTransaction, Fail> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

/// Makes the file, where there is none, with its owner's rights only, and its name durable.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Pages kept in memory. The system caches the file too, so more would mostly be kept twice.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// The one file of a gateway.
pub const FILE: &str = "memory.redb";

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
