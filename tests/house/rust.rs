//! Just enough of Rust's surface to look at code without its comments, its text and its tests.

/// The code of a file: comments and the inside of literals become blanks, lines stay where they are.
pub fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|one| if *one == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` where none starts there.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied();
    let is_inside_a_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if next(1) == Some('/') => find(chars, at, |one| one == '\n'),
        '/' if next(1) == Some('*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at + 1, '"'),
        '\'' if next(1) == Some('\\') => quoted_end(chars, at + 1, '\''),
        '\'' if next(2) == Some('\'') => at + 3,
        'b' | 'c' if !is_inside_a_word && next(1) == Some('"') => quoted_end(chars, at + 2, '"'),
        'b' if !is_inside_a_word && next(1) == Some('\'') => quoted_end(chars, at + 2, '\''),
        'r' if !is_inside_a_word => raw_end(chars, at, at + 1),
        'b' | 'c' if !is_inside_a_word && next(1) == Some('r') => raw_end(chars, at, at + 2),
        _ => at,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `r"…"`, `r#"…"#`; `start` where it is none (`r#type`, `ratio`).
fn raw_end(chars: &[char], start: usize, hashes_from: usize) -> usize {
    let quote = find(chars, hashes_from, |one| one != '#');
    if chars.get(quote) != Some(&'"') {
        return start;
    }
    let hashes = quote - hashes_from;
    let mut at = quote + 1;
    while at < chars.len() {
        let closing =
            chars[at] == '"' && chars[at + 1..].iter().take_while(|one| **one == '#').count() >= hashes;
        if closing {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

fn find(chars: &[char], from: usize, is_it: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|one| is_it(*one)).map_or(chars.len(), |found| from + found)
}

pub fn is_word(one: char) -> bool {
    one.is_alphanumeric() || one == '_'
}

/// The words of a line of code.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|one: char| !is_word(one)).filter(|word| !word.is_empty())
}

/// Code (see [`code_of`]) without the items that exist in tests only, and the names of test modules in files
/// of their own (`#[cfg(test)] mod tests;`).
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut out, mut modules) = (String::with_capacity(code.len()), Vec::new());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(") {
        let attribute_end = start + balanced(&rest[start + 1..], '[', ']') + 1;
        let attribute = &rest[start..attribute_end];
        if !words(attribute).any(|word| word == "test") || attribute.contains("not(test") {
            out.push_str(&rest[..attribute_end]);
            rest = &rest[attribute_end..];
            continue;
        }
        let item = &rest[attribute_end..];
        let item_end = match body_or_end(item) {
            Some(at) if item.as_bytes()[at] == b'{' => at + balanced(&item[at..], '{', '}'),
            Some(at) => {
                let mut declared = words(&item[..at]).skip_while(|word| *word != "mod");
                modules.extend(declared.nth(1).map(str::to_owned));
                at + 1
            }
            None => item.len(),
        };
        out.push_str(&rest[..start]);
        out.extend(
            rest[start..attribute_end + item_end].chars().map(|one| if one == '\n' { '\n' } else { ' ' }),
        );
        rest = &item[item_end..];
    }
    out.push_str(rest);
    (out, modules)
}

/// The `{` of an item's body or the `;` that ends it: not one inside brackets, such as `[u8; 4]`.
fn body_or_end(item: &str) -> Option<usize> {
    let mut depth = 0;
    item.char_indices().find_map(|(at, one)| {
        match one {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' | ';' if depth == 0 => return Some(at),
            _ => {}
        }
        None
    })
}

/// Bytes up to and with the bracket that closes the first one.
fn balanced(text: &str, open: char, close: char) -> usize {
    let mut depth = 0;
    for (at, one) in text.char_indices() {
        if one == open {
            depth += 1;
        } else if one == close {
            depth -= 1;
            if depth == 0 {
                return at + close.len_utf8();
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_blanks_and_lines_stay() {
        let text = "a // x.unwrap()\nb /* c /* d */ e */ f\n\"g\\\"h\" i 'j' '\\'' 'k \
                    r\"l\" m r#\"n\"o\"# p b\"q\" br#\"r\"# s\n";
        let code = code_of(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "f", "i", "'k", "m", "p", "s"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn what_only_looks_like_a_literal_is_code() {
        let code = "fn f<'a>(ratio: &'a str, r#type: u8) -> char { for<'b> 'outer: loop { break 'outer } }";
        assert_eq!(code_of(code), code);
        assert_eq!(code_of("'\"' a '\\\\' b"), "    a      b");
        assert_eq!(code_of("\"open"), "     ");
    }

    #[test]
    fn items_of_tests_are_left_out_and_their_files_named() {
        let code = "fn a() { b }\n#[cfg(test)]\nmod tests { fn c() { { d } } }\n\
                    #[cfg(not(test))]\nfn e() {}\n\
                    #[cfg(all(test, loom))]\npub(crate) mod models;\n\
                    #[cfg(test)]\nfn h(i: [u8; 4]) { j }\n#[cfg(loom)]\nfn g() {}\n";
        let (left, modules) = without_tests(code);
        let left: Vec<&str> = words(&left).collect();
        assert_eq!(left, ["fn", "a", "b", "cfg", "not", "test", "fn", "e", "cfg", "loom", "fn", "g"]);
        assert_eq!(modules, ["models"]);
    }
}
