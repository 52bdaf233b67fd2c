//! What a tenant may store, and what it does: counted to the byte, before anything is written. A write that
//! does not fit first takes the place of what has expired; what still lives is never thrown away for it.

/// What one item takes of a quota: the bytes of its path and of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Charge(pub u64);

impl Charge {
    pub fn of(path: &str, value_bytes: u64) -> Charge {
        Charge(value_bytes.saturating_add(path.len() as u64))
    }
}

/// The most a tenant may have stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub items_max: u64,
    pub bytes_max: u64,
}

/// What a tenant has stored, expired items included until they are evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub items: u64,
    pub bytes: u64,
}

/// A write that fits.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    /// With the item stored and the evicted ones gone.
    pub usage: Usage,
    /// How many of the expired items make way, in the order they were given.
    pub evicted: usize,
}

/// A write that does not, whatever makes way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaFault {
    #[error("this tenant may store {items_max} items; delete some, or let them expire sooner")]
    Items { items_max: u64 },
    #[error(
        "this tenant may store {bytes_max} bytes and {bytes} would be; delete some, or let them expire sooner"
    )]
    Bytes { bytes: u64, bytes_max: u64 },
}

impl Usage {
    /// Counts a new item, or one that takes the place of another.
    #[must_use]
    pub fn with(self, replaced: Option<Charge>, stored: Charge) -> Usage {
        let left = replaced.map_or(self, |replaced| self.without(replaced));
        Usage { items: left.items.saturating_add(1), bytes: left.bytes.saturating_add(stored.0) }
    }

    /// Counts an item that is gone: deleted, or evicted.
    #[must_use]
    pub fn without(self, gone: Charge) -> Usage {
        debug_assert!(self.items >= 1 && self.bytes >= gone.0, "what goes was counted when it came");
        Usage { items: self.items.saturating_sub(1), bytes: self.bytes.saturating_sub(gone.0) }
    }

    /// Whether an item may be written, and what makes way for it. `expired`: charges of expired items, those
    /// that expired first in front, without the one at the written place; taken only as far as needed.
    pub fn admit(
        self,
        quota: Quota,
        replaced: Option<Charge>,
        stored: Charge,
        expired: impl IntoIterator<Item = Charge>,
    ) -> Result<Admitted, QuotaFault> {
        let mut admitted = Admitted { usage: self.with(replaced, stored), evicted: 0 };
        let mut expired = expired.into_iter();
        loop {
            let Some(fault) = quota.exceeded(admitted.usage) else { return Ok(admitted) };
            let Some(gone) = expired.next() else { return Err(fault) };
            admitted.usage = admitted.usage.without(gone);
            admitted.evicted += 1;
        }
    }
}

impl Quota {
    fn exceeded(self, usage: Usage) -> Option<QuotaFault> {
        let Quota { items_max, bytes_max } = self;
        if usage.items > items_max {
            return Some(QuotaFault::Items { items_max });
        }
        (usage.bytes > bytes_max).then_some(QuotaFault::Bytes { bytes: usage.bytes, bytes_max })
    }
}

#[cfg(test)]
mod tests;
