//! What of a text is compared with other texts: the bag of its words, the set of its words, and its findings
//! where it is a list of those. Made once, when an answer is whole.
//!
//! Two texts are *the same* where their bags have a cosine of 0.85 or more. It sees words, not meaning: a
//! long text with one number changed is the same, a short one in other words is not. Lists of findings are
//! compared one by one ([`super::finding`]).
//!
//! Existing peers fold the words into 128 dimensions. Not done here: "blue" and "red" would agree wherever
//! two hashes do in seven bits, and short answers are those where consensus is asked for most.

use super::finding::Findings;
use super::share::Share;

#[derive(Debug)]
pub struct Sketch {
    bag: Bag,
    /// FNV-1a of each word in lower case, punctuation and all; sorted, each once.
    words: Box<[u64]>,
    findings: Option<Findings>,
}

/// The words of a text, and how often each comes.
#[derive(Debug)]
pub struct Bag {
    /// FNV-1a of each token and how often it comes, sorted.
    counts: Box<[(u64, u32)]>,
    /// The square of the bag's length.
    square: u64,
    /// All counts together, and the largest: they bound the product with any other bag.
    sum: u64,
    max: u64,
    /// Of the text as it is: what has no word in it is the same as itself only.
    whole: u64,
}

/// How much alike two answers are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Likeness {
    pub is_same: bool,
    /// Words in common, of the words of both (Jaccard); of findings their agreement.
    pub overlap: Share,
}

impl Sketch {
    pub fn of(text: &str) -> Sketch {
        let mut words: Vec<u64> = text.split_whitespace().map(lower_hash).collect();
        words.sort_unstable();
        words.dedup();
        Sketch { bag: Bag::of(text), words: words.into(), findings: Findings::of(text) }
    }

    /// The same whichever is asked about the other.
    pub fn likeness(&self, other: &Sketch) -> Likeness {
        if let (Some(own), Some(others)) = (&self.findings, &other.findings) {
            return own.likeness(others);
        }
        Likeness { is_same: self.bag.is_same(&other.bag), overlap: self.jaccard(other) }
    }

    pub fn findings(&self) -> Option<&Findings> {
        self.findings.as_ref()
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.bag.counts) + size_of_val(&*self.words)
    }

    /// |words of both| / |words of either|; of two texts without words 1.
    pub fn jaccard(&self, other: &Sketch) -> Share {
        overlap(&self.words, &other.words)
    }
}

impl Bag {
    pub fn of(text: &str) -> Bag {
        let mut tokens = Vec::new();
        each_token(text, |hash| tokens.push(hash));
        tokens.sort_unstable();
        let same = tokens.chunk_by(|one, next| one == next);
        let counts: Box<[(u64, u32)]> = same.map(|run| (run[0], run.len() as u32)).collect();
        let each = || counts.iter().map(|(_, count)| u64::from(*count));
        let (square, max) = (each().map(|count| count.pow(2)).sum(), each().max().unwrap_or(0));
        Bag { square, sum: tokens.len() as u64, max, counts, whole: hash_of(text.bytes()) }
    }

    /// Each token and how often it comes, sorted.
    pub(super) fn counts(&self) -> &[(u64, u32)] {
        &self.counts
    }

    /// Of its length; zero: there is no word in it.
    pub(super) fn square(&self) -> u64 {
        self.square
    }

    /// The cosine of both; of what has no words 1 with itself, else 0.
    pub fn cosine(&self, other: &Bag) -> f64 {
        match self.square.saturating_mul(other.square) {
            0 => f64::from(u8::from(self.whole == other.whole)),
            _ => self.dot(other) as f64 / ((self.square as f64).sqrt() * (other.square as f64).sqrt()),
        }
    }

    /// Whether the cosine reaches `SAME_COSINE`: in whole numbers, since a comparison at the edge must not
    /// depend on how a root was rounded.
    pub fn is_same(&self, other: &Bag) -> bool {
        if self.square == 0 || other.square == 0 {
            return self.whole == other.whole;
        }
        let is_enough = |dot: u64| is_enough(dot, self.square, other.square);
        // Most pairs differ, and most of those in length already.
        let dot_max = (self.sum * other.max).min(other.sum * self.max);
        is_enough(dot_max) && is_enough(self.dot(other))
    }

    fn dot(&self, other: &Bag) -> u64 {
        let (few, many) = match self.counts.len() <= other.counts.len() {
            true => (&self.counts, &other.counts),
            false => (&other.counts, &self.counts),
        };
        let mut rest = &many[..];
        let product = |(token, count): &(u64, u32)| {
            // Doubling steps: a sentence against a page, and a page against a page, are both quick.
            let mut step = 1;
            while step < rest.len() && rest[step].0 < *token {
                step *= 2;
            }
            let from = step / 2;
            let near = &rest[from..(step + 1).min(rest.len())];
            rest = &rest[from + near.partition_point(|(others, _)| others < token)..];
            let times = rest.first().filter(|(others, _)| others == token).map_or(0, |(_, times)| *times);
            u64::from(*count) * u64::from(times)
        };
        few.iter().map(product).sum()
    }
}

/// Whether the cosine of two bags with this product and these squares reaches `SAME_COSINE`.
pub(super) fn is_enough(dot: u64, square: u64, other: u64) -> bool {
    let (part, whole) = SAME_COSINE;
    u128::from(dot).pow(2) * whole * whole >= u128::from(square) * u128::from(other) * part * part
}

