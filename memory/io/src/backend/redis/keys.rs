//! What things are called in Redis, and how rows are spelled there.
//!
//! A tenant's name is the only word from outside in a key, and it is spelled so that it cannot end early;
//! places are fields and members, never keys. So nothing that is put can name what is another tenant's.
//! Braces make Redis keep a tenant's keys on one node, should it be several.

use std::fmt::Write;

use memory_core::audit::{Chain, Hash};
use memory_core::entry::Entry;
use memory_core::quota::Usage;
use memory_core::wall::Wall;

use crate::store::account::Account;

/// A tenant's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// HASH: turn, items, bytes, and the chain: first, before, next, head.
    pub account: String,
    /// HASH path → [`entry_row`].
    pub entries: String,
    /// HASH path → JSON.
    pub values: String,
    /// ZSET path by moment: what expires.
    pub expiry: String,
    /// ZSET path, all of score 0: in order of their bytes.
    pub paths: String,
    /// ZSET path by version.
    pub versions: String,
    /// STREAM number-0 → h (hash), s (seal or nothing), e (canonical event).
    pub events: String,
}

impl Keys {
    pub fn of(tenant: &str) -> Keys {
        let mut spelled = String::new();
        for byte in tenant.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => spelled.push(byte.into()),
                other => write!(spelled, "%{other:02X}").expect("writing to a string"),
            }
        }
        let key = |what: &str| format!("{PREFIX}:{{{spelled}}}:{what}");
        Keys {
            account: key("account"),
            entries: key("entries"),
            values: key("values"),
            expiry: key("expiry"),
            paths: key("paths"),
            versions: key("versions"),
            events: key("events"),
        }
    }
}

/// What is known of a path, in one field.
pub fn entry_row(entry: &Entry, bytes: u64) -> String {
    let Entry { version, created, updated, expires } = entry;
    format!("{version} {} {} {} {bytes}", created.0, updated.0, expires.map_or(0, |expires| expires.0))
}

/// The same, read; `None`: it is none of ours.
pub fn entry_of(row: &str) -> Option<(Entry, u64)> {
    let mut numbers = row.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (version, created, updated, expires, bytes) = (next()?, next()?, next()?, next()?, next()?);
    let expires = (expires != 0).then_some(Wall(expires));
    Some((Entry { version, created: Wall(created), updated: Wall(updated), expires }, bytes))
}

/// An account as the scripts tell it, and the turn it is of.
pub type AccountRow =
    (Option<String>, Option<u64>, Option<u64>, Option<u64>, Option<Vec<u8>>, Option<u64>, Option<Vec<u8>>);

/// One that never did anything is at turn 0.
pub fn account_of((turn, items, bytes, first, before, next, head): AccountRow) -> (String, Account) {
    let hash = |bytes: Option<Vec<u8>>| Hash::try_from(bytes?).ok();
    let mut account = Account::new(0);
    account.usage = Usage { items: items.unwrap_or(0), bytes: bytes.unwrap_or(0) };
    account.anchor = Chain { next: first.unwrap_or(1), head: hash(before) };
    account.chain = Chain { next: next.unwrap_or(1), head: hash(head) };
    (turn.unwrap_or_else(|| "0".into()), account)
}

/// Every key begins so.
const PREFIX: &str = "atp:memory";
/// SET of all tenants.
pub const TENANTS: &str = "atp:memory:tenants";
/// STREAM number-0 → t (tenant), and p (put) or g (gone) with a version: what changed, for indexes.
pub const FEED: &str = "atp:memory:feed";
/// The number of its last entry.
pub const FEED_AT: &str = "atp:memory:feed:at";
/// Its entries, about: who missed more reads everything anew.
pub const FEED_MAX: u64 = 50_000;
/// What [`FORMAT`] the keys are of.
pub const FORMAT_KEY: &str = "atp:memory:format";
/// Of keys and rows; changes when an older program could no longer read them.
pub const FORMAT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_tenant_reaches_into_the_keys_of_another() {
        let hostile =
            ["a", "a}", "{a", "a}:events", "a:events", "A", "%41", "a%7D", "tenants", "", "é", "a b"];
        let all: Vec<String> = hostile
            .iter()
            .flat_map(|tenant| {
                let Keys { account, entries, values, expiry, paths, versions, events } = Keys::of(tenant);
                [account, entries, values, expiry, paths, versions, events]
            })
            .chain([TENANTS, FEED, FEED_AT, FORMAT_KEY].map(str::to_owned))
            .collect();
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        for key in &all[..all.len() - 4] {
            let braces = key.bytes().filter(|byte| b"{}".contains(byte)).count();
            assert!(key.starts_with("atp:memory:{") && braces == 2, "{key}");
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let entry = Entry { version: 7, created: Wall(1), updated: Wall(u64::MAX), expires: None };
        assert_eq!(entry_of(&entry_row(&entry, 12)), Some((entry, 12)));
        let entry = Entry { expires: Some(Wall(9)), ..entry };
        assert_eq!(entry_of(&entry_row(&entry, 0)), Some((entry, 0)));
        for broken in ["", "1 2 3 4", "a b c d e", "1 2 3 4 -5"] {
            assert_eq!(entry_of(broken), None, "{broken}");
        }
    }
}
