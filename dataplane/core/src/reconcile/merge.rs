//! Several answers into one: the union of their sentences, each said once, each with the weight of those
//! who say it.
//!
//! Answers are taken heaviest first (of equal weight, the one that comes first by its bytes). A sentence that
//! is the same as one already taken ([`super::sketch`]) adds its answer's weight to that. A new one goes
//! behind the sentence that stands before it in its own answer, so that it keeps its context; at the front
//! where there is none. At the end what fewer than `keep_min` of all the weight support is left out; with 0
//! nothing is. Nothing is rewritten: every sentence is one that somebody said.

use std::collections::BTreeMap;

use proto_core::units::Permille;

use super::group::Voice;
use super::share::Share;
use super::sketch::{Bag, is_enough};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub text: String,
    /// Of each sentence of the text, in order: the part of all weight that said it.
    pub support: Vec<Share>,
}

/// The same whatever the order of the voices.
pub fn merge(voices: &[Voice<'_>], keep_min: Permille) -> Merged {
    merge_by(voices, keep_min, &mut Near::default())
}

fn merge_by(voices: &[Voice<'_>], keep_min: Permille, near: &mut Near) -> Merged {
    let whole = voices.iter().map(|voice| u64::from(voice.weight)).sum();
    let mut order: Vec<usize> = (0..voices.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(voices[*at].weight), voices[*at].text, *at));
    let each_max = SENTENCES_MAX / voices.len().max(1);
    let mut taken: Vec<Sentence<'_>> = Vec::new();
    for voice in order {
        let mut before: Option<usize> = None;
        for (text, end) in sentences(voices[voice].text, each_max) {
            let bag = (text.len() <= SENTENCE_BYTES_MAX).then(|| Bag::of(text));
            near.look(bag.as_ref());
            let known = taken.iter().position(|own| near.may_be(own.id) && own.is_same(text, bag.as_ref()));
            let at = known.unwrap_or_else(|| {
                let at = before.map_or(0, |before| before + 1);
                let id = taken.len();
                near.add(bag.as_ref());
                taken.insert(at, Sentence { id, text, end, bag, weight: 0, last: None });
                at
            });
            taken[at].add(voice, voices[voice].weight);
            before = Some(at);
        }
    }
    let share = |own: &Sentence<'_>| Share { part: own.weight, whole };
    taken.retain(|own| share(own).is_at_least(keep_min));
    let mut text = String::new();
    for own in &taken {
        text.push_str(own.text);
        text.push_str(own.end);
    }
    text.truncate(text.trim_end().len());
    Merged { text, support: taken.iter().map(share).collect() }
}

struct Sentence<'a> {
    /// How many were there before it.
    id: usize,
    text: &'a str,
    /// What stands behind it: a blank, or the end of a line.
    end: &'static str,
    /// `None`: too long for a sentence, and the same as itself only.
    bag: Option<Bag>,
    weight: u64,
    /// Who said it last: who says a thing twice counts once.
    last: Option<usize>,
}

impl Sentence<'_> {
    fn is_same(&self, text: &str, bag: Option<&Bag>) -> bool {
        match (&self.bag, bag) {
            (Some(own), Some(other)) => own.is_same(other),
            (None, None) => self.text == text,
            _ => false,
        }
    }

    fn add(&mut self, voice: usize, weight: u32) {
        if self.last.replace(voice) != Some(voice) {
            self.weight += u64::from(weight);
        }
    }
}

/// Which of the sentences taken are near enough to another one: the product with each of them is summed word
/// by word, over those only that have the word. Two that have nothing in common, as most, cost nothing.
#[derive(Default)]
struct Near {
    /// Who has it, by [`Sentence::id`], and how often.
    by_word: BTreeMap<u64, Vec<(u16, u32)>>,
    /// Of each sentence's bag; zero: it has none, or no word in it.
    squares: Vec<u64>,
    /// With the one that is looked at.
    products: Vec<u64>,
    square: u64,
    /// All are compared.
    #[cfg(test)]
    is_blind: bool,
    /// Sums made.
    #[cfg(test)]
    steps: usize,
}

impl Near {
    /// The next sentence.
    fn add(&mut self, bag: Option<&Bag>) {
        let id = u16::try_from(self.squares.len()).expect("few sentences are looked at");
        self.squares.push(bag.map_or(0, Bag::square));
        for (word, count) in bag.map(Bag::counts).unwrap_or_default() {
            self.by_word.entry(*word).or_default().push((id, *count));
        }
    }

