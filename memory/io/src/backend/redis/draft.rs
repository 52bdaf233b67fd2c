//! Changes of one tenant before they are made: the rows they look at, as of one turn, and the steps that make
//! them. [`crate::store::changes`] decides over it as over the rows of the file.

use std::collections::HashMap;
use std::convert::Infallible;

use memory_core::audit::{Hash, Seal, Secret};
use memory_core::entry::Entry;
use memory_core::quota::Charge;
use memory_core::wall::Wall;
use redis::ScriptInvocation;

use super::keys::{self, AccountRow, FEED_MAX};
use crate::store::account::Account;
use crate::store::changes::{EVENTS_MAX, Put, Rows};
use crate::store::reading::Item;

/// What changes need to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub paths: Vec<String>,
    /// Of which of them the value too.
    pub values: Vec<String>,
    pub expired: bool,
    /// That it may write.
    pub bytes: usize,
}

/// As the script tells it: the time, the account, entries and values of the paths in their order, then what
/// has expired, paths and entries.
pub type Loaded =
    (u64, AccountRow, Vec<Option<String>>, Vec<Option<Vec<u8>>>, Vec<String>, Vec<Option<String>>);

/// The rows, and what is to become of them.
#[derive(Debug)]
pub struct Draft<'s> {
    pub now: Wall,
    turn: String,
    account: Account,
    entries: HashMap<String, Option<(Entry, u64)>>,
    values: HashMap<String, Vec<u8>>,
    /// The earliest first; `None`: they were not asked for.
    expired: Option<Vec<String>>,
    /// A change would have liked to see them.
    lacked_expired: bool,
    steps: Vec<Step>,
    secret: Option<&'s Secret>,
}

#[derive(Debug)]
enum Step {
    Put { path: String, entry: Entry, value: Vec<u8> },
    Take { path: String, version: u64 },
    Log { number: u64, hash: Hash, seal: Option<Seal>, event: String },
}

impl<'s> Draft<'s> {
    /// `None`: a row is none of ours.
    pub fn of(needs: &Needs, loaded: Loaded, secret: Option<&'s Secret>) -> Option<Draft<'s>> {
        let (now, account, rows, values, expired, stood) = loaded;
        let (turn, account) = keys::account_of(account);
        let mut entries = HashMap::new();
        let paths = needs.paths.iter().cloned().chain(expired.iter().cloned());
        for (path, row) in paths.zip(rows.into_iter().chain(stood)) {
            let entry = match row {
                Some(row) => Some(keys::entry_of(&row)?),
                None => None,
            };
            entries.insert(path, entry);
        }
        let with_value = needs.values.iter().cloned().zip(values);
        let values = with_value.filter_map(|(path, value)| Some((path, value?))).collect();
        let expired = needs.expired.then_some(expired);
        let (steps, lacked_expired) = (Vec::new(), false);
        Some(Draft { now: Wall(now), turn, account, entries, values, expired, lacked_expired, steps, secret })
    }

    /// Says that a change failed for what might have made way.
    pub fn lack_expired(&mut self) {
        self.lacked_expired |= self.expired.is_none();
    }

    pub fn lacks_expired(&self) -> bool {
        self.lacked_expired
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// As the script that makes it all takes it.
    pub fn write(&self, tenant: &str, call: &mut ScriptInvocation<'_>) {
        let usage = self.account.usage;
        call.arg(&self.turn).arg(tenant).arg(EVENTS_MAX).arg(usage.items).arg(usage.bytes).arg(FEED_MAX);
        for step in &self.steps {
            match step {
                Step::Put { path, entry, value } => {
                    let row = keys::entry_row(entry, value.len() as u64);
                    let expires = entry.expires.map_or(String::new(), |expires| expires.0.to_string());
                    call.arg("put").arg(path).arg(row).arg(value.as_slice()).arg(entry.version).arg(expires);
                }
                Step::Take { path, version } => {
                    call.arg("take").arg(path).arg(version);
                }
                Step::Log { number, hash, seal, event } => {
                    let seal = seal.as_ref().map_or(&[][..], |seal| seal);
                    call.arg("log").arg(number).arg(&hash[..]).arg(seal).arg(event);
                }
            }
        }
    }
}

impl Rows for Draft<'_> {
    type Fail = Infallible;

    fn account(&self, _: &str) -> Result<Account, Infallible> {
        Ok(self.account)
    }

    fn save(&mut self, _: &str, account: &Account) -> Result<(), Infallible> {
        self.account = *account;
        Ok(())
    }

    fn entry(&self, _: &Account, path: &str) -> Result<Option<(Entry, Charge)>, Infallible> {
        let entry = self.entries.get(path).expect("a change says beforehand which paths it looks at");
        Ok(entry.map(|(entry, bytes)| (entry, Charge::of(path, bytes))))
    }

    fn item(&self, _: &Account, path: &str, entry: Entry) -> Result<Option<Item>, Infallible> {
        let value = self.values.get(path).cloned();
        Ok(value.map(|value| Item { path: path.to_owned(), entry, value }))
    }

    fn expired(
        &self,
        _: &Account,
        now: Wall,
        count: usize,
        but: Option<&str>,
    ) -> Result<Vec<(String, Charge)>, Infallible> {
        // Without those that an earlier change of the same draft took out or wrote anew.
        let still = |path: &&String| {
            let entry = self.entries.get(*path).copied().flatten();
            but != Some(path.as_str()) && entry.is_some_and(|(entry, _)| !entry.is_live(now))
        };
        let expired = self.expired.iter().flatten().filter(still).take(count);
        let charged = expired.filter_map(|path| {
            let (_, bytes) = self.entries.get(path).copied().flatten()?;
            Some((path.clone(), Charge::of(path, bytes)))
        });
        Ok(charged.collect())
    }

    fn put_in(
        &mut self,
        account: &mut Account,
        path: &str,
        entry: &Entry,
        put: &Put,
    ) -> Result<(), Infallible> {
        let bytes = put.value.len() as u64;
        self.entries.insert(path.to_owned(), Some((*entry, bytes)));
        // A reading behind this change in the same draft finds what it put.
        self.values.insert(path.to_owned(), put.value.clone());
        self.steps.push(Step::Put { path: path.to_owned(), entry: *entry, value: put.value.clone() });
        account.usage = account.usage.with(None, Charge::of(path, bytes));
        Ok(())
    }

    fn take_out(&mut self, account: &mut Account, path: &str) -> Result<bool, Infallible> {
        let Some((entry, bytes)) = self.entries.insert(path.to_owned(), None).flatten() else {
            return Ok(false);
        };
        self.values.remove(path);
        self.steps.push(Step::Take { path: path.to_owned(), version: entry.version });
        account.usage = account.usage.without(Charge::of(path, bytes));
        Ok(true)
    }

    /// The oldest goes where the step is taken.
    fn keep(
        &mut self,
        _: &mut Account,
        number: u64,
        hash: &Hash,
        seal: Option<&Seal>,
        canonical: &str,
    ) -> Result<(), Infallible> {
        let event = canonical.to_owned();
        self.steps.push(Step::Log { number, hash: *hash, seal: seal.copied(), event });
        Ok(())
    }

    fn secret(&self) -> Option<&Secret> {
        self.secret
    }
}
