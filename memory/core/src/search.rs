//! What a search looks at: the words of an item's texts. Keeps no index and weighs nothing; it says which
//! words there are.

use std::collections::HashSet;
use std::str::Chars;

use serde_json::Value;

/// Every text in a value, one a line; names of fields are its shape, not its text.
pub fn texts(value: &Value) -> String {
    let mut all = String::new();
    take_texts(value, &mut all);
    all
}

/// Recursion is as deep as the value; serde_json reads at most 128 levels.
fn take_texts(value: &Value, all: &mut String) {
    match value {
        Value::String(text) => {
            all.push_str(text);
            all.push('\n');
        }
        Value::Number(number) => {
            all.push_str(&number.to_string());
            all.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| take_texts(item, all)),
        Value::Object(fields) => fields.values().for_each(|field| take_texts(field, all)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The words of a text, one after the other: runs of letters and digits, in lower case. Those longer than
/// [`WORD_BYTES_MAX`] are left out, and those that would be more than [`WORDS_MAX`] different ones.
#[derive(Debug)]
pub struct Words<'t> {
    rest: Chars<'t>,
    /// What ended the last word, and is one by itself.
    held: Option<char>,
    word: String,
    seen: HashSet<String>,
}

impl<'t> Words<'t> {
    pub fn of(text: &'t str) -> Words<'t> {
        Words { rest: text.chars(), held: None, word: String::new(), seen: HashSet::new() }
    }

    /// The next one; a word is told as often as it occurs.
    pub fn advance(&mut self) -> Option<&str> {
        while self.read() {
            if self.word.len() > WORD_BYTES_MAX {
                continue;
            }
            if self.seen.contains(&self.word) {
                return Some(&self.word);
            }
            if self.seen.len() < WORDS_MAX {
                self.seen.insert(self.word.clone());
                return Some(&self.word);
            }
        }
        None
    }

    /// How many are left.
    pub fn count(mut self) -> u64 {
        let mut count = 0;
        while self.advance().is_some() {
            count += 1;
        }
        count
    }

    /// The first different ones, at most so many.
    pub fn distinct(mut self, at_most: usize) -> Vec<String> {
        let mut distinct: Vec<String> = Vec::new();
        while let Some(word) = self.advance() {
            if distinct.len() == at_most {
                break;
            }
            if !distinct.iter().any(|known| known == word) {
                distinct.push(word.to_owned());
            }
        }
        distinct
    }

    /// Reads one word, whatever its length; whether there was one.
    fn read(&mut self) -> bool {
        self.word.clear();
        if let Some(held) = self.held.take() {
            self.word.push(held);
            return true;
        }
        for one in self.rest.by_ref() {
            if is_word_alone(one) {
                if self.word.is_empty() {
                    self.word.push(one);
                } else {
                    self.held = Some(one);
                }
                return true;
            }
            if !one.is_alphanumeric() {
                if self.word.is_empty() {
                    continue;
                }
                return true;
            }
            // What is too long already is not made longer: nobody looks for it.
            if self.word.len() <= WORD_BYTES_MAX {
                self.word.extend(one.to_lowercase());
            }
        }
        !self.word.is_empty()
    }
}

/// Scripts written without blanks, where each character is looked for by itself: Chinese, Japanese and Korean
/// ideographs, kana.
fn is_word_alone(one: char) -> bool {
    let blocks =
        ['\u{3040}'..='\u{30ff}', '\u{3400}'..='\u{4dbf}', '\u{4e00}'..='\u{9fff}', '\u{f900}'..='\u{faff}'];
    blocks.iter().any(|block| block.contains(&one))
}

/// Different words of one item that can be searched for. A long document has about as many; each costs a
/// place in the index.
pub const WORDS_MAX: usize = 2000;
/// Longer ones are data, not words.
pub const WORD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let (mut words, mut all) = (Words::of(text), Vec::new());
        while let Some(word) = words.advance() {
            all.push(word.to_owned());
        }
        all
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_whatever_their_case() {
        assert_eq!(words("The cat's  HAT, cat_2!"), ["the", "cat", "s", "hat", "cat", "2"]);
        assert_eq!(words("Über ÜBER"), ["über", "über"]);
        assert_eq!(words("ab東京cd 大"), ["ab", "東", "京", "cd", "大"]);
        assert_eq!(words(" .,;"), [""; 0]);
    }

    #[test]
    fn an_items_words_are_those_of_its_texts_and_not_of_its_names() {
        let value = json!({"name": "blue sky", "list": ["sky", 42, true, null], "deep": {"a": "x"}});
        let mut found = words(&texts(&value));
        found.sort();
        assert_eq!(found, ["42", "blue", "sky", "sky", "x"]);
    }

    #[test]
    fn two_texts_are_never_one_word() {
        assert_eq!(words(&texts(&json!(["ab", "cd"]))), ["ab", "cd"]);
    }

    #[test]
    fn words_past_the_bounds_are_not_taken_and_those_known_still_are() {
        let many: Vec<String> = (0..=WORDS_MAX).map(|one| format!("w{one}")).collect();
        let found = words(&format!("{} w0", many.join(" ")));
        assert_eq!((found.len(), found.last().map(String::as_str)), (WORDS_MAX + 1, Some("w0")));
        assert!(!found.contains(&format!("w{WORDS_MAX}")));
        let edge = "x".repeat(WORD_BYTES_MAX);
        assert_eq!(words(&format!("{edge} {edge}x {edge}{edge}{edge}")), [edge]);
    }

    #[test]
    fn a_question_has_so_many_different_words_and_no_more() {
        assert_eq!(Words::of("b a b c").distinct(2), ["b", "a"]);
        assert_eq!(Words::of("b a b c").distinct(4), ["b", "a", "c"]);
    }

    proptest! {
        #[test]
        fn whatever_the_text_its_words_are_whole_and_within_the_bound(text in "\\PC{0,200}") {
            let found = words(&text);
            prop_assert_eq!(found.len() as u64, Words::of(&text).count());
            for word in found {
                prop_assert!(!word.is_empty() && word.len() <= WORD_BYTES_MAX);
                prop_assert!(!word.contains(char::is_whitespace));
            }
        }
    }
}
