//! Keys of the objects that are being read, to find one that comes twice.

/// A string in a message, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
    pub is_escaped: bool,
}

impl Span {
    #[inline(always)]
    pub fn of(self, message: &[u8]) -> &[u8] {
        &message[self.start as usize..self.end as usize]
    }

    /// One of 64: keys with different bits are different.
    #[inline(always)]
    pub fn bit(self, message: &[u8]) -> u64 {
        let key = self.of(message);
        let (first, last) = (key.first().copied().unwrap_or(0), key.last().copied().unwrap_or(0));
        1 << ((usize::from(first) + 7 * usize::from(last) + 5 * key.len()) & 63)
    }
}

/// A stack of them, the innermost object's last. The first few take no memory from the heap.
#[derive(Default)]
pub(super) struct Keys {
    near: [Span; NEAR],
    far: Vec<Span>,
    length: usize,
}

/// An object whose keys are on the stack.
pub(super) struct Object {
    first: usize,
    pub length: usize,
    bits: u64,
    /// Whether two keys may be the same.
    is_doubtful: bool,
}

impl Keys {
    pub fn begin(&self) -> Object {
        Object { first: self.length, length: 0, bits: 0, is_doubtful: false }
    }

    #[inline(always)]
    pub fn push(&mut self, object: &mut Object, key: Span, message: &[u8]) {
        let bit = key.bit(message);
        if object.bits & bit != 0 || key.is_escaped {
            object.is_doubtful |= self.is_doubtful(object, key, message);
        }
        object.bits |= bit;
        object.length += 1;
        match self.near.get_mut(self.length) {
            Some(near) if self.far.is_empty() => *near = key,
            _ => self.push_far(key),
        }
        self.length += 1;
    }

    /// Among a few keys, whether one is the same; else that it may be.
    fn is_doubtful(&self, object: &Object, key: Span, message: &[u8]) -> bool {
        if key.is_escaped || object.length > FEW || !self.far.is_empty() {
            return true;
        }
        let before = &self.near[object.first..self.length];
        before.iter().any(|before| before.is_escaped || before.of(message) == key.of(message))
    }

    #[cold]
    fn push_far(&mut self, key: Span) {
        if self.far.is_empty() {
            self.far.extend_from_slice(&self.near);
        }
        self.far.push(key);
    }

    /// Whether each key came once. The object is off the stack.
    #[inline(always)]
    pub fn end(&mut self, object: Object, message: &[u8]) -> bool {
        let is_once = !object.is_doubtful || !self.is_any_twice(object.first, message);
        self.length = object.first;
        if !self.far.is_empty() {
            // Nothing was put in the near place since the far one took over.
            self.far.truncate(if self.length <= NEAR { 0 } else { self.length });
        }
        is_once
    }

    /// Sorts, so that no object costs the square of its keys.
    #[cold]
    fn is_any_twice(&mut self, first: usize, message: &[u8]) -> bool {
        let keys =
            if self.far.is_empty() { &mut self.near[first..self.length] } else { &mut self.far[first..] };
        if keys.iter().any(|key| key.is_escaped) {
            let mut keys: Vec<_> = keys.iter().map(|key| key.value(message)).collect();
            keys.sort_unstable();
            return keys.windows(2).any(|pair| pair[0] == pair[1]);
        }
        keys.sort_unstable_by(|one, other| one.of(message).cmp(other.of(message)));
        keys.windows(2).any(|pair| pair[0].of(message) == pair[1].of(message))
    }
}

/// Objects within objects rarely have more together.
const NEAR: usize = 24;

/// Keys a new one is compared with one by one, where that takes less than sorting them all.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of two digits, each four bytes from the next.
    fn message() -> Vec<u8> {
        (0..100).flat_map(|key| format!("{key:02}, ").into_bytes()).collect()
    }

    fn key(number: usize) -> Span {
        Span { start: 4 * number as u32, end: 4 * number as u32 + 2, is_escaped: false }
    }

    /// Whether all of these came once.
    fn once(keys: &mut Keys, numbers: impl IntoIterator<Item = usize>) -> bool {
        let mut object = keys.begin();
        numbers.into_iter().for_each(|number| keys.push(&mut object, key(number), &message()));
        keys.end(object, &message())
    }

    #[test]
    fn a_key_that_comes_twice_is_found_in_objects_of_every_length() {
        for length in 1..100 {
            let mut keys = Keys::default();
            for twice in [0, length / 2, length - 1] {
                assert!(once(&mut keys, 0..length));
                assert!(!once(&mut keys, (0..length).chain([twice])), "{twice} of {length}");
            }
        }
    }

    #[test]
    fn outer_objects_keep_their_keys_while_inner_ones_come_and_go() {
        for before in 1..2 * NEAR {
            for twice in [None, Some(0), Some(before - 1)] {
                let (mut keys, message) = (Keys::default(), message());
                let mut outer = keys.begin();
                (0..before).for_each(|number| keys.push(&mut outer, key(number), &message));
                for inner in [1, NEAR, 40, 2] {
                    // From the back, so that sorting would mix them up with the outer ones.
                    assert!(once(&mut keys, (50..50 + inner).rev()));
                    assert!(!once(&mut keys, (0..inner).rev().chain([0])));
                }
                keys.push(&mut outer, key(twice.unwrap_or(99)), &message);
                assert_eq!(keys.end(outer, &message), twice.is_none(), "{twice:?} of {before}");
            }
        }
    }
}
