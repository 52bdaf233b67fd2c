//! Where an item stands: a namespace, and a key in it. Both may have several segments (`tenant/acme`,
//! `session/s1`), and together they are one path, as in a file system: `a` and `b/c` is the same place as
//! `a/b` and `c`. So whoever writes an address with plain slashes and whoever writes `%2F` inside a part mean
//! the same item, and a namespace holds everything below it.

use std::fmt;
use std::sync::Arc;

/// Segments of `[A-Za-z0-9_-]`, at most [`NAMESPACE_BYTES_MAX`] together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// Segments of `[A-Za-z0-9_.-]`, at most [`KEY_BYTES_MAX`] together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why it is none. The text is for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceFault {
    #[error("a place is a namespace and a key: /v1/memory/{{namespace}}/{{key}}")]
    TooFew,
    #[error("a namespace or key has an empty segment")]
    Empty,
    #[error("a namespace has at most {NAMESPACE_BYTES_MAX} characters")]
    NamespaceLong,
    #[error("a key has at most {KEY_BYTES_MAX} characters")]
    KeyLong,
    #[error("a namespace is made of letters, digits, '_' and '-', with '/' between segments")]
    NamespaceCharacters,
    #[error("a key is made of letters, digits, '_', '.' and '-', with '/' between segments")]
    KeyCharacters,
    #[error("a segment of a key is not '.' or '..'")]
    Dots,
    #[error("the path has a '%' that is no encoding of a character")]
    Encoding,
}

impl Namespace {
    pub fn parse(text: &str) -> Result<Namespace, PlaceFault> {
        if text.len() > NAMESPACE_BYTES_MAX {
            return Err(PlaceFault::NamespaceLong);
        }
        for segment in text.split('/') {
            if segment.is_empty() {
                return Err(PlaceFault::Empty);
            }
            if !is_of_namespace(segment) {
                return Err(PlaceFault::NamespaceCharacters);
            }
        }
        Ok(Namespace(text.into()))
    }

