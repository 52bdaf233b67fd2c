//! What happens when, in order. Of two events of one moment the one noted first comes first, so that a run is
//! the same every time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use proto_core::units::Moment;

pub struct Agenda<E> {
    now: Moment,
    noted: u64,
    entries: BinaryHeap<Entry<E>>,
}

struct Entry<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Agenda<E> {
        Agenda { now: Moment(0), noted: 0, entries: BinaryHeap::new() }
    }
}

impl<E> Agenda<E> {
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Nothing happens in the past: an earlier moment is now.
    pub fn note(&mut self, at: Moment, event: E) {
        self.noted += 1;
        self.entries.push(Entry { at: at.max(self.now), number: self.noted, event });
    }

    /// The next event up to and with `end`; the clock goes there, or to `end` where there is none.
    pub fn next(&mut self, end: Moment) -> Option<E> {
        if self.entries.peek().is_none_or(|entry| entry.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let entry = self.entries.pop().expect("it was peeked at");
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest, which a heap gives first.
    fn cmp(&self, other: &Entry<E>) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_when_they_were_noted_and_not_past_the_end() {
        let mut agenda = Agenda::default();
        [(5, 'c'), (3, 'a'), (5, 'd'), (3, 'b'), (9, 'e')]
            .into_iter()
            .for_each(|(at, what)| agenda.note(Moment(at), what));
        let seen: String = std::iter::from_fn(|| agenda.next(Moment(8))).collect();
        assert_eq!((seen.as_str(), agenda.now()), ("abcd", Moment(8)));
        agenda.note(Moment(1), 'f');
        assert_eq!((agenda.next(Moment(9)), agenda.now()), (Some('f'), Moment(8)));
    }
}
