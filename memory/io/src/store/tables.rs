//! The tables of the file. Tenants are numbers in all of them but one, so that a row is found by a short key
//! and a range never runs from one tenant into the next.

use redb::TableDefinition;

/// `format`.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// tenant's name → its account: number, items, bytes, nothing any more, then the chain of events before the
/// first one kept and after the last (number of the next, hash or nothing).
pub const TENANTS: TableDefinition<&str, AccountRow> = TableDefinition::new("tenants");
pub type AccountRow = (u32, u64, u64, u64, u64, &'static [u8], u64, &'static [u8]);

/// (tenant, path) → version, created, updated, expires (0: never), nothing any more, bytes of the value.
/// Without the value, so that lists and searches for subjects read little.
pub const ENTRIES: TableDefinition<(u32, &str), EntryRow> = TableDefinition::new("entries");
pub type EntryRow = (u64, u64, u64, u64, u64, u64);

/// (tenant, version) → path, value as JSON.
pub const VALUES: TableDefinition<(u32, u64), ValueRow> = TableDefinition::new("values");
pub type ValueRow = (&'static str, &'static [u8]);

/// (tenant, moment, path): what expires, the earliest first.
pub const EXPIRY: TableDefinition<(u32, u64, &str), ()> = TableDefinition::new("expiry");

/// Where format 1 kept an index of its own.
pub const WORDS: TableDefinition<(u32, &str, u64), (u32, u64)> = TableDefinition::new("words");

/// (tenant, number) → hash, seal or nothing, canonical event.
pub const EVENTS: TableDefinition<(u32, u64), EventRow> = TableDefinition::new("events");
pub type EventRow = (&'static [u8; 32], &'static [u8], &'static str);

/// Of the rows; changes when an older program could no longer read them.
pub const FORMAT: u64 = 2;
/// The one before, which is made into today's by taking [`WORDS`] out.
pub const FORMAT_BEFORE: u64 = 1;