    /// From the part of an address behind `/v1/memory/`.
    pub fn of_url(raw: &str) -> Result<Namespace, PlaceFault> {
        Namespace::parse(&decoded(raw)?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    pub fn parse(text: &str) -> Result<Key, PlaceFault> {
        if text.len() > KEY_BYTES_MAX {
            return Err(PlaceFault::KeyLong);
        }
        for segment in text.split('/') {
            match segment {
                "" => return Err(PlaceFault::Empty),
                "." | ".." => return Err(PlaceFault::Dots),
                _ if segment.bytes().all(is_of_key) => {}
                _ => return Err(PlaceFault::KeyCharacters),
            }
        }
        Ok(Key(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One item's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub namespace: Namespace,
    pub key: Key,
}

impl Place {
    /// From the part of an address behind `/v1/memory/`. Two segments are namespace and key, either of which
    /// may have `%2F` inside. More are divided as [`Place::of_path`] does.
    pub fn of_url(raw: &str) -> Result<Place, PlaceFault> {
        let (first, rest) = raw.split_once('/').ok_or(PlaceFault::TooFew)?;
        if !rest.contains('/') {
            return Place::of(&decoded(first)?, &decoded(rest)?);
        }
        Place::of_path(&decoded(raw)?)
    }

    /// From the whole path, as [`Place::path`] gives it. Divided in the middle (the namespace has the smaller
    /// half), or, where that makes no namespace or no key, as near before it as does, else as near behind.
    pub fn of_path(path: &str) -> Result<Place, PlaceFault> {
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        let (before, behind) = slashes.split_at(slashes.len().div_ceil(2));
        let divided = |at: &usize| Place::of(&path[..*at], &path[at + 1..]);
        let mut tried = before.iter().rev().chain(behind).map(divided);
        let first = tried.next().ok_or(PlaceFault::TooFew)?;
        first.or_else(|fault| tried.find_map(Result::ok).ok_or(fault))
    }

    fn of(namespace: &str, key: &str) -> Result<Place, PlaceFault> {
        Ok(Place { namespace: Namespace::parse(namespace)?, key: Key::parse(key)? })
    }

    /// What makes it this place and no other.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.key)
    }
}

/// Whether one of the segments of a path is exactly this.
pub fn names(path: &str, subject: &str) -> bool {
    path.split('/').any(|segment| segment == subject)
}

/// Percent-encoding undone (RFC 3986 section 2.1). What it yields is checked by whoever asked.
pub fn decoded(raw: &str) -> Result<String, PlaceFault> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let byte = match byte {
            b'%' => {
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(PlaceFault::Encoding);
                };
                u8::try_from(high * 16 + low).expect("two hex digits are a byte")
            }
            other => other,
        };
        out.push(byte);
    }
    String::from_utf8(out).map_err(|_| PlaceFault::Encoding)
}

fn is_of_namespace(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| is_of_key(byte) && byte != b'.')
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

/// What existing clients may send.
pub const NAMESPACE_BYTES_MAX: usize = 100;
/// The same.
pub const KEY_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &str) -> Result<(String, String), PlaceFault> {
        Place::of_url(raw).map(|place| (place.namespace.to_string(), place.key.to_string()))
    }

    #[test]
    fn an_address_is_divided_where_its_writer_did_else_in_the_middle() {
        let table = [
            ("notes/today.txt", "notes", "today.txt"),
            ("tenant/acme/session/s1", "tenant/acme", "session/s1"),
            ("tenant%2Facme/session%2fs1", "tenant/acme", "session/s1"),
            ("tenant%2Facme/s1", "tenant/acme", "s1"),
            ("a/b%2Fc%2Fd", "a", "b/c/d"),
            ("a/b/c", "a", "b/c"),
            ("a/b/c/d/e", "a/b", "c/d/e"),
            ("a/b.c/d/e", "a", "b.c/d/e"),
            ("tenant%2Facme/session/s1", "tenant/acme", "session/s1"),
        ];
        for (raw, namespace, key) in table {
            assert_eq!(read(raw), Ok((namespace.into(), key.into())), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_a_place_says_why() {
        let long = |count| "x".repeat(count);
        let table = [
            ("", PlaceFault::TooFew),
            ("notes", PlaceFault::TooFew),
            ("notes/", PlaceFault::Empty),
            ("/notes", PlaceFault::Empty),
            ("a//b", PlaceFault::Empty),
            ("a.b/c", PlaceFault::NamespaceCharacters),
            ("a.b/c/d/e", PlaceFault::NamespaceCharacters),
            ("a b/c", PlaceFault::NamespaceCharacters),
            ("a/b%20c", PlaceFault::KeyCharacters),
            ("a/..", PlaceFault::Dots),
            ("a/b/%2e%2e/c", PlaceFault::Dots),
            ("a/%zz", PlaceFault::Encoding),
            ("a/%f", PlaceFault::Encoding),
            ("a/%ff", PlaceFault::Encoding),
            ("a/%C3%A4", PlaceFault::KeyCharacters),
            (&format!("{}/k", long(101)), PlaceFault::NamespaceLong),
            (&format!("n/{}", long(201)), PlaceFault::KeyLong),
        ];
        for (raw, fault) in table {
            assert_eq!(read(raw), Err(fault), "{raw}");
        }
        assert!(read(&format!("{}/{}", long(100), long(200))).is_ok());
        let early = format!("{}/{}/{}", long(50), long(49), long(200));
        assert_eq!(read(&early), Ok((early[..100].into(), long(200))), "elsewhere the key would be too long");
    }

    #[test]
    fn a_subject_is_named_by_a_whole_segment() {
        assert!(names("user/u42/profile", "u42"));
        assert!(!names("user/u421/profile", "u42"));
        assert!(!names("user/u42/profile", "u42/profile"));
    }

    fn segments(least: usize) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-zA-Z0-9_-]{1,8}", least..=8)
    }

    proptest! {
        #[test]
        fn plain_and_encoded_slashes_mean_the_same_place(all in segments(2), at in 1..8_usize) {
            let at = at.min(all.len() - 1);
            let encoded = format!("{}/{}", all[..at].join("%2F"), all[at..].join("%2F"));
            let plain = Place::of_url(&all.join("/")).unwrap();
            prop_assert_eq!(Place::of_url(&encoded).unwrap().path(), plain.path());
        }

        #[test]
        fn a_path_is_read_back_as_the_same_path(raw in "[a-zA-Z0-9_./%-]{0,40}") {
            if let Ok(place) = Place::of_url(&raw) {
                prop_assert_eq!(Place::of_path(&place.path()).unwrap().path(), place.path());
            }
        }

        #[test]
        fn every_place_can_be_written_with_plain_slashes(
            all in prop::collection::vec("[a-z.]{1,30}", 2..=20),
            at in 1..19_usize,
        ) {
            let at = at.min(all.len() - 1);
            if let Ok(place) = Place::of(&all[..at].join("/"), &all[at..].join("/")) {
                prop_assert_eq!(Place::of_url(&place.path()).map(|read| read.path()), Ok(place.path()));
            }
        }
    }
}
