//! Which answers say the same. An answer's neighbours are those it is the same as ([`super::sketch`]); the
//! one whose neighbourhood weighs most leads the first group, which is that neighbourhood; then again with
//! what is left, until nothing is (greedy by the largest group, as in quality threshold clustering; Heyer,
//! Kruglyak and Yooseph 1999).
//!
//! The order in which answers came or stand does not matter: where weights are equal, the text with most in
//! common with all the others goes first, then the one that comes first by its bytes. And as neighbourhoods
//! only grow with every further answer, the weight of the first group never falls: what is certain of it
//! stays so.

use std::cmp::Reverse;

use super::finding::Findings;
use super::share::{FIXED_ONE, Share};
use super::sketch::{Likeness, Sketch};

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Voice<'a> {
    /// Its place in the [`Table`].
    pub place: usize,
    /// Thousandths.
    pub weight: u32,
    pub text: &'a str,
}

/// Answers that say the same, by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub members: Vec<usize>,
    /// The member with most in common with the other members.
    pub representative: usize,
    /// Of all voices' weight.
    pub score: Share,
}

/// Heaviest first. Each voice is in one group. The places of all voices are in `table`.
pub fn groups(voices: &[Voice<'_>], table: &Table) -> Vec<Group> {
    let whole = voices.iter().map(|voice| u64::from(voice.weight)).sum();
    let mut left = voices.to_vec();
    let mut groups = Vec::new();
    while let Some(leader) = best(&left, |voice| (table.mass(voice, &left), table.closeness(voice, voices))) {
        let is_member = |voice: &Voice<'_>| table.at(leader.place, voice.place).is_same;
        let (members, others): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_member);
        let closest = |voice: &Voice<'_>| (table.closeness(voice, &members), u64::from(voice.weight));
        let representative = best(&members, closest).expect("a leader is the same as itself").place;
        let part = members.iter().map(|voice| u64::from(voice.weight)).sum();
        let mut members: Vec<usize> = members.iter().map(|voice| voice.place).collect();
        members.sort_unstable();
        groups.push(Group { members, representative, score: Share { part, whole } });
        left = others;
    }
    groups
}

/// The mean of all pairs' overlap; of one answer it is whole.
pub fn mean_overlap(voices: &[Voice<'_>], table: &Table) -> Share {
    let pairs =
        || voices.iter().enumerate().flat_map(|(at, one)| voices[..at].iter().map(move |two| (one, two)));
    let sum = pairs().map(|(one, two)| table.at(one.place, two.place).overlap.fixed()).sum();
    match pairs().count() as u64 {
        0 => Share { part: 1, whole: 1 },
        count => Share { part: sum, whole: count * FIXED_ONE as u64 },
    }
}

/// The one that ranks highest; of equals the first by text, then by place.
fn best<'a>(among: &[Voice<'a>], rank: impl Fn(&Voice<'a>) -> (u64, u64)) -> Option<Voice<'a>> {
    among.iter().copied().min_by_key(|voice| (Reverse(rank(voice)), voice.text, voice.place))
}

/// How much alike any two answers are; each pair is compared once, when the later of both comes in.
#[derive(Debug, Default)]
pub struct Table {
    sketches: Vec<Option<Sketch>>,
    /// Of `(one, other)` with `one >= other`, row after row.
    cells: Vec<Likeness>,
}

impl Table {
    /// `place` has its answer, once.
    pub fn add(&mut self, place: usize, sketch: Sketch) {
        while self.sketches.len() <= place {
            self.sketches.push(None);
            self.cells.resize(self.cells.len() + self.sketches.len(), Likeness::default());
        }
        for (other, known) in self.sketches.iter().enumerate() {
            let Some(known) = known else { continue };
            self.cells[cell(place, other)] = sketch.likeness(known);
        }
        let whole = Share { part: 1, whole: 1 };
        self.cells[cell(place, place)] = Likeness { is_same: true, overlap: whole };
        self.sketches[place] = Some(sketch);
    }

    /// Of two places that have their answers.
    pub fn at(&self, one: usize, other: usize) -> Likeness {
        self.cells[cell(one, other)]
    }

    /// Of a place that has its answer, where that is a list of findings.
    pub fn findings(&self, place: usize) -> Option<&Findings> {
        self.sketches[place].as_ref().and_then(Sketch::findings)
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.sketches.iter().flatten().map(Sketch::bytes).sum()
    }

    /// The weight of a voice's neighbours, itself one of them.
    fn mass(&self, voice: &Voice<'_>, among: &[Voice<'_>]) -> u64 {
        let near = among.iter().filter(|other| self.at(voice.place, other.place).is_same);
        near.map(|other| u64::from(other.weight)).sum()
    }

    /// What it has in common with all of them, by their weights.
    fn closeness(&self, voice: &Voice<'_>, among: &[Voice<'_>]) -> u64 {
        let each =
            |other: &Voice<'_>| self.at(voice.place, other.place).overlap.fixed() * u64::from(other.weight);
        among.iter().map(each).sum()
    }
}

