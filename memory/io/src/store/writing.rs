//! One transaction of the file: its rows, which [`super::changes`] reads and writes.

use memory_core::audit::{Hash, Seal, Secret};
use memory_core::entry::Entry;
use memory_core::quota::Charge;
use memory_core::wall::Wall;
use redb::{ReadableTable, Table, WriteTransaction};

use super::account::Account;
use super::changes::{EVENTS_MAX, Put, Rows};
use super::feed::Change;
use super::reading::{Item, entry_of};
use super::tables::{AccountRow, EntryRow, EventRow, ValueRow};
use super::{Fail, tables};

/// The tables, open for writing.
pub struct Writing<'t> {
    tenants: Table<'t, &'static str, AccountRow>,
    entries: Table<'t, (u32, &'static str), EntryRow>,
    values: Table<'t, (u32, u64), ValueRow>,
    expiry: Table<'t, (u32, u64, &'static str), ()>,
    events: Table<'t, (u32, u64), EventRow>,
    secret: Option<&'t Secret>,
    /// What the transaction changed so far.
    pub changes: Vec<Change>,
    /// What of it has no tenant's name yet: whether it came or went, and its version.
    unnamed: Vec<(bool, u64)>,
}

impl<'t> Writing<'t> {
    pub fn open(transaction: &'t WriteTransaction, secret: Option<&'t Secret>) -> Result<Writing<'t>, Fail> {
        Ok(Writing {
            tenants: transaction.open_table(tables::TENANTS)?,
            entries: transaction.open_table(tables::ENTRIES)?,
            values: transaction.open_table(tables::VALUES)?,
            expiry: transaction.open_table(tables::EXPIRY)?,
            events: transaction.open_table(tables::EVENTS)?,
            secret,
            changes: Vec::new(),
            unnamed: Vec::new(),
        })
    }
}

impl Rows for Writing<'_> {
    type Fail = Fail;

    fn account(&self, tenant: &str) -> Result<Account, Fail> {
        if let Some(row) = self.tenants.get(tenant)? {
            return Ok(Account::of_row(row.value()));
        }
        let mut last = 0;
        for row in self.tenants.iter()? {
            last = last.max(Account::of_row(row?.1.value()).id);
        }
        Ok(Account::new(last + 1))
    }

    fn save(&mut self, tenant: &str, account: &Account) -> Result<(), Fail> {
        self.tenants.insert(tenant, account.row())?;
        self.changes.extend(self.unnamed.drain(..).map(|(is_there, version)| match is_there {
            true => Change::Put { tenant: tenant.to_owned(), version },
            false => Change::Gone { tenant: tenant.to_owned(), version },
        }));
        Ok(())
    }

    fn entry(&self, account: &Account, path: &str) -> Result<Option<(Entry, Charge)>, Fail> {
        let row = self.entries.get((account.id, path))?;
        Ok(row.map(|row| (entry_of(row.value()), Charge::of(path, row.value().5))))
    }

    fn item(&self, account: &Account, path: &str, entry: Entry) -> Result<Option<Item>, Fail> {
        let row = self.values.get((account.id, entry.version))?;
        Ok(row.map(|row| Item { path: path.to_owned(), entry, value: row.value().1.to_vec() }))
    }

    fn expired(
        &self,
        account: &Account,
        now: Wall,
        count: usize,
        but: Option<&str>,
    ) -> Result<Vec<(String, Charge)>, Fail> {
        let (id, mut expired) = (account.id, Vec::new());
        // Expired at its very moment, see `Entry::is_live`.
        for row in self.expiry.range((id, 0, "")..(id, now.0.saturating_add(1), ""))? {
            let key = row?.0;
            let path = key.value().2;
            if but == Some(path) {
                continue;
            }
            if expired.len() == count {
                break;
            }
            if let Some((_, charge)) = self.entry(account, path)? {
                expired.push((path.to_owned(), charge));
            }
        }
        Ok(expired)
    }

    fn put_in(&mut self, account: &mut Account, path: &str, entry: &Entry, put: &Put) -> Result<(), Fail> {
        let Entry { version, created, updated, expires } = *entry;
        let (id, bytes) = (account.id, put.value.len() as u64);
        let row = (version, created.0, updated.0, expires.map_or(0, |expires| expires.0), 0, bytes);
        self.entries.insert((id, path), row)?;
        self.values.insert((id, version), (path, put.value.as_slice()))?;
        if let Some(expires) = expires {
            self.expiry.insert((id, expires.0, path), ())?;
        }
        account.usage = account.usage.with(None, Charge::of(path, bytes));
        self.unnamed.push((true, version));
        Ok(())
    }

    fn take_out(&mut self, account: &mut Account, path: &str) -> Result<bool, Fail> {
        let id = account.id;
        let Some((entry, bytes)) = self.entries.remove((id, path))?.map(|row| {
            let row = row.value();
            (entry_of(row), row.5)
        }) else {
            return Ok(false);
        };
        if let Some(expires) = entry.expires {
            self.expiry.remove((id, expires.0, path))?;
        }
        self.values.remove((id, entry.version))?;
        account.usage = account.usage.without(Charge::of(path, bytes));
        self.unnamed.push((false, entry.version));
        Ok(true)
    }

    fn keep(
        &mut self,
        account: &mut Account,
        number: u64,
        hash: &Hash,
        seal: Option<&Seal>,
        canonical: &str,
    ) -> Result<(), Fail> {
        let seal = seal.map_or(&[][..], |seal| seal);
        self.events.insert((account.id, number), (hash, seal, canonical))?;
        while account.chain.next - account.anchor.next > EVENTS_MAX {
            let first = account.anchor.next;
            let gone = self.events.remove((account.id, first))?.map(|row| *row.value().0);
            account.anchor.next = first + 1;
            account.anchor.head = gone.or(account.anchor.head);
        }
        Ok(())
    }

    fn secret(&self) -> Option<&Secret> {
        self.secret
    }
}
