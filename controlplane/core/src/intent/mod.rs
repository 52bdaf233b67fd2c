//! What an operator wants of the stored set, and what that would change. Planning stores nothing: the shell
//! commits [`Plan::writes`] and only then takes [`Plan::next`] for the truth.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use proto_core::model::{Kind, Name};
use proto_core::parse::{Document, Mistake};

use crate::check;
use crate::stored::{Entry, Key, Stored};

/// What is wanted.
#[derive(Debug, Clone)]
pub enum Intent {
    /// These resources as they stand here; the others stay.
    Apply(Vec<Document>),
    /// These resources and no others.
    Replace(Vec<Document>),
    /// This one no longer.
    Delete(Kind, Name),
}

/// A change that may be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every resource the intent speaks of, in the order of its documents; what goes without being named
    /// comes last.
    pub changes: Vec<Change>,
    /// The set after the change: it fits together.
    pub next: Stored,
}

/// What becomes of one resource.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: Kind,
    pub name: Name,
    pub before: Option<Arc<Entry>>,
    pub after: Option<Arc<Entry>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Created,
    Configured,
    Unchanged,
    Deleted,
}

/// Why nothing may be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// What is to be deleted is not stored.
    Missing(Kind, Name),
    /// The result would not fit together.
    Mistakes(Vec<Mistake>),
}

/// One row of the store to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Write<'a> {
    Put(&'a Entry),
    Remove(Kind, &'a Name),
}

/// What an intent would change, or why it may not.
pub fn plan(stored: &Stored, intent: Intent) -> Result<Plan, Refusal> {
    let (mut next, mut changes) = (stored.clone(), Vec::new());
    let is_whole = matches!(intent, Intent::Replace(_));
    match intent {
        Intent::Apply(documents) | Intent::Replace(documents) => {
            // Checked as they were written, with their places in the operator's files.
            check::whole(stored, &documents, is_whole).map_err(Refusal::Mistakes)?;
            let named: BTreeSet<Key> = documents.iter().map(|one| (one.kind, one.name.clone())).collect();
            changes.extend(documents.into_iter().map(|document| put(&mut next, document)));
            if is_whole {
                let gone: Vec<Key> =
                    stored.entries().map(|entry| entry.key()).filter(|key| !named.contains(key)).collect();
                changes.extend(gone.into_iter().filter_map(|key| remove(&mut next, key)));
            }
        }
        Intent::Delete(kind, name) => {
            let Some(change) = remove(&mut next, (kind, name.clone())) else {
                return Err(Refusal::Missing(kind, name));
            };
            check::whole(&next, &[], false).map_err(Refusal::Mistakes)?;
            changes.push(change);
        }
    }
    Ok(Plan { changes, next })
}

impl Plan {
    /// Whether there is anything to store.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.verb() == Verb::Unchanged)
    }

    /// What to store, all of it or nothing.
    pub fn writes(&self) -> impl Iterator<Item = Write<'_>> {
        self.changes.iter().filter_map(|change| match change.verb() {
            Verb::Unchanged => None,
            Verb::Deleted => Some(Write::Remove(change.kind, &change.name)),
            Verb::Created | Verb::Configured => change.after.as_deref().map(Write::Put),
        })
    }
}

impl Change {
    pub fn verb(&self) -> Verb {
        match (&self.before, &self.after) {
            (None, _) => Verb::Created,
            (Some(_), None) => Verb::Deleted,
            (Some(before), Some(after)) if before.document.json == after.document.json => Verb::Unchanged,
            (Some(_), Some(_)) => Verb::Configured,
        }
    }
}

fn put(next: &mut Stored, document: Document) -> Change {
    let (kind, name) = (document.kind, document.name.clone());
    let before = next.get(kind, &name).cloned();
    let after = match &before {
        // The same content keeps the entry, so that an apply of everything shares what did not change.
        Some(before) if before.document.json == document.json => Arc::clone(before),
        _ => Arc::new(Entry::new(document)),
    };
    next.insert(Arc::clone(&after));
    Change { kind, name, before, after: Some(after) }
}

fn remove(next: &mut Stored, key: Key) -> Option<Change> {
    let before = next.remove(&key)?;
    let (kind, name) = key;
    Some(Change { kind, name, before: Some(before), after: None })
}
