//! Findings of a review: an answer that is JSON with a list `findings`. Two such answers are compared finding
//! by finding, where both have one for the same `file`, `span` and `type`:
//!
//! agreement = 0.5 · cosine of the claims + 0.3 · Jaccard of the evidence + 0.2 · fields that are equal
//!
//! The fields are type (equal already), severity and tests. What only one of both has counts 0. The agreement
//! of two answers is the mean over the places either has.
//!
//! Several lists become one place by place ([`join`]): prose is merged by sentences, which would break JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::share::{FIXED_ONE, Share};
use super::sketch::{Bag, Likeness, hash_of, overlap};

#[derive(Debug)]
pub struct Findings(BTreeMap<String, Finding>);

/// What several lists say of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The finding as the heaviest of them wrote it.
    pub json: Box<str>,
    /// The part of all weight that has it.
    pub support: Share,
}

#[derive(Debug)]
struct Finding {
    json: Box<str>,
    claim: Bag,
    /// One hash for each piece, sorted, each once.
    evidence: Vec<u64>,
    severity: String,
    tests: Vec<String>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    findings: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    file: Option<String>,
    #[serde(borrow, default)]
    span: Option<&'a RawValue>,
    #[serde(default)]
    claim: String,
    #[serde(borrow, default)]
    evidence: Vec<&'a RawValue>,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    tests: Vec<String>,
}

impl Findings {
    /// `None` where the text is no list of findings, or one too long to compare.
    pub fn of(text: &str) -> Option<Findings> {
        let json = unfenced(text);
        if !json.starts_with('{') {
            return None;
        }
        let answer: Answer<'_> = serde_json::from_str(json).ok()?;
        if !(1..=FINDINGS_MAX).contains(&answer.findings.len()) {
            return None;
        }
        let read = |raw: &RawValue| {
            let written: Written<'_> = serde_json::from_str(raw.get()).ok()?;
            Some((written.place(), written.finding(raw.get().into())))
        };
        answer.findings.into_iter().map(read).collect::<Option<_>>().map(Findings)
    }

    pub(super) fn likeness(&self, other: &Findings) -> Likeness {
        let overlap = self.agreement(other);
        Likeness { is_same: overlap.is_at_least(SAME_FINDINGS), overlap }
    }

    /// Of both lists, as the module says.
    pub fn agreement(&self, other: &Findings) -> Share {
        let both = self.0.iter().filter_map(|(place, own)| Some((own, other.0.get(place)?)));
        let agreed: Vec<u64> = both.map(|(own, others)| own.agreement(others)).collect();
        let places = (self.0.len() + other.0.len() - agreed.len()) as u64;
        Share { part: agreed.iter().sum(), whole: places * FIXED_ONE as u64 }
    }
}

impl Written<'_> {
    fn place(&self) -> String {
        let span = self.span.map_or("", RawValue::get).replace(char::is_whitespace, "");
        format!("{}:{span}:{}", self.file.as_deref().unwrap_or_default(), self.kind.to_lowercase())
    }

    fn finding(mut self, json: Box<str>) -> Finding {
        let mut evidence: Vec<u64> =
            self.evidence.iter().map(|piece| hash_of(piece.get().to_lowercase().bytes())).collect();
        evidence.sort_unstable();
        evidence.dedup();
        self.tests.sort_unstable();
        Finding {
            json,
            claim: Bag::of(&self.claim),
            evidence,
            severity: self.severity.to_lowercase(),
            tests: self.tests,
        }
    }
}

impl Finding {
    /// Times [`FIXED_ONE`].
    fn agreement(&self, other: &Finding) -> u64 {
        // A cosine of 1 is 1 less a rounding error: to the nearest step it is 1.
        let cosine = (self.claim.cosine(&other.claim) * FIXED_ONE as f64).round() as u64;
        let evidence = overlap(&self.evidence, &other.evidence).fixed();
        let equal = 1 + u64::from(self.severity == other.severity) + u64::from(self.tests == other.tests);
        let fields = Share { part: equal, whole: 3 }.fixed();
        (5 * cosine + 3 * evidence + 2 * fields) / 10
    }
}

/// Every place any list has, the best supported first; the same whatever the order of the lists. Each comes
/// with its weight.
pub fn join(lists: &[(u32, &Findings)]) -> Vec<Joined> {
    let whole = lists.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let mut places: BTreeMap<&str, (u64, u32, &str)> = BTreeMap::new();
    for (weight, list) in lists {
        for (place, finding) in &list.0 {
            let (part, heaviest, json) = places.entry(place).or_insert((0, 0, ""));
            *part += u64::from(*weight);
            if weight > heaviest || weight == heaviest && *finding.json < **json {
                (*heaviest, *json) = (*weight, &finding.json);
            }
        }
    }
    let mut joined: Vec<Joined> = places
        .into_values()
        .map(|(part, _, json)| Joined { json: json.into(), support: Share { part, whole } })
        .collect();
    joined.sort_by_key(|own| std::cmp::Reverse(own.support.part));
    joined
}

