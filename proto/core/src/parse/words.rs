//! How messages show what an operator wrote: bounded, escaped, with the word that was probably meant.

/// Text as messages show it: quoted, escaped, at most [`SHOWN_CHARS_MAX`] characters.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A field's name as paths show it: up to the first character that field names do not have. What follows may
/// be a value that lost its blank: `bearer:sk-…`.
pub fn path_part(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let plain = name.bytes().take(SHOWN_CHARS_MAX).take_while(|byte| is_plain(*byte)).count();
    match &name[..plain] {
        whole if plain == name.len() && plain > 0 => whole.into(),
        part => format!("{part}…"),
    }
}

/// `; did you mean X?`, or nothing where nothing is near.
pub fn hint<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let near = names.map(|name| (distance(word, name), name)).min_by_key(|(distance, _)| *distance);
    match near {
        // Half of a short word changed is another word.
        Some((steps, name)) if steps <= HINT_STEPS_MAX && steps * 2 <= name.len() => {
            format!("; did you mean {name}?")
        }
        _ => String::new(),
    }
}

/// Letters to change, add or remove to turn one word into the other; case does not count (Levenshtein 1966).
fn distance(from: &str, to: &str) -> usize {
    if from.len() > SHOWN_CHARS_MAX || to.len() > SHOWN_CHARS_MAX {
        return usize::MAX;
    }
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, from) in from.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, to) in to.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// Of a value in a message: enough to find it, not enough to flood a terminal.
const SHOWN_CHARS_MAX: usize = 64;

/// A swap of two letters is two steps.
const HINT_STEPS_MAX: usize = 2;
