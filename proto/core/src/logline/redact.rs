//! What must not be in a log, found in any text. Rather too much is taken out than too little.

use std::borrow::Cow;
use std::ops::Range;

/// Stands where something was.
pub const REDACTED: &str = "[redacted]";

/// Whether a field of this name says nothing but secrets or words of callers.
pub fn is_secret(name: &str) -> bool {
    NAMES.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// The text without credentials and prompts.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let mut found: Vec<Range<usize>> = Vec::new();
    named(text, &mut found);
    schemes(text, &mut found);
    keys(text, &mut found);
    addresses(text, &mut found);
    blocks(text, &mut found);
    found.retain(|range| !range.is_empty());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Range { start, end } in found {
        // What begins within another has been taken out with it.
        if start >= at {
            out.push_str(&text[at..start]);
            out.push_str(REDACTED);
        }
        at = at.max(end);
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// How far goes what a name stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A key has no blank in it.
    Blank,
    /// Several words: a scheme and a key, cookies, a prompt.
    End,
}

/// `name: value`, `name=value`, `"name": "value"`, escaped or not.
fn named(text: &str, found: &mut Vec<Range<usize>>) {
    for (name, until) in NAMES {
        let mut from = 0;
        while let Some(at) = find(&text[from..], name) {
            let (start, end) = (from + at, from + at + name.len());
            from = end;
            if text[..start].ends_with(char::is_alphanumeric) || text[end..].starts_with(is_of_a_name) {
                continue;
            }
            let Some(value) = value(&text[end..], text[..start].ends_with('.')) else { continue };
            let begin = text.len() - value.len();
            let end = begin + extent(value, *until);
            found.push(begin..end);
            // What is within it goes with it, so that no text is gone through again for each name in it.
            from = from.max(end);
        }
    }
    // What a parser of JSON or YAML says it met.
    for (at, met) in text.match_indices(MET) {
        let begin = at + met.len() - 1;
        found.push(begin..begin + extent(&text[begin..], Until::End));
    }
}

/// What follows a name, past the sign between; `None`: there is no sign. `is_path`: the name ends the path of
/// a setting, after which a colon begins what is wrong with it.
fn value(after: &str, is_path: bool) -> Option<&str> {
    let after = after.trim_start_matches(['\\', '"', '\'', '`', ']', ')']).trim_start();
    let after = match after.strip_prefix('=') {
        Some(after) => after.strip_prefix('>').unwrap_or(after),
        None => after.strip_prefix(':').filter(|_| !is_path)?,
    };
    Some(after.trim_start())
}

fn extent(value: &str, until: Until) -> usize {
    let escapes = value.len() - value.trim_start_matches('\\').len();
    let rest = &value[escapes..];
    match rest.chars().next() {
        Some(quote @ ('"' | '\'' | '`')) => {
            let close = format!("{}{quote}", &value[..escapes]);
            let mut from = escapes + 1;
            while let Some(at) = value[from..].find(&close) {
                let end = from + at;
                from = end + close.len();
                // A quote behind a further backslash is one that was said.
                if !value[..end].ends_with('\\') {
                    return from;
                }
            }
            value.len()
        }
        // A list or an object of messages: to its end is not worth knowing where that is.
        Some('[' | '{') => value.len(),
        _ => match until {
            Until::Blank => value.find(is_between).unwrap_or(value.len()),
            Until::End => value.find(['\n', '\r', '"']).unwrap_or(value.len()),
        },
    }
}

/// `Bearer KEY`, `Basic KEY`.
fn schemes(text: &str, found: &mut Vec<Range<usize>>) {
    for scheme in ["bearer ", "basic ", "digest ", "negotiate "] {
        let mut from = 0;
        while let Some(at) = find(&text[from..], scheme) {
            let start = from + at;
            from = start + scheme.len();
            if text[..start].ends_with(is_of_a_name) {
                continue;
            }
            let begin = text.len() - text[from..].trim_start().len();
            let length = text[begin..].find(is_between).unwrap_or(text.len() - begin);
            let is_word = text[begin..begin + length].bytes().all(|byte| byte.is_ascii_lowercase());
            if length >= SCHEME_KEY_CHARS || !is_word {
                found.push(begin..begin + length);
            }
        }
    }
}

/// By how keys begin, or by their length.
fn keys(text: &str, found: &mut Vec<Range<usize>>) {
    let is_of_a_key =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'=' | b'/');
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| is_of_a_key(**byte)).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let run = &text[at..at + length];
        let mut begin = at;
        for word in run.split(['/', '=']) {
            let is_marked = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
            let is_key = PREFIXES.iter().any(|prefix| word.starts_with(prefix))
                && word.len() >= KEY_CHARS
                && word.bytes().any(is_marked);
            if is_key {
                found.push(begin..begin + word.len());
            }
            begin += word.len() + 1;
        }
        let is_opaque = |word: &str| {
            let has = |of: fn(&u8) -> bool| word.as_bytes().iter().any(of);
            word.len() >= OPAQUE_CHARS && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        };
        if run.split(['-', '/']).any(is_opaque) {
            // With whatever it hangs together: a key may have any of these signs in it.
            found.push(at..at + length);
        }
        at += length;
    }
}

