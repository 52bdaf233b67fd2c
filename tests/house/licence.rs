//! Licence expressions (SPDX 2.3 annex D), evaluated against the licences this project may carry.

/// Whether a package under `expression` may be used: of an OR one side, of an AND both. `/` is the old
/// spelling of OR. What is no expression is not allowed.
pub fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any_of(&mut rest, DEPTH_MAX);
    rest.is_empty() && allowed == Some(true)
}

/// `None`: no expression.
fn any_of(words: &mut &[&str], depth: usize) -> Option<bool> {
    let mut allowed = all_of(words, depth)?;
    while take(words, "OR") {
        allowed |= all_of(words, depth)?;
    }
    Some(allowed)
}

fn all_of(words: &mut &[&str], depth: usize) -> Option<bool> {
    let mut allowed = one(words, depth)?;
    while take(words, "AND") {
        allowed &= one(words, depth)?;
    }
    Some(allowed)
}

fn one(words: &mut &[&str], depth: usize) -> Option<bool> {
    if take(words, "(") {
        let allowed = any_of(words, depth.checked_sub(1)?)?;
        return take(words, ")").then_some(allowed);
    }
    let (name, rest) = words.split_first()?;
    *words = rest;
    if ["AND", "OR", "WITH", ")"].contains(name) {
        return None;
    }
    let mut allowed = ALLOWED.contains(&name.trim_end_matches('+'));
    if take(words, "WITH") {
        let (exception, rest) = words.split_first()?;
        *words = rest;
        allowed &= EXCEPTIONS.contains(exception);
    }
    Some(allowed)
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

/// Permissive, and compatible with Apache-2.0. CDLA covers data (root certificates), Unicode-3.0 tables.
const ALLOWED: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// They only give more rights.
const EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// Nobody writes deeper ones by hand.
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_or_needs_one_side_and_an_and_both() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-3.0-only OR MIT",
            "MIT/Apache-2.0",
            "MIT AND BSD-3-Clause",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "ISC AND (GPL-2.0-only OR (MIT AND Zlib))",
            // AND binds closer than OR.
            "MIT OR GPL-2.0-only AND AGPL-3.0-only",
        ] {
            assert!(is_allowed(good), "{good}");
        }
    }

    #[test]
    fn what_is_not_allowed_or_no_expression_is_refused() {
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR GPL-2.0-only) AND MPL-2.0",
            "GPL-2.0-only OR MIT AND AGPL-3.0-only",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "Apache-2.0 WITH Commons-Clause",
            "MIT OR",
            "OR MIT",
            "MIT Apache-2.0",
            "(MIT",
            "MIT)",
            "((((((((((MIT))))))))))",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
