//! What a search finds: words of an item's texts, and how much each says about it (Okapi BM25: Robertson and
//! Zaragoza, The Probabilistic Relevance Framework, 2009, equation 3.15). Keeps no index; it says what
//! belongs into one.

use std::collections::BTreeMap;

use serde_json::Value;

/// The words of one item, each with how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    pub counts: BTreeMap<String, u32>,
    /// All occurrences together.
    pub total: u64,
}

impl Words {
    /// Of every text in a value; names of fields are its shape, not its text. The first [`WORDS_MAX`]
    /// different ones.
    pub fn of(value: &Value) -> Words {
        let mut words = Words::default();
        words.take_value(value);
        words
    }

    /// Of a question.
    pub fn of_text(text: &str) -> Words {
        let mut words = Words::default();
        words.take_text(text);
        words
    }

    /// Recursion is as deep as the value; serde_json reads at most 128 levels.
    fn take_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.take_text(text),
            Value::Number(number) => self.take_text(&number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| self.take_value(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.take_value(field)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn take_text(&mut self, text: &str) {
        let mut word = String::new();
        for one in text.chars() {
            if is_word_alone(one) {
                self.take(&mut word);
                word.push(one);
                self.take(&mut word);
            } else if one.is_alphanumeric() {
                word.extend(one.to_lowercase());
            } else {
                self.take(&mut word);
            }
        }
        self.take(&mut word);
    }

    /// Takes a word in and leaves the place empty.
    fn take(&mut self, word: &mut String) {
        if word.is_empty() {
            return;
        }
        let has_room = self.counts.len() < WORDS_MAX;
        if word.len() <= WORD_BYTES_MAX && (has_room || self.counts.contains_key(word)) {
            let count = self.counts.entry(std::mem::take(word)).or_default();
            *count = count.saturating_add(1);
            self.total += 1;
        }
        word.clear();
    }
}

/// All items of a tenant together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corpus {
    pub items: u64,
    /// Occurrences in all of them.
    pub words: u64,
}

/// How much one word of a question says about one item. `occurs`: how often it stands in the item, whose
/// words are `item_words` together; `items_with`: how many items have it. Never negative.
pub fn weight(corpus: Corpus, items_with: u64, occurs: u32, item_words: u64) -> f64 {
    if occurs == 0 || corpus.items == 0 {
        return 0.0;
    }
    let (items, with) = (corpus.items as f64, items_with.min(corpus.items) as f64);
    // Plus one inside the logarithm, so that a word most items have still counts for a little.
    let rarity = ((items - with + 0.5) / (with + 0.5) + 1.0).ln();
    let mean = (corpus.words as f64 / items).max(1.0);
    let occurs = f64::from(occurs);
    let saturation = SATURATION * (1.0 - LENGTH_SHARE + LENGTH_SHARE * item_words as f64 / mean);
    rarity * occurs * (SATURATION + 1.0) / (occurs + saturation)
}

/// Scripts written without blanks, where each character is looked for by itself: Chinese, Japanese and Korean
/// ideographs, kana.
fn is_word_alone(one: char) -> bool {
    let blocks =
        ['\u{3040}'..='\u{30ff}', '\u{3400}'..='\u{4dbf}', '\u{4e00}'..='\u{9fff}', '\u{f900}'..='\u{faff}'];
    blocks.iter().any(|block| block.contains(&one))
}

/// k₁ and b of the formula; the values it is mostly used with.
const SATURATION: f64 = 1.2;
const LENGTH_SHARE: f64 = 0.75;
/// Different words of one item that can be searched for. A long document has about as many; each costs a row.
pub const WORDS_MAX: usize = 2000;
/// Longer ones are data, not words.
pub const WORD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        Words::of_text(text).counts.into_keys().collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_whatever_their_case() {
        assert_eq!(words("The cat's  HAT, cat_2!"), ["2", "cat", "hat", "s", "the"]);
        assert_eq!(words("Über ÜBER"), ["über"]);
        assert_eq!(words("東京 abc"), ["abc", "京", "東"]);
        assert_eq!(words(" .,;"), [""; 0]);
    }

    #[test]
    fn an_items_words_are_those_of_its_texts_and_not_of_its_names() {
        let found =
            Words::of(&json!({"name": "blue sky", "list": ["sky", 42, true, null], "deep": {"a": "x"}}));
        let expected = [("42", 1), ("blue", 1), ("sky", 2), ("x", 1)];
        assert_eq!(found.counts, expected.map(|(word, count)| (word.to_owned(), count)).into());
        assert_eq!(found.total, 5);
    }

    #[test]
    fn words_past_the_bounds_are_not_taken_and_those_known_still_count() {
        let many: Vec<String> = (0..=WORDS_MAX).map(|one| format!("w{one}")).collect();
        let found = Words::of_text(&format!("{} w0", many.join(" ")));
        assert_eq!(found.counts.len(), WORDS_MAX);
        assert_eq!((found.counts["w0"], found.total), (2, WORDS_MAX as u64 + 1));
        let edge = "x".repeat(WORD_BYTES_MAX);
        assert_eq!(words(&format!("{edge} {edge}x")), [edge]);
    }

    #[test]
    fn a_rare_word_says_more_than_a_common_one_and_a_short_item_more_than_a_long_one() {
        let corpus = Corpus { items: 100, words: 10_000 };
        let of = |items_with, occurs, length| weight(corpus, items_with, occurs, length);
        assert!(of(1, 1, 100) > of(50, 1, 100) && of(50, 1, 100) > of(100, 1, 100));
        assert!(of(100, 1, 100) > 0.0);
        assert!(of(5, 2, 100) > of(5, 1, 100) && of(5, 2, 100) < 2.0 * of(5, 1, 100));
        assert!(of(5, 1, 10) > of(5, 1, 1000));
        assert_eq!(of(5, 0, 100), 0.0);
        assert_eq!(weight(Corpus { items: 0, words: 0 }, 0, 1, 1), 0.0);
    }

    #[test]
    fn the_weight_is_that_of_the_formula() {
        // ln(1 + (10 - 2 + 0.5) / (2 + 0.5)) * 3 * 2.2 / (3 + 1.2 * (0.25 + 0.75 * 20 / 40))
        let found = weight(Corpus { items: 10, words: 400 }, 2, 3, 20);
        assert!((found - 2.607_624).abs() < 1e-5, "{found}");
    }

    proptest! {
        #[test]
        fn a_weight_is_a_number_and_not_negative(
            items in 0..1000_u64,
            words in 0..1_000_000_u64,
            with in 0..2000_u64,
            occurs in any::<u32>(),
            length in 0..10_000_u64,
        ) {
            let found = weight(Corpus { items, words }, with, occurs, length);
            prop_assert!(found.is_finite() && found >= 0.0);
        }

        #[test]
        fn the_total_is_the_sum_of_the_counts(text in "\\PC{0,200}") {
            let words = Words::of_text(&text);
            prop_assert_eq!(words.total, words.counts.values().map(|count| u64::from(*count)).sum::<u64>());
        }
    }
}
