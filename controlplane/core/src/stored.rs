//! Every stored resource as a value: parsed once, shared between the set before a change and the one after
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_core::model::{Kind, Name};
use proto_core::parse::{self, Document, Mistake};
use proto_core::sync::version_of;

/// What identifies a resource. Ordered as sets travel: by kind, then by name.
pub type Key = (Kind, Name);

/// All resources there are. A clone shares every entry.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    entries: BTreeMap<Key, Arc<Entry>>,
}

/// One resource that is right by itself.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub document: Document,
    /// Changes with every change of the body, see [`version_of`].
    pub version: u64,
}

impl Entry {
    pub fn new(document: Document) -> Entry {
        Entry { version: version_of(document.json.as_bytes()), document }
    }

    /// From the store's own bytes, or why this program cannot read them.
    pub fn read(json: &[u8]) -> Result<Entry, Vec<Mistake>> {
        parse::resource_json(json).map(Entry::new)
    }

    pub fn key(&self) -> Key {
        (self.document.kind, self.document.name.clone())
    }
}

impl Stored {
    pub fn get(&self, kind: Kind, name: &Name) -> Option<&Arc<Entry>> {
        self.entries.get(&(kind, name.clone()))
    }

    /// In the order of [`Key`].
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Those of one kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries().filter(move |entry| entry.document.kind == kind)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        self.entries.insert(entry.key(), entry);
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.remove(key)
    }
}

impl FromIterator<Entry> for Stored {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Stored {
        let entries = entries.into_iter().map(|entry| (entry.key(), Arc::new(entry))).collect();
        Stored { entries }
    }
}
