//! From stored resources to the set data planes are offered. The form is what Sync carries: each resource as
//! the canonical JSON it is stored as, in the order of kind and name, so that equal stores give equal hashes.

use proto_core::sync::{Generation, PublishedSet, TooLarge};
use proto_core::wire::atp::control::v1::ResourceBody;

use crate::stored::{Entry, Stored};

/// The set of a generation, or why it is more than a set may be.
pub fn compile(stored: &Stored, generation: Generation) -> Result<PublishedSet, TooLarge> {
    PublishedSet::new(generation, stored.entries().map(|entry| body(entry)).collect())
}

fn body(entry: &Entry) -> ResourceBody {
    ResourceBody {
        kind: entry.document.kind.as_str().into(),
        name: entry.document.name.as_str().into(),
        version: entry.version,
        json: entry.document.json.clone().into_bytes().into(),
    }
}
