//! The keys of one JSON object, taken one by one; every mistake is noted with its path. What is not taken is
//! the rest.

use std::collections::BTreeMap;

use proto_core::units::{Permille, Picodollars};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::Shown;

pub(super) struct Fields<'m, 'j> {
    path: String,
    left: BTreeMap<String, &'j RawValue>,
    mistakes: &'m mut Vec<String>,
}

impl<'m, 'j> Fields<'m, 'j> {
    pub fn new(path: String, left: BTreeMap<String, &'j RawValue>, mistakes: &'m mut Vec<String>) -> Self {
        Fields { path, left, mistakes }
    }

    pub fn mistake(&mut self, key: &str, what: &str) {
        self.mistakes.push(format!("{}{key}: {what}", self.path));
    }

    /// Whether something is already wrong with this key.
    pub fn has_failed(&self, key: &str) -> bool {
        let prefix = format!("{}{key}: ", self.path);
        self.mistakes.iter().any(|mistake| mistake.starts_with(&prefix))
    }

    /// Absent and null are the same.
    pub fn take(&mut self, key: &str) -> Option<&'j RawValue> {
        self.left.remove(key).filter(|raw| raw.get() != "null")
    }

    /// The value of `key`, which is an object.
    pub fn inner<'s>(&'s mut self, key: &str, raw: &'j RawValue) -> Option<Fields<'s, 'j>> {
        match serde_json::from_str(raw.get()) {
            Ok(map) => Some(Fields::new(format!("{}{key}.", self.path), map, self.mistakes)),
            Err(_) => {
                self.mistake(key, "is not an object");
                None
            }
        }
    }

    /// A list that must be there.
    pub fn list(&mut self, key: &str) -> Option<Vec<&'j RawValue>> {
        let Some(raw) = self.take(key) else {
            self.mistake(key, "is missing");
            return None;
        };
        let list = serde_json::from_str(raw.get()).ok();
        if list.is_none() {
            self.mistake(key, "is not a list");
        }
        list
    }

    /// Text with something in it, of at most so many bytes.
    pub fn name(&mut self, key: &str, bytes_max: usize) -> Option<Box<str>> {
        let text: String = self.read(key, "text")?;
        if text.trim().is_empty() {
            self.mistake(key, "is blank");
        } else if text.len() > bytes_max {
            self.mistake(key, &format!("has {} bytes, more than {bytes_max}", text.len()));
        } else {
            return Some(text.into());
        }
        None
    }

    pub fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text: String = self.read(key, "text")?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.mistake(key, &format!("`{}` is none of {}", Shown(&text), all.join(", ")));
        }
        found
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        self.read(key, "true or false")
    }

    /// A whole number from `least` to `most`.
    pub fn whole(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        let what = format!("a whole number from {least} to {most}");
        let number: u64 = self.read(key, &what)?;
        if !(least..=most).contains(&number) {
            self.mistake(key, &format!("{number} is not {what}"));
            return None;
        }
        Some(number)
    }

    /// A number whose thousandths are from `least` to `most`.
    pub fn thousandths(&mut self, key: &str, least: u32, most: u32) -> Option<u32> {
        let shown = |thousandths: u32| f64::from(thousandths) / 1000.0;
        let what = format!("a number from {} to {}", shown(least), shown(most));
        let number: f64 = self.read(key, &what)?;
        let rounded = (number * 1000.0).round();
        if !(f64::from(least)..=f64::from(most)).contains(&rounded) {
            self.mistake(key, &format!("{number} is not {what}"));
            return None;
        }
        Some(rounded as u32)
    }

    /// A part of 1.
    pub fn permille(&mut self, key: &str) -> Option<Permille> {
        self.thousandths(key, 0, 1000).map(|thousandths| Permille(thousandths as u16))
    }

    /// More than nothing.
    pub fn usd(&mut self, key: &str) -> Option<Picodollars> {
        let what = "an amount in dollars, above 0";
        let usd: f64 = self.read(key, what)?;
        let money = Picodollars::from_usd(usd).filter(|money| money.0 > 0);
        if money.is_none() {
            self.mistake(key, &format!("{usd} is not {what}"));
        }
        money
    }

    /// What was not taken.
    pub fn rest(&mut self) -> BTreeMap<String, &'j RawValue> {
        std::mem::take(&mut self.left)
    }

    /// What was not taken is a mistake.
    pub fn refuse_rest(&mut self) {
        for key in self.rest().into_keys() {
            self.mistake(Shown(&key).to_string().as_str(), "is not known here");
        }
    }

    fn read<T: Deserialize<'j>>(&mut self, key: &str, what: &str) -> Option<T> {
        let raw = self.take(key)?;
        let read = serde_json::from_str(raw.get()).ok();
        if read.is_none() {
            self.mistake(key, &format!("{} is not {what}", Shown(raw.get())));
        }
        read
    }
}
