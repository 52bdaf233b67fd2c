//! Flags of a frame: a set of known ones in a word, and the list itself where the word does not say it all.

use std::borrow::Cow;

use super::text::Text;

/// A set of known flags; the positions are those of the binary layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlagSet(u16);

impl FlagSet {
    pub const NONE: FlagSet = FlagSet(0);
    /// The receiver has consumed what it names.
    pub const ACK: FlagSet = FlagSet(1);
    /// About the session, not about a stream's content.
    pub const CTRL: FlagSet = FlagSet(1 << 1);
    /// Congestion was met on the way.
    pub const ECN: FlagSet = FlagSet(1 << 2);
    /// Ends in order.
    pub const FIN: FlagSet = FlagSet(1 << 3);
    /// A fragment, in the style that ends with [`FlagSet::LAST`].
    pub const FRAG: FlagSet = FlagSet(1 << 4);
    /// Says that the peer is there.
    pub const HB: FlagSet = FlagSet(1 << 5);
    /// The last of [`FlagSet::FRAG`].
    pub const LAST: FlagSet = FlagSet(1 << 6);
    /// More follows.
    pub const MORE: FlagSet = FlagSet(1 << 7);
    /// Made whole from fragments.
    pub const REASSEMBLED: FlagSet = FlagSet(1 << 8);
    /// Ends at once.
    pub const RST: FlagSet = FlagSet(1 << 9);
    /// Opens.
    pub const SYN: FlagSet = FlagSet(1 << 10);
    /// An adapter says what it can do.
    pub const CAPABILITY: FlagSet = FlagSet(1 << 11);
    /// An adapter says how it is.
    pub const HEALTH: FlagSet = FlagSet(1 << 12);

    pub const fn union(self, other: FlagSet) -> FlagSet {
        FlagSet(self.0 | other.0)
    }

    pub const fn minus(self, other: FlagSet) -> FlagSet {
        FlagSet(self.0 & !other.0)
    }

    pub const fn has(self, other: FlagSet) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    /// `None` where a bit has no meaning yet.
    pub const fn of_bits(bits: u16) -> Option<FlagSet> {
        if bits >> NAMES.len() == 0 { Some(FlagSet(bits)) } else { None }
    }

    /// In the order they are written.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & 1 << bit != 0).map(|(_, name)| name)
    }

    fn of_name(name: &str) -> Option<FlagSet> {
        NAMES.iter().position(|known| *known == name).map(|bit| FlagSet(1 << bit))
    }
}

/// What a frame's `flags` say. Unknown ones, and the order others wrote them in, are kept: signatures cover
/// the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    known: FlagSet,
    /// `None` where the names of `known` are the list.
    listed: Option<Box<[Text]>>,
}

impl Flags {
    pub fn known(&self) -> FlagSet {
        self.known
    }

    pub fn has(&self, flags: FlagSet) -> bool {
        self.known.has(flags)
    }

    /// The list as it came, where it says more than [`Flags::known`].
    pub fn listed(&self) -> Option<&[Text]> {
        self.listed.as_deref()
    }

    pub fn of_list(list: Vec<Text>) -> Flags {
        let known = list.iter().filter_map(|flag| FlagSet::of_name(flag.as_str()));
        let known = known.fold(FlagSet::NONE, FlagSet::union);
        let is_plain = list.iter().map(Text::as_str).eq(known.names());
        Flags { known, listed: (!is_plain).then(|| list.into()) }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        let known = if self.listed.is_some() { FlagSet::NONE } else { self.known };
        let listed = self.listed.iter().flat_map(|listed| listed.iter()).map(Text::as_str);
        listed.chain(known.names().map(|name| -> &str { name }))
    }

    /// Adds known flags behind those that are there.
    pub fn add(&mut self, flags: FlagSet) {
        let new = flags.minus(self.known);
        if let Some(listed) = self.listed.take() {
            *self = Flags::of_list(listed.into_iter().chain(new.names().map(Text::of_static)).collect());
        } else {
            self.known = self.known.union(new);
        }
    }

    pub fn remove(&mut self, flags: FlagSet) {
        let is_gone = |flag: &Text| FlagSet::of_name(flag.as_str()).is_some_and(|flag| flags.has(flag));
        if let Some(listed) = self.listed.take() {
            *self = Flags::of_list(listed.into_iter().filter(|flag| !is_gone(flag)).collect());
        } else {
            self.known = self.known.minus(flags);
        }
    }
}

/// A list that is being read: nothing is taken from the heap while it is the names of a set in their order.
#[derive(Default)]
pub(super) struct FlagsDraft {
    known: FlagSet,
    listed: Option<Vec<Text>>,
    length: usize,
}

impl FlagsDraft {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn push<'a>(&mut self, flag: Cow<'a, [u8]>, share: impl FnOnce(Cow<'a, [u8]>) -> Text) {
        self.length += 1;
        if self.listed.is_none() {
            let bit = NAMES.iter().position(|known| known.as_bytes() == &*flag);
            if let Some(bit) = bit.filter(|bit| self.known.0 >> bit == 0) {
                self.known.0 |= 1 << bit;
                return;
            }
        }
        let known = self.known;
        let listed = self.listed.get_or_insert_with(|| known.names().map(Text::of_static).collect());
        listed.push(share(flag));
    }

    pub fn finish(self) -> Flags {
        self.listed.map_or(self.known.into(), Flags::of_list)
    }
}

impl From<FlagSet> for Flags {
    fn from(known: FlagSet) -> Flags {
        Flags { known, listed: None }
    }
}

/// By position of the bit. New ones go to the end: the positions are on the wire.
const NAMES: [&str; 13] = [
    "ACK",
    "CTRL",
    "ECN",
    "FIN",
    "FRAG",
    "HB",
    "LAST",
    "MORE",
    "REASSEMBLED",
    "RST",
    "SYN",
    "capability",
    "health",
];
