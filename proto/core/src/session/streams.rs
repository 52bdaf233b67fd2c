//! The streams of a session: found by key and by id, and who is next to send.

use std::collections::VecDeque;

use super::event::StreamKey;
use super::stream::{Ready, Stream};

#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Slot>,
    /// Slots in use, by the id of their stream.
    by_id: Vec<u32>,
    free: Vec<u32>,
    /// Those that have something to say and nobody knows, the longest waiting first.
    ready: VecDeque<u32>,
    ours: usize,
}

#[derive(Debug)]
struct Slot {
    /// Counts the streams that were here.
    generation: u32,
    stream: Option<Box<Stream>>,
}

impl Streams {
    /// The caller has looked whether the id is in use.
    pub fn insert(&mut self, stream: Stream) -> StreamKey {
        let place = self.place(stream.id.as_str()).expect_err("an id is in use once");
        self.ours += usize::from(stream.is_ours);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, stream: None });
            u32::try_from(self.slots.len() - 1).expect("streams are bounded")
        });
        self.by_id.insert(place, slot);
        let entry = &mut self.slots[slot as usize];
        entry.stream = Some(Box::new(stream));
        StreamKey { slot, generation: entry.generation }
    }

    pub fn remove(&mut self, key: StreamKey) -> Option<Box<Stream>> {
        let place = self.place(self.get(key)?.id.as_str()).ok()?;
        self.by_id.remove(place);
        self.ready.retain(|slot| *slot != key.slot);
        let entry = &mut self.slots[key.slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        let stream = entry.stream.take()?;
        self.ours -= usize::from(stream.is_ours);
        Some(stream)
    }

    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.stream.as_deref() } else { None }
    }

    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.stream.as_deref_mut() } else { None }
    }

    pub fn find(&self, id: &str) -> Option<StreamKey> {
        self.place(id).ok().map(|at| self.key(self.by_id[at]))
    }

    pub fn keys(&self) -> Vec<StreamKey> {
        self.by_id.iter().map(|slot| self.key(*slot)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.by_id.iter().filter_map(|slot| self.slots[*slot as usize].stream.as_deref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter_map(|slot| slot.stream.as_deref_mut())
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn count(&self, is_ours: bool) -> usize {
        if is_ours { self.ours } else { self.by_id.len() - self.ours }
    }

    /// It has something to say.
    pub fn wake(&mut self, key: StreamKey) {
        let Some(stream) = self.get_mut(key) else { return };
        if stream.ready == Ready::No {
            stream.ready = Ready::Queued;
            self.ready.push_back(key.slot);
        }
    }

    /// The one that has waited longest; nobody is told of it again until it is put back or woken.
    pub fn pop_ready(&mut self) -> Option<StreamKey> {
        let slot = self.ready.pop_front()?;
        let key = self.key(slot);
        if let Some(stream) = self.get_mut(key) {
            stream.ready = Ready::Told;
        }
        Some(key)
    }

    /// It was polled: empty, or with more to say, behind the others.
    pub fn put_back(&mut self, key: StreamKey, has_more: bool) {
        let Some(stream) = self.get_mut(key) else { return };
        stream.ready = Ready::No;
        if has_more {
            self.wake(key);
        }
    }

    pub fn clear_ready(&mut self) {
        self.ready.clear();
    }

    pub fn compact(&mut self) {
        self.iter_mut().for_each(Stream::compact);
        self.ready.shrink_to_fit();
        self.free.shrink_to_fit();
        self.by_id.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let lists = self.by_id.capacity() + self.free.capacity() + self.ready.capacity();
        let streams: usize = self.iter().map(Stream::bytes).sum();
        lists * size_of::<u32>() + self.slots.capacity() * size_of::<Slot>() + streams
    }

    fn key(&self, slot: u32) -> StreamKey {
        StreamKey { slot, generation: self.slots[slot as usize].generation }
    }

    fn place(&self, id: &str) -> Result<usize, usize> {
        let id_of = |slot: u32| self.slots[slot as usize].stream.as_deref().map_or("", |one| one.id.as_str());
        self.by_id.binary_search_by(|slot| id_of(*slot).cmp(id))
    }
}
