//! Variables of the environment: one table for each program, which its settings and `atp config env` both
//! read, so that no variable is there and not told, or told and not there.

use super::words::{hint, shown};
use super::{Mistake, path_of};

/// A variable that a program takes into its settings `T`.
#[derive(Debug)]
pub struct Variable<T: 'static> {
    pub row: Row,
    /// Takes what was written, or says what is wrong with it.
    pub take: fn(&mut T, &str) -> Result<(), String>,
}

/// What people are told of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub name: &'static str,
    pub meaning: &'static str,
    /// As it would be written; empty: there is none.
    pub default: &'static str,
    /// Its value is never shown.
    pub is_secret: bool,
}

impl Row {
    pub const fn new(name: &'static str, default: &'static str, meaning: &'static str) -> Row {
        Row { name, meaning, default, is_secret: false }
    }

    #[must_use]
    pub const fn secret(self) -> Row {
        Row { is_secret: true, ..self }
    }
}

/// Takes every variable that is set, and tells every mistake. One that is set to nothing is not set.
pub fn take_all<T>(
    table: &[Variable<T>],
    env: &dyn Fn(&str) -> Option<String>,
    into: &mut T,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for Variable { row, take } in table {
        let Some(value) = env(row.name).filter(|value| !value.is_empty()) else { continue };
        if let Err(what) = take(into, &value) {
            let value = if row.is_secret { String::new() } else { format!("{} ", shown(&value)) };
            mistakes.push(path_of(row.name, format!("{value}{what}")));
        }
    }
    mistakes
}

/// What is set in a program's own name space (`ROUTER_`) and changes nothing: a typing error most likely, or
/// a setting of another version. `absent`: those known elsewhere that this version does without.
pub fn without_effect<'a>(
    set: impl Iterator<Item = &'a str>,
    prefix: &str,
    known: &[Row],
    absent: &[&str],
) -> Vec<Mistake> {
    let names = || known.iter().map(|row| row.name).filter(|name| name.starts_with(prefix));
    let is_unknown = |name: &&str| name.starts_with(prefix) && !names().any(|known| known == *name);
    let mut unknown: Vec<&str> = set.filter(is_unknown).collect();
    unknown.sort_unstable();
    let tell = |name: &str| match absent.contains(&name) {
        true => path_of(name, "has no effect in this version".into()),
        false => {
            let hint = hint(name, names());
            path_of(&super::words::path_part(name), format!("there is no such variable{hint}"))
        }
    };
    unknown.into_iter().map(tell).collect()
}

/// A flag: on for `1`, `true`, `yes`, `on`; off for `0`, `false`, `no`, `off`.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("is none of 1, true, yes, 0, false, no".into()),
    }
}

/// A whole number of a range.
pub fn whole<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    range: std::ops::RangeInclusive<N>,
) -> Result<N, String> {
    let number = text.parse::<N>().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("is no whole number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Settings {
        port: u16,
        key: String,
        is_on: bool,
    }

    const TABLE: &[Variable<Settings>] = &[
        Variable {
            row: Row::new("ROUTER_PORT", "7443", "where clients are served"),
            take: |settings, text| whole(text, 0..=u16::MAX).map(|port| settings.port = port),
        },
        Variable {
            row: Row::new("ROUTER_KEY", "", "who calls").secret(),
            take: |settings, text| match text.len() {
                8.. => {
                    settings.key = text.into();
                    Ok(())
                }
                _ => Err("is shorter than 8".into()),
            },
        },
        Variable {
            row: Row::new("ENABLE_IT", "0", "whether"),
            take: |settings, text| flag(text).map(|is_on| settings.is_on = is_on),
        },
    ];

    fn taken(set: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let env = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let mut settings = Settings::default();
        let mistakes = take_all(TABLE, &env, &mut settings);
        (settings, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_set_is_taken_and_nothing_is_as_if_unset() {
        let set = [("ROUTER_PORT", "1"), ("ROUTER_KEY", "12345678"), ("ENABLE_IT", "Yes")];
        let settings = Settings { port: 1, key: "12345678".into(), is_on: true };
        assert_eq!(taken(&set), (settings, vec![]));
        assert_eq!(taken(&[("ROUTER_PORT", "")]), (Settings::default(), vec![]));
    }

    #[test]
    fn every_bad_value_is_told_and_no_secret_is_shown() {
        let set = [("ROUTER_PORT", "70000"), ("ROUTER_KEY", "hush"), ("ENABLE_IT", "2")];
        let expected = [
            "ROUTER_PORT: \"70000\" is no whole number from 0 to 65535",
            "ROUTER_KEY: is shorter than 8",
            "ENABLE_IT: \"2\" is none of 1, true, yes, 0, false, no",
        ];
        assert_eq!(taken(&set).1, expected);
    }

    #[test]
    fn what_changes_nothing_is_told_with_what_was_meant() {
        let known: Vec<Row> = TABLE.iter().map(|variable| variable.row).collect();
        let set = ["ROUTER_PROT", "HOME", "ROUTER_PORT", "ROUTER_BEST", "ROUTER_NO=ROUTER_X"];
        let told = without_effect(set.into_iter(), "ROUTER_", &known, &["ROUTER_BEST"]);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        let expected = [
            "ROUTER_BEST: has no effect in this version",
            "ROUTER_NO…: there is no such variable",
            "ROUTER_PROT: there is no such variable; did you mean ROUTER_PORT?",
        ];
        assert_eq!(told, expected);
    }
}
