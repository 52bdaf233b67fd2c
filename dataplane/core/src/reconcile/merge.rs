//! Several answers into one: the union of their sentences, each said once, each with the weight of those
//! who say it.
//!
//! Answers are taken heaviest first (of equal weight, the one that comes first by its bytes). A sentence that
//! is the same as one already taken ([`super::sketch`]) adds its answer's weight to that. A new one goes
//! behind the sentence that stands before it in its own answer, so that it keeps its context; at the front
//! where there is none. At the end what fewer than `keep_min` of all the weight support is left out; with 0
//! nothing is. Nothing is rewritten: every sentence is one that somebody said.

use proto_core::units::Permille;

use super::group::Voice;
use super::share::Share;
use super::sketch::Bag;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    pub text: String,
    /// Of each sentence of the text, in order: the part of all weight that said it.
    pub support: Vec<Share>,
}

/// The same whatever the order of the voices.
pub fn merge(voices: &[Voice<'_>], keep_min: Permille) -> Merged {
    let whole = voices.iter().map(|voice| u64::from(voice.weight)).sum();
    let mut order: Vec<usize> = (0..voices.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(voices[*at].weight), voices[*at].text, *at));
    let each_max = SENTENCES_MAX / voices.len().max(1);
    let mut taken: Vec<Sentence<'_>> = Vec::new();
    for voice in order {
        let mut before: Option<usize> = None;
        for (text, end) in sentences(voices[voice].text, each_max) {
            let bag = (text.len() <= SENTENCE_BYTES_MAX).then(|| Bag::of(text));
            let known = taken.iter().position(|own| own.is_same(text, bag.as_ref()));
            let at = known.unwrap_or_else(|| {
                let at = before.map_or(0, |before| before + 1);
                taken.insert(at, Sentence { text, end, bag, weight: 0, last: None });
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

    proptest! {
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
