//! Values under small numbers that stay theirs, so that heaps and lists can point at them. Never shrinks;
//! grows by an eighth, so that unused room is an eighth and not a half.

use std::ops::{Index, IndexMut};

pub(super) struct Slab<V> {
    entries: Vec<Entry<V>>,
    free: u32,
    len: u32,
}

pub(super) enum Entry<V> {
    Held(V),
    /// The next free one, or [`NONE`].
    Free(u32),
}

impl<V> Slab<V> {
    pub fn new() -> Slab<V> {
        Slab { entries: Vec::new(), free: NONE, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn insert(&mut self, value: V) -> u32 {
        self.len += 1;
        if self.free != NONE {
            let at = self.free;
            let entry = &mut self.entries[at as usize];
            if let Entry::Free(next) = entry {
                self.free = *next;
            }
            *entry = Entry::Held(value);
            return at;
        }
        let at = u32::try_from(self.entries.len()).expect("the queue's limits are far below 2^32");
        grow(&mut self.entries);
        self.entries.push(Entry::Held(value));
        at
    }

    pub fn remove(&mut self, at: u32) -> V {
        let entry = std::mem::replace(&mut self.entries[at as usize], Entry::Free(self.free));
        self.free = at;
        self.len -= 1;
        match entry {
            Entry::Held(value) => value,
            Entry::Free(_) => unreachable!("only what is held is removed"),
        }
    }

    pub fn find(&self, at: u32) -> Option<&V> {
        match self.entries.get(at as usize) {
            Some(Entry::Held(value)) => Some(value),
            _ => None,
        }
    }

    /// All that are held, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| match entry {
            Entry::Held(value) => Some((u32::try_from(at).ok()?, value)),
            Entry::Free(_) => None,
        })
    }
}

impl<V> Index<u32> for Slab<V> {
    type Output = V;
    fn index(&self, at: u32) -> &V {
        self.find(at).expect("a number is kept only while its value is")
    }
}

impl<V> IndexMut<u32> for Slab<V> {
    fn index_mut(&mut self, at: u32) -> &mut V {
        match self.entries.get_mut(at as usize) {
            Some(Entry::Held(value)) => value,
            _ => unreachable!("a number is kept only while its value is"),
        }
    }
}

/// Room for one more, an eighth at a time.
pub(super) fn grow<V>(entries: &mut Vec<V>) {
    if entries.len() == entries.capacity() {
        entries.reserve_exact((entries.len() / 8).max(GROWTH_MIN));
    }
}

pub(super) const NONE: u32 = u32::MAX;
/// A queue of a few is common, and need not grow one by one.
const GROWTH_MIN: usize = 16;