fn cell(one: usize, other: usize) -> usize {
    let (high, low) = (one.max(other), one.min(other));
    high * (high + 1) / 2 + low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Groups of texts with weights, as texts: the order of the input is gone.
    fn grouped(texts: &[(&str, u32)]) -> Vec<(String, Vec<String>, f64)> {
        let mut table = Table::default();
        for (place, (text, _)) in texts.iter().enumerate().rev() {
            table.add(place, Sketch::of(text));
        }
        let mut voices = Vec::new();
        for (place, (text, weight)) in texts.iter().enumerate() {
            voices.push(Voice { place, weight: *weight, text });
        }
        let text = |at: usize| texts[at].0.to_owned();
        let named = |group: Group| {
            let mut members: Vec<String> = group.members.iter().map(|at| text(*at)).collect();
            members.sort_unstable();
            (text(group.representative), members, group.score.as_f64())
        };
        groups(&voices, &table).into_iter().map(named).collect()
    }

    #[test]
    fn two_that_agree_outweigh_a_third() {
        let found =
            grouped(&[("the sky is red", 1000), ("the sky is blue", 1000), ("The sky is blue!", 1000)]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1, ["The sky is blue!", "the sky is blue"]);
        assert!((found[0].2 - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(found[0].0, "The sky is blue!", "of two that are equal the first by its bytes");
        assert!((found[1].2 - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_heavy_voice_outweighs_two_light_ones() {
        let found = grouped(&[("blue", 500), ("Blue", 500), ("red", 1500)]);
        assert_eq!(found[0].0, "red");
        assert!((found[0].2 - 0.6).abs() < 1e-9);
    }

    #[test]
    fn nobody_says_nothing() {
        assert_eq!(grouped(&[]), []);
    }

    #[test]
    fn lists_of_findings_are_grouped_by_what_they_found() {
        let list = |file: &str, claim: &str| {
            format!(r#"{{"findings":[{{"type":"bug","file":"{file}","claim":"{claim}"}}]}}"#)
        };
        let (one, alike, other) =
            (list("a.rs", "index past the end"), list("a.rs", "index past its end"), list("b.rs", "leak"));
        let found = grouped(&[(&one, 1000), (&other, 1000), (&alike, 1000)]);
        assert_eq!(found[0].1.len(), 2, "{found:?}");
    }

    const WORDS: [&str; 6] = [
        "the sky is blue today",
        "The sky is blue today.",
        "the sky is blue now",
        "green",
        "GREEN",
        "no idea at all",
    ];

    proptest! {
        #[test]
        fn the_order_of_answers_does_not_matter(
            picks in prop::collection::vec((0..WORDS.len(), 1u32..4), 1..9),
            seed in any::<u64>(),
        ) {
            let texts: Vec<(&str, u32)> =
                picks.iter().map(|(at, weight)| (WORDS[*at], weight * 500)).collect();
            let mut other = texts.clone();
            let mut random = seed;
            for at in (1..other.len()).rev() {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                other.swap(at, ((random >> 33) % (at as u64 + 1)) as usize);
            }
            prop_assert_eq!(grouped(&texts), grouped(&other));
        }

        #[test]
        fn the_first_group_never_gets_lighter_with_a_further_answer(
            picks in prop::collection::vec(0..WORDS.len(), 2..9),
        ) {
            let texts: Vec<(&str, u32)> = picks.iter().map(|at| (WORDS[*at], 1000)).collect();
            let heaviest = |count: usize| grouped(&texts[..count])[0].1.len();
            for count in 1..texts.len() {
                prop_assert!(heaviest(count) <= heaviest(count + 1));
            }
        }
    }
}