/// Models like to put JSON in a fence.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    inside.and_then(|rest| rest.strip_suffix("```")).unwrap_or(text).trim()
}

/// A review with more of them is compared as text.
pub const FINDINGS_MAX: usize = 256;

/// Where two lists of findings are one: less than for words, since a place and a type that are equal are
/// worth more than equal words.
const SAME_FINDINGS: proto_core::units::Permille = proto_core::units::Permille(700);

#[cfg(test)]
mod tests {
    use proto_core::units::Permille;

    use super::*;

    fn findings(json: &str) -> Findings {
        Findings::of(json).unwrap()
    }

    const ONE: &str = r#"{"findings":[{"type":"bug","file":"a.rs","span":[1,2],"claim":"index past the end",
        "evidence":[{"kind":"code","lines":"1"},{"kind":"log"}],"severity":"high","tests":["t1"]}]}"#;

    #[test]
    fn what_is_no_list_of_findings_has_none() {
        for text in ["words", "{", "{}", r#"{"findings":[]}"#, r#"{"findings":3}"#, "[1]"] {
            assert!(Findings::of(text).is_none(), "{text}");
        }
        assert!(Findings::of(&format!("```json\n{ONE}\n```")).is_some());
    }

    #[test]
    fn a_list_agrees_with_itself() {
        let bare = r#"{"findings":[{"type":"bug","file":"a.rs"}]}"#;
        for list in [ONE, bare] {
            assert_eq!(findings(list).agreement(&findings(list)), Share { part: 1, whole: 1 }, "{list}");
        }
    }

    #[test]
    fn a_worked_example_has_the_sum_of_its_parts() {
        // Claims: 3 of 4 words each, cosine 0.75. Evidence: 1 of 2 pieces. Severity differs: 2 of 3 fields.
        let other = r#"{"findings":[{"type":"Bug","file":"a.rs","span":[1,2],"claim":"index past the start",
            "evidence":[{"kind":"log"}],"severity":"low","tests":["t1"]}]}"#;
        let agreement = findings(ONE).agreement(&findings(other)).as_f64();
        let by_hand = 0.5 * 0.75 + 0.3 * 0.5 + 0.2 * (2.0 / 3.0);
        assert!((agreement - by_hand).abs() < 1e-5, "{agreement} is not {by_hand}");
    }

    #[test]
    fn what_only_one_has_counts_nothing() {
        let more = ONE.replace("]}]}", "]},{\"type\":\"style\",\"file\":\"b.rs\",\"claim\":\"long\"}]}");
        let agreement = findings(ONE).agreement(&findings(&more));
        assert!((agreement.as_f64() - 0.5).abs() < 1e-9);
        assert!(!findings(ONE).likeness(&findings(&more)).is_same);
        assert!(!agreement.is_at_least(Permille(501)));
    }

    #[test]
    fn lists_are_joined_place_by_place_with_what_each_weighs() {
        let list = |file: &str, claim: &str| {
            findings(&format!(r#"{{"findings":[{{"file":"{file}","claim":"{claim}"}}]}}"#))
        };
        let (light, heavy, other) = (list("a.rs", "light"), list("a.rs", "heavy"), list("b.rs", "other"));
        let joined = join(&[(1000, &other), (1000, &light), (2000, &heavy)]);
        let shown: Vec<(&str, f64)> = joined.iter().map(|own| (&*own.json, own.support.as_f64())).collect();
        let expected =
            [(r#"{"file":"a.rs","claim":"heavy"}"#, 0.75), (r#"{"file":"b.rs","claim":"other"}"#, 0.25)];
        assert_eq!(shown, expected);
        assert_eq!(joined, join(&[(2000, &heavy), (1000, &light), (1000, &other)]));
    }

    #[test]
    fn a_longer_list_than_is_compared_is_text() {
        let list = |count: usize| {
            let all: Vec<String> =
                (0..count).map(|at| format!(r#"{{"type":"bug","file":"{at}"}}"#)).collect();
            format!(r#"{{"findings":[{}]}}"#, all.join(","))
        };
        assert!(Findings::of(&list(FINDINGS_MAX)).is_some());
        assert!(Findings::of(&list(FINDINGS_MAX + 1)).is_none());
    }
}
