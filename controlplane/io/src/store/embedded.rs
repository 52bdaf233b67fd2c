//! The store of one control plane alone: a redb file, `control.redb` in the data folder, readable by its
//! owner only. A commit is on disk when it returns, so what was acknowledged survives `kill -9` and a power
//! cut.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use controlplane_core::intent::Write;
use controlplane_core::stored::Entry;
use proto_core::sync::Generation;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::{FORMAT, Loaded, Store, StoreFault};

/// (kind, name) → (version, canonical JSON).
const RESOURCES: TableDefinition<(&str, &str), (u64, &[u8])> = TableDefinition::new("resources");

/// `format`, `epoch`, `generation`.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// A redb file.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    /// `None` after an error: redb refuses all use of a database whose file failed once, so it is opened
    /// anew.
    database: Option<Database>,
}

impl Embedded {
    /// Opens the file of a data folder, creating it where it is missing.
    pub fn open(data_dir: &Path) -> Result<Embedded, StoreFault> {
        let mut store = Embedded { path: data_dir.join(FILE), database: None };
        store.database()?;
        Ok(store)
    }

    fn database(&mut self) -> Result<&Database, StoreFault> {
        let path = self.path.clone();
        if self.database.is_none() {
            self.database = Some(open(&path)?);
        }
        Ok(self.database.as_ref().expect("it was opened above"))
    }

    /// Runs one piece of work; after an error the file is opened anew by the next.
    fn attempt<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, StoreFault> {
        let path = self.path.display().to_string();
        let done = work(self.database()?);
        done.map_err(|error| {
            self.database = None;
            error.into_fault(path)
        })
    }
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        self.attempt(|database| {
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let resources = transaction.open_table(RESOURCES)?;
            let mut entries = Vec::new();
            for row in resources.iter()? {
                let (key, value) = row?;
                let ((kind, name), (_, json)) = (key.value(), value.value());
                entries.push(Entry::read(json).map_err(|mistakes| {
                    let (kind, name) = (kind.to_owned(), name.to_owned());
                    Error::Fault(StoreFault::Unreadable { kind, name, mistakes })
                })?);
            }
            Ok(Loaded { generation: generation(&meta)?, entries })
        })
    }

    fn commit(&mut self, next: Generation, writes: &[Write<'_>]) -> Result<(), StoreFault> {
        self.attempt(|database| {
            let transaction = begin(database)?;
            {
                let mut meta = transaction.open_table(META)?;
                let found = generation(&meta)?;
                if found.epoch != next.epoch || found.number.checked_add(1) != Some(next.number) {
                    return Err(Error::Fault(StoreFault::Order { found, next }));
                }
                meta.insert("generation", next.number)?;
                let mut resources = transaction.open_table(RESOURCES)?;
                for write in writes {
                    match write {
                        Write::Put(entry) => {
                            let document = &entry.document;
                            let key = (document.kind.as_str(), document.name.as_str());
                            resources.insert(key, (entry.version, document.json.as_bytes()))?;
                        }
                        Write::Remove(kind, name) => {
                            resources.remove((kind.as_str(), name.as_str()))?;
                        }
                    }
                }
            }
            Ok(transaction.commit()?)
        })
    }
}

/// Opens the file and makes it a store: the first transaction of a new one draws its epoch.
fn open(path: &Path) -> Result<Database, StoreFault> {
    let shown = path.display().to_string();
    let unusable = |why: String| StoreFault::Unusable { path: shown.clone(), why };
    create_private(path).map_err(|error| unusable(error.to_string()))?;
    let database = Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreFault::InUse { path: shown.clone() },
        error => unusable(error.to_string()),
    })?;
    prepare(&database).map_err(|error| error.into_fault(shown.clone()))?;
    Ok(database)
}

fn prepare(database: &Database) -> Result<(), Error> {
    let transaction = begin(database)?;
    {
        let mut meta = transaction.open_table(META)?;
        transaction.open_table(RESOURCES)?;
        let format = meta.get("format")?.map(|format| format.value());
        match format {
            Some(FORMAT) => {}
            Some(found) => return Err(Error::Format(found)),
            None => {
                meta.insert("format", FORMAT)?;
                meta.insert("epoch", rand::random::<u64>())?;
                meta.insert("generation", 0)?;
            }
        }
    }
    Ok(transaction.commit()?)
}

fn begin(database: &Database) -> Result<WriteTransaction, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn generation(meta: &impl ReadableTable<&'static str, u64>) -> Result<Generation, Error> {
    let number = |name: &str| -> Result<u64, Error> {
        meta.get(name)?.map(|value| value.value()).ok_or(Error::NoMeta)
    };
    Ok(Generation { epoch: number("epoch")?, number: number("generation")? })
}

/// Makes the file, where there is none, with its owner's rights only, and its name durable.
fn create_private(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What goes wrong inside, before the path is put to it.
enum Error {
    Redb(redb::Error),
    Format(u64),
    NoMeta,
    Fault(StoreFault),
}

impl Error {
    fn into_fault(self, path: String) -> StoreFault {
        match self {
            Error::Redb(error) => StoreFault::Unusable { path, why: error.to_string() },
            Error::Format(found) => StoreFault::Format { path, found },
            Error::NoMeta => StoreFault::Unusable { path, why: "its epoch or generation is missing".into() },
            Error::Fault(fault) => fault,
        }
    }
}

/// redb has one error for each step; all of them become its general one.
macro_rules! from_redb {
    ($($step:ident),+) => {
        $(impl From<redb::$step> for Error {
            fn from(error: redb::$step) -> Error {
                Error::Redb(error.into())
            }
        })+
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

/// The one file of a control plane's store.
pub const FILE: &str = "control.redb";
