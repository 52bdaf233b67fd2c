//! What the index asks of a store: what changed, and one state to read it from.

use memory_core::wall::Wall;

use crate::store::StoreFault;
use crate::store::feed::Unseen;
use crate::store::reading::Item;

/// A store that is followed.
pub trait Source: Send + Sync + 'static {
    /// The number of the newest change that somebody may have been told of.
    fn reached(&self) -> u64;

    /// What changed since the last call, and the state right after the last of those changes.
    fn follow(&self) -> Result<Followed, StoreFault>;

    /// What stands at these places now, where it is still that version and has not expired; in their order,
    /// up to the first that would make the answer too long.
    fn items(
        &self,
        tenant: &str,
        places: &[(String, u64)],
        now: Wall,
    ) -> Result<Vec<Option<Item>>, StoreFault>;
}

/// An answer to [`Source::follow`].
pub struct Followed {
    /// The number of the last of the changes.
    pub reached: u64,
    pub unseen: Unseen,
    pub state: Box<dyn State>,
}

/// One state of a store; nothing that is written later shows in it.
pub trait State {
    fn tenants(&self) -> Result<Vec<String>, StoreFault>;

    /// Version and time of writing of everything a tenant has, expired or not; in the order of versions.
    fn stamps(&self, tenant: &str) -> Result<Vec<(u64, Wall)>, StoreFault>;

    fn item(&self, tenant: &str, version: u64) -> Result<Option<Item>, StoreFault>;
}