/// What two sorted lists, each without a repetition, have in common; of two empty ones all.
pub(super) fn overlap<T: Ord>(one: &[T], other: &[T]) -> Share {
    let (mut left, mut right, mut common) = (0, 0, 0);
    while left < one.len() && right < other.len() {
        let order = one[left].cmp(&other[right]);
        left += usize::from(order.is_le());
        right += usize::from(order.is_ge());
        common += u64::from(order.is_eq());
    }
    match (one.len() + other.len()) as u64 - common {
        0 => Share { part: 1, whole: 1 },
        either => Share { part: common, whole: either },
    }
}

/// Runs of letters and digits in lower case, each ideograph and kana for itself, since nothing stands
/// between those.
fn each_token(text: &str, mut each: impl FnMut(u64)) {
    let mut hash = None;
    for letter in text.chars() {
        let is_alone = is_ideograph(letter);
        if (is_alone || !letter.is_alphanumeric())
            && let Some(word) = hash.take()
        {
            each(word);
        }
        if is_alone {
            each(add_letter(FNV_OFFSET, letter));
        } else if letter.is_alphanumeric() {
            hash = Some(add_letter(hash.unwrap_or(FNV_OFFSET), letter));
        }
    }
    if let Some(word) = hash {
        each(word);
    }
}

fn add_letter(hash: u64, letter: char) -> u64 {
    if letter.is_ascii() {
        return add_byte(hash, letter.to_ascii_lowercase() as u8);
    }
    letter.to_lowercase().fold(hash, |hash, lower| {
        let mut bytes = [0; 4];
        lower.encode_utf8(&mut bytes).bytes().fold(hash, add_byte)
    })
}

fn lower_hash(word: &str) -> u64 {
    word.chars().fold(FNV_OFFSET, add_letter)
}

pub(super) fn hash_of(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(FNV_OFFSET, add_byte)
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn add_byte(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
}

fn is_ideograph(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// 0.85, above which existing peers take two answers for one.
const SAME_COSINE: (u128, u128) = (17, 20);

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn likeness(one: &str, other: &str) -> Likeness {
        Sketch::of(one).likeness(&Sketch::of(other))
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash_of(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_of(b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash_of(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn case_and_punctuation_do_not_count_and_words_do() {
        assert!(likeness("The sky is blue.", "the sky, is BLUE").is_same);
        assert!(!likeness("The sky is blue.", "The sky is green.").is_same, "3 of 4 words: a cosine of 0.75");
        let (one, other) = (Sketch::of("The sky is blue"), Sketch::of("the sky is green"));
        assert!((one.bag.cosine(&other.bag) - 0.75).abs() < 1e-9);
        assert_eq!(one.jaccard(&other), Share { part: 3, whole: 5 });
    }

    #[test]
    fn six_words_of_seven_are_enough_and_five_of_six_are_not() {
        assert!(likeness("one two three four five six seven", "one two three four five six eight").is_same);
        assert!(!likeness("one two three four five six", "one two three four five seven").is_same);
    }

    #[test]
    fn what_has_no_word_is_the_same_as_itself_only() {
        assert!(likeness("!!!", "!!!").is_same);
        assert!(!likeness("!!!", "???").is_same);
        assert!(!likeness("", "word").is_same);
        assert_eq!(likeness("", "").overlap, Share { part: 1, whole: 1 });
    }

    #[test]
    fn ideographs_count_one_by_one() {
        assert!(likeness("天空是蓝色的因为散射", "天空是蓝色的因为散射。").is_same);
        assert!(!likeness("天空是蓝色的", "大海很深很冷").is_same);
        assert!(likeness("天空是蓝色的因为光的散射", "天空是蓝色的因为光线的散射").is_same);
    }

    /// The definition, without a shortcut.
    fn slow_dot(one: &Bag, other: &Bag) -> u64 {
        let times = |token: u64| other.counts.iter().find(|(own, _)| *own == token).map_or(0, |own| own.1);
        one.counts.iter().map(|(token, count)| u64::from(*count) * u64::from(times(*token))).sum()
    }

    proptest! {
        #[test]
        fn the_product_is_that_of_the_definition(one in "([a-m]{1,2} ){0,60}", other in "([a-m] ){0,9}") {
            let (one, other) = (Bag::of(&one), Bag::of(&other));
            prop_assert_eq!(one.dot(&other), slow_dot(&one, &other));
            prop_assert_eq!(other.dot(&one), slow_dot(&one, &other));
            prop_assert!(one.dot(&other) <= (one.sum * other.max).min(other.sum * one.max));
        }

        #[test]
        fn likeness_is_the_same_both_ways_and_whole_with_itself(one in ".{0,80}", other in ".{0,80}") {
            let (there, back) = (likeness(&one, &other), likeness(&other, &one));
            prop_assert_eq!(there.is_same, back.is_same);
            prop_assert_eq!(there.overlap, back.overlap);
            prop_assert!(likeness(&one, &one).is_same);
            prop_assert_eq!(likeness(&one, &one).overlap, Share { part: 1, whole: 1 });
        }

        #[test]
        fn the_same_means_a_cosine_of_085(one in "([a-f] ){0,12}", other in "([a-f] ){0,12}") {
            let (left, right) = (Bag::of(&one), Bag::of(&other));
            let cosine = left.cosine(&right);
            prop_assume!((cosine - 0.85).abs() > 1e-9 && left.square > 0 && right.square > 0);
            prop_assert_eq!(left.is_same(&right), cosine > 0.85);
        }
    }
}