    fn look(&mut self, bag: Option<&Bag>) {
        self.products.clear();
        self.products.resize(self.squares.len(), 0);
        self.square = bag.map_or(0, Bag::square);
        for (word, count) in bag.map(Bag::counts).unwrap_or_default() {
            let have = self.by_word.get(word).map_or(&[][..], |have| have);
            for (id, times) in have {
                self.products[usize::from(*id)] += u64::from(*count) * u64::from(*times);
            }
            #[cfg(test)]
            (self.steps += 1 + have.len());
        }
    }

    fn may_be(&self, id: usize) -> bool {
        #[cfg(test)]
        if self.is_blind {
            return true;
        }
        let square = self.squares[id];
        // What has no words, or is too long to be compared by them, is the same as an equal one only.
        if self.square == 0 || square == 0 {
            return self.square == square;
        }
        is_enough(self.products[id], self.square, square)
    }
}

/// Each sentence without blanks around it, and what stands behind it; past `max` the rest is one. It ends at
/// the end of a line, and behind `.`, `!` or `?` and a blank, or their like in Chinese and Japanese.
fn sentences(text: &str, max: usize) -> impl Iterator<Item = (&str, &'static str)> {
    let mut rest = text.trim();
    (1usize..).map_while(move |count| {
        let end = if count < max { end_of_sentence(rest) } else { rest.len() };
        let (sentence, behind) = rest.split_at(end);
        rest = behind.trim_start();
        let gap = &behind[..behind.len() - rest.len()];
        let is_line = gap.contains('\n');
        (!sentence.is_empty()).then_some((sentence.trim_end(), if is_line { "\n" } else { " " }))
    })
}

