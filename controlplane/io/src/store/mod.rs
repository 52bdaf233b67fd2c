//! Where resources are kept. The seam of every store: load everything once, then commit change sets, each
//! whole or not at all, each with the next generation number. One writer owns a store; readers never touch
//! it.

pub mod embedded;

use controlplane_core::intent::Write;
use controlplane_core::stored::Entry;
use proto_core::parse::Mistake;
use proto_core::sync::Generation;

/// Blocks; never called from an async task.
pub trait Store: Send {
    /// Everything, as of the last commit that was acknowledged or became durable without saying so.
    fn load(&mut self) -> Result<Loaded, StoreFault>;

    /// Makes a change set durable as generation `next`, before it returns. After an error nobody knows
    /// whether it did: load again.
    fn commit(&mut self, next: Generation, writes: &[Write<'_>]) -> Result<(), StoreFault>;
}

/// What a store holds.
#[derive(Debug)]
pub struct Loaded {
    pub generation: Generation,
    pub entries: Vec<Entry>,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("{path} is open in another process; stop that control plane or give this one another data_dir")]
    InUse { path: String },
    #[error("cannot use the store {path}: {why}")]
    Unusable { path: String, why: String },
    #[error(
        "the store {path} has format {found}, this program reads {FORMAT}; run the program that wrote it"
    )]
    Format { path: String, found: u64 },
    #[error("the stored {kind} {name} cannot be read: {}; run the program that wrote it", told(.mistakes))]
    Unreadable { kind: String, name: String, mistakes: Vec<Mistake> },
    #[error("the store is at {found}, {next} cannot follow it: another writer was here; start again")]
    Order { found: Generation, next: Generation },
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Of the rows of a store; changes when an older program could no longer read them.
pub const FORMAT: u64 = 1;

#[cfg(test)]
mod tests;
