//! The callers' own books: what each answer brought them, to be compared with what the proxy says and with
//! what the upstream says.

use std::collections::{BTreeMap, BTreeSet};

use loadtest::mock::Answered;

use super::asks::Model;

/// What one caller got of one answer.
#[derive(Debug, Clone)]
pub struct Kept {
    pub tenant: usize,
    pub session: Option<usize>,
    /// Who answered.
    pub model: String,
    pub id: String,
    pub input: u64,
    pub output: u64,
    pub is_complete: bool,
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub answers: u64,
    pub input: u64,
    pub output: u64,
    /// Of `output`, where the answer broke off.
    pub cut_output: u64,
    pub picodollars: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Books {
    kept: Vec<Kept>,
}

impl Sum {
    pub fn tokens(&self) -> u64 {
        self.input + self.output
    }
}

impl Books {
    pub fn add(&mut self, kept: Kept) {
        self.kept.push(kept);
    }

    pub fn extend(&mut self, kept: impl IntoIterator<Item = Kept>) {
        self.kept.extend(kept);
    }

    pub fn sum(&self, models: &[Model], is_in: impl Fn(&Kept) -> bool) -> Sum {
        let mut sum = Sum::default();
        for kept in self.kept.iter().filter(|kept| is_in(kept)) {
            let model = models.iter().find(|model| model.name == kept.model);
            let model = model.unwrap_or_else(|| panic!("nobody declared {}", kept.model));
            sum.answers += 1;
            sum.input += kept.input;
            sum.output += kept.output;
            sum.cut_output += if kept.is_complete { 0 } else { kept.output };
            sum.picodollars += model.cost(kept.input, kept.output);
        }
        sum
    }

    /// Tokens of answers that reached no caller.
    pub fn unseen(&self, answers: &[Answered], is_in: impl Fn(&Answered) -> bool) -> u64 {
        let known: BTreeSet<&str> = self.kept.iter().map(|kept| kept.id.as_str()).collect();
        let unseen = answers.iter().filter(|row| is_in(row) && !known.contains(row.id.as_str()));
        unseen.map(|row| row.tokens_sent).sum()
    }

    /// Row by row: what was answered whole is what the upstream billed, what was cut is no more than it sent.
    pub fn compare(&self, answers: &[Answered]) {
        let rows: BTreeMap<&str, &Answered> = answers.iter().map(|row| (row.id.as_str(), row)).collect();
        for kept in &self.kept {
            let row = rows.get(kept.id.as_str()).unwrap_or_else(|| panic!("nobody sent {kept:?}"));
            assert_eq!((&row.model, row.prompt_tokens), (&kept.model, kept.input), "{kept:?}");
            if kept.is_complete {
                assert_eq!((row.tokens_sent, row.is_complete), (kept.output, true), "{kept:?}");
            } else {
                assert!(kept.output <= row.tokens_sent, "{kept:?} of {row:?}");
            }
        }
    }
}