fn end_of_sentence(text: &str) -> usize {
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let is_before_blank = letters.peek().is_none_or(|(_, next)| next.is_whitespace());
        match letter {
            '\n' => return at,
            '.' | '!' | '?' if is_before_blank => return at + 1,
            '。' | '！' | '？' => return at + letter.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Of all answers together: each is compared with those before it. A page has some forty.
pub const SENTENCES_MAX: usize = 512;

/// What is longer is code, a table or the rest of a long answer: hardly ever written twice in other words,
/// and dear to compare.
pub const SENTENCE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(answers: &[(&str, u32)], keep_min: u16) -> (String, Vec<f64>) {
        let mut voices = Vec::new();
        for (place, (text, weight)) in answers.iter().enumerate() {
            voices.push(Voice { place, weight: *weight, text });
        }
        let Merged { text, support } = merge(&voices, Permille(keep_min));
        (text, support.into_iter().map(Share::as_f64).collect())
    }

    #[test]
    fn sentences_end_where_readers_end_them() {
        let all: Vec<_> = sentences("Version 1.2 is out. Why?  Because!\nNext line\n\n天。地", 99).collect();
        let expected = [
            ("Version 1.2 is out.", " "),
            ("Why?", " "),
            ("Because!", "\n"),
            ("Next line", "\n"),
            ("天。", " "),
            ("地", " "),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_both_say_is_said_once_and_what_one_says_keeps_its_place() {
        let (text, support) = merged(
            &[
                ("The sky is blue. It scatters light.", 1000),
                ("the sky is blue! At dusk it is red. It scatters light.", 1000),
            ],
            0,
        );
        assert_eq!(text, "The sky is blue. At dusk it is red. It scatters light.");
        assert_eq!(support, [1.0, 0.5, 1.0]);
    }

    #[test]
    fn the_heavier_goes_first_and_is_heard_where_half_is_asked_for() {
        let answers = [("Red.", 1000), ("Blue. Wide.", 3000)];
        assert_eq!(merged(&answers, 0), ("Red. Blue. Wide.".into(), vec![0.25, 0.75, 0.75]));
        assert_eq!(merged(&answers, 500), ("Blue. Wide.".into(), vec![0.75, 0.75]));
        assert_eq!(merged(&answers, 751), (String::new(), vec![]));
    }

    #[test]
    fn who_repeats_itself_counts_once() {
        assert_eq!(merged(&[("No. No. No.", 1000), ("Yes.", 1000)], 0).1, [0.5, 0.5]);
    }

    #[test]
    fn past_the_most_that_are_compared_the_rest_is_one() {
        let many: String = (0..SENTENCES_MAX + 9).map(|at| format!("w{at} x{at} y{at}. ")).collect();
        let (text, support) = merged(&[(&many, 1000)], 0);
        assert_eq!(text, many.trim_end(), "nothing is lost");
        assert_eq!(support.len(), SENTENCES_MAX);
    }

    #[test]
    fn what_is_too_long_for_a_sentence_is_the_same_as_itself_only() {
        let long = |words: usize, end: &str| format!("{}end{end}", "x ".repeat(words));
        let fits = (SENTENCE_BYTES_MAX - "end.".len()) / 2;
        let (one, other) = (long(fits, "."), long(fits, "!"));
        assert_eq!(one.len(), SENTENCE_BYTES_MAX);
        assert_eq!(merged(&[(&one, 1000), (&other, 1000)], 0).1, [1.0]);
        let (one, other) = (long(fits + 1, "."), long(fits + 1, "!"));
        assert_eq!(merged(&[(&one, 1000), (&other, 1000)], 0).1, [0.5, 0.5]);
        assert_eq!(merged(&[(&one, 1000), (&one, 1000)], 0).1, [1.0]);
    }

    /// So many answers of so many sentences each; `word`: the next of a sentence.
    fn pages(answers: usize, sentences: usize, words: usize, mut word: impl FnMut() -> u64) -> Vec<String> {
        let mut sentence = || (0..words).map(|_| format!("w{}", word())).collect::<Vec<_>>().join(" ") + ".";
        let mut page = || (0..sentences).map(|_| sentence()).collect::<Vec<_>>().join(" ");
        (0..answers).map(|_| page()).collect()
    }

    fn voices(pages: &[String]) -> Vec<Voice<'_>> {
        pages.iter().enumerate().map(|(place, text)| Voice { place, weight: 1000, text }).collect()
    }

    /// A worker does it without a pause. Comparing each with each were 130,816 products of all their words.
    #[test]
    fn as_many_sentences_as_there_may_be_are_little_work_whatever_they_say() {
        let each = SENTENCES_MAX / 16;
        // Sentences of 16 words, of 150, and of as many of two letters as have room.
        for (words, known, steps_max) in [(16, 3000, 40_000), (150, 3000, 3_000_000), (340, 600, 30_000_000)]
        {
            let mut random = 1u64;
            let mut next = || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % known
            };
            let digit = |at: u64| char::from_digit(at as u32, 36).unwrap();
            let word = |at: u64| format!("{}{}{}", digit(at / 1296), digit(at / 36 % 36), digit(at % 36));
            let mut sentence = || {
                let mut text = (0..words).map(|_| word(next())).collect::<Vec<_>>().join(" ");
                text.truncate(SENTENCE_BYTES_MAX - 1);
                text + "."
            };
            let mut page = || (0..each).map(|_| sentence()).collect::<Vec<_>>().join(" ");
            let pages: Vec<String> = (0..16).map(|_| page()).collect();
            let mut near = Near::default();
            let merged = merge_by(&voices(&pages), Permille(0), &mut near);
            assert_eq!(merged.support.len(), SENTENCES_MAX, "no two are the same");
            assert!(near.steps < steps_max, "{} for {words} words of {known}", near.steps);
        }
    }

    proptest! {
        /// Few words, so that many sentences are nearly the same.
        #[test]
        fn what_is_never_compared_is_never_the_same(
            answers in 1usize..6,
            sentences in 1usize..8,
            words in 1usize..16,
            known in 1u64..12,
            seed in any::<u64>(),
        ) {
            let mut random = seed;
            let pages = pages(answers, sentences, words, || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % known
            });
            let mut blind = Near { is_blind: true, ..Near::default() };
            let blind = merge_by(&voices(&pages), Permille(0), &mut blind);
            prop_assert_eq!(merge(&voices(&pages), Permille(0)), blind);
        }

        #[test]
        fn the_order_of_answers_does_not_matter_and_every_sentence_was_said(
            mut answers in prop::collection::vec(("([a-e] [a-e]\\. ){0,4}", 1u32..3), 1..6),
        ) {
            let borrowed: Vec<(&str, u32)> =
                answers.iter().map(|(text, weight)| (text.as_str(), *weight)).collect();
            let there = merged(&borrowed, 0);
            for (sentence, _) in sentences(&there.0, 99) {
                prop_assert!(answers.iter().any(|(text, _)| text.contains(sentence)));
            }
            answers.reverse();
            let turned: Vec<(&str, u32)> =
                answers.iter().map(|(text, weight)| (text.as_str(), *weight)).collect();
            prop_assert_eq!(merged(&turned, 0), there);
        }
    }
}