/// `scheme://user:password@host`.
fn addresses(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, mark) in text.match_indices("://") {
        let begin = at + mark.len();
        let rest = &text[begin..];
        let authority =
            &rest[..rest.find(['/', '?', '#', ' ', '\n', '"', '\'', '<', '>']).unwrap_or(rest.len())];
        if let Some(end) = authority.rfind('@') {
            found.push(begin..begin + end);
        }
    }
    for parameter in ["key=", "sig=", "signature=", "code=", "auth="] {
        for sign in ['?', '&'] {
            let mut from = 0;
            while let Some(at) = find(&text[from..], parameter) {
                let start = from + at;
                from = start + parameter.len();
                if text[..start].ends_with(sign) {
                    let length = text[from..].find(is_between).unwrap_or(text.len() - from);
                    found.push(from..from + length);
                }
            }
        }
    }
}

/// Keys and certificates as files have them.
fn blocks(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices("-----BEGIN") {
        let end = text[at..].find("-----END").map_or(text.len(), |end| at + end);
        found.push(at..end);
    }
}

/// Where `name`, in lower case, stands first, in whatever case.
fn find(text: &str, name: &str) -> Option<usize> {
    text.as_bytes().windows(name.len()).position(|window| window.eq_ignore_ascii_case(name.as_bytes()))
}

fn is_of_a_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

fn is_between(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '"' | '\'' | '`' | '\\' | ',' | ';' | '&' | ')' | '}' | ']' | '>')
}

/// Names whose values nobody should read.
const NAMES: &[(&str, Until)] = &[
    ("authorization", Until::End),
    ("proxy-authorization", Until::End),
    ("cookie", Until::End),
    ("set-cookie", Until::End),
    ("x-api-key", Until::Blank),
    ("x-goog-api-key", Until::Blank),
    ("api-key", Until::Blank),
    ("api_key", Until::Blank),
    ("apikey", Until::Blank),
    ("access_token", Until::Blank),
    ("refresh_token", Until::Blank),
    ("id_token", Until::Blank),
    ("resume_token", Until::Blank),
    ("token", Until::Blank),
    ("bearer", Until::Blank),
    ("client_secret", Until::Blank),
    ("secret", Until::Blank),
    ("password", Until::Blank),
    ("passwd", Until::Blank),
    ("private_key", Until::Blank),
    ("prompt", Until::End),
    ("content", Until::End),
    ("messages", Until::End),
    ("input", Until::End),
    ("completion", Until::End),
    ("arguments", Until::End),
    ("body", Until::End),
];
/// `invalid type: string "…", expected …`.
const MET: &str = "string \"";
/// How keys of this product and of common providers begin.
const PREFIXES: &[&str] = &[
    "atp_",
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "hf_",
    "gsk_",
    "eyJ",
    "whsec_",
];
/// Of a key with such a beginning, from where on.
const KEY_CHARS: usize = 12;
/// Of what follows a scheme: a word that is shorter is one of a sentence.
const SCHEME_KEY_CHARS: usize = 8;
/// A run of letters and digits of this length is a key or a hash, and no log needs either.
const OPAQUE_CHARS: usize = 32;
