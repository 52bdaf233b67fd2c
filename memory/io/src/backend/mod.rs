//! What calls ask of whatever keeps items: the seam between them and the store. Each method is one change, or
//! one reading, with its event; what it promises is the same whoever keeps them.

pub mod file;

use memory_core::audit::{Event, EventKind};
use memory_core::wall::Wall;

pub use self::file::OneFile;

/// An event before its time and tenant are put to it.
#[derive(Debug, Clone)]
pub struct Noted {
    pub kind: EventKind,
    pub namespace: String,
    pub key: String,
    pub detail: Option<(&'static str, u64)>,
}

impl Noted {
    pub fn event<'a>(&'a self, tenant: &'a str, at: Wall) -> Event<'a> {
        let Noted { kind, namespace, key, detail } = self;
        Event { at, kind: *kind, tenant, namespace, key, details: detail.as_slice() }
    }
}
