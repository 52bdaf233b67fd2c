//! What is known of one tenant: what it stores, and where its chain of events stands.

use memory_core::audit::{Chain, Hash};
use memory_core::quota::Usage;
use memory_core::search::Corpus;

/// One row of the table of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Stands for the tenant in every other table; from 1, never used again.
    pub id: u32,
    pub usage: Usage,
    /// Of all items together.
    pub words: u64,
    /// The chain before the first event that is still kept.
    pub anchor: Chain,
    /// The chain after the last.
    pub chain: Chain,
}

/// As it stands in the file.
pub type Row<'a> = (u32, u64, u64, u64, u64, &'a [u8], u64, &'a [u8]);

impl Account {
    pub fn new(id: u32) -> Account {
        Account { id, usage: Usage::default(), words: 0, anchor: Chain::EMPTY, chain: Chain::EMPTY }
    }

    pub fn corpus(&self) -> Corpus {
        Corpus { items: self.usage.items, words: self.words }
    }

    pub fn of_row((id, items, bytes, words, first, before, next, head): Row<'_>) -> Account {
        let hash = |bytes: &[u8]| Hash::try_from(bytes).ok();
        Account {
            id,
            usage: Usage { items, bytes },
            words,
            anchor: Chain { next: first, head: hash(before) },
            chain: Chain { next, head: hash(head) },
        }
    }

    pub fn row(&self) -> Row<'_> {
        let Account { id, usage, words, anchor, chain } = self;
        let before = anchor.head.as_ref().map_or(&[][..], |hash| hash);
        let head = chain.head.as_ref().map_or(&[][..], |hash| hash);
        (*id, usage.items, usage.bytes, *words, anchor.next, before, chain.next, head)
    }
}
