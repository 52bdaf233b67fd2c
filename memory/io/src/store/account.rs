//! What is known of one tenant: what it stores, and where its chain of events stands.

use memory_core::audit::{Chain, Hash};
use memory_core::quota::Usage;

/// One row of the table of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Stands for the tenant in every other table; from 1, never used again.
    pub id: u32,
    pub usage: Usage,
    /// The chain before the first event that is still kept.
    pub anchor: Chain,
    /// The chain after the last.
    pub chain: Chain,
}

/// As it stands in the file.
pub type Row<'a> = (u32, u64, u64, u64, u64, &'a [u8], u64, &'a [u8]);

impl Account {
    pub fn new(id: u32) -> Account {
        Account { id, usage: Usage::default(), anchor: Chain::EMPTY, chain: Chain::EMPTY }
    }

    pub fn of_row((id, items, bytes, _, first, before, next, head): Row<'_>) -> Account {
        let hash = |bytes: &[u8]| Hash::try_from(bytes).ok();
        Account {
            id,
            usage: Usage { items, bytes },
            anchor: Chain { next: first, head: hash(before) },
            chain: Chain { next, head: hash(head) },
        }
    }

    pub fn row(&self) -> Row<'_> {
        let Account { id, usage, anchor, chain } = self;
        let before = anchor.head.as_ref().map_or(&[][..], |hash| hash);
        let head = chain.head.as_ref().map_or(&[][..], |hash| hash);
        (*id, usage.items, usage.bytes, 0, anchor.next, before, chain.next, head)
    }
}
