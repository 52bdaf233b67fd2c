//! `context_refs` of an ask: which items of the caller's memory are put before its prompt, and how they stand
//! there. Fetching them is not done here.

use bytes::Bytes;

use super::super::json::{Escaped, put};
use super::super::rope::Rope;
use super::super::scan::Head;
use crate::fault::{Fault, Kind};

/// The places that are named, in their order; each is `namespace/key`. Empty where there are none.
///
/// # Errors
/// More than [`REFS_MAX`], or one that is no place.
pub fn refs(body: &Rope, head: &Head) -> Result<Vec<String>, Fault> {
    let invalid = Fault::client(Kind::InvalidField("context_refs", SHAPE));
    let Some(span) = head.ask.context_at.filter(|_| head.ask.context_refs > 0) else {
        return Ok(Vec::new());
    };
    // Escaped, a byte of a place takes six; what is longer is no list of places, and is not copied.
    if head.ask.context_refs > REFS_MAX as u64 || span.end - span.start > LIST_BYTES_MAX {
        return Err(invalid);
    }
    let mut raw = Vec::new();
    body.copy(span, &mut raw);
    let refs: Vec<String> = serde_json::from_slice(&raw).map_err(|_| invalid)?;
    let is_place = |place: &String| {
        let has_both =
            place.split_once('/').is_some_and(|(first, rest)| !first.is_empty() && !rest.is_empty());
        has_both && place.len() <= REF_BYTES_MAX && place.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if refs.iter().all(is_place) { Ok(refs) } else { Err(invalid) }
}

/// What stands before the prompt: text as it stands inside the quotes of a JSON string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// Adds an item: where it is, and its value as JSON.
    pub fn add(&mut self, place: &str, value: &str) {
        use std::fmt::Write;
        write!(Escaped(&mut self.0), "Context {place}:\n{value}\n\n")
            .expect("a buffer takes what is written");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of the text as it is sent.
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Appends the `event` line that says what of the references was found.
pub fn event(used: usize, missing: &[String], out: &mut Vec<u8>) {
    put!(out, r#"{{"type":"event","event":"context","used":{used},"missing":["#);
    for (at, place) in missing.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        super::super::json::quote(place, out);
    }
    out.extend_from_slice(b"]}\n");
}

const SHAPE: &str = "at most 50 places of the memory, each `namespace/key` of at most 200 characters";
/// As existing clients know it.
pub const REFS_MAX: usize = 50;
/// The same.
pub const REF_BYTES_MAX: usize = 200;
/// Of the list as it stands in the body, blanks and escapes included.
const LIST_BYTES_MAX: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::super::super::scan::{Profile, scan};
    use super::*;

    fn read(list: &str) -> Result<Vec<String>, Fault> {
        let body = format!(r#"{{"prompt":"p","context_refs":{list}}}"#);
        let head = scan(Profile::Ask, body.as_bytes()).unwrap();
        let mut rope = Rope::new();
        rope.push(body.into_bytes().into());
        refs(&rope, &head)
    }

    fn many(count: usize) -> String {
        format!("[{}]", vec![r#""n/k""#; count].join(","))
    }

    #[test]
    fn places_are_read_in_their_order_and_nothing_is_no_place() {
        assert_eq!(read(r#"["n/\u006b", "tenant/acme/s1"]"#).unwrap(), ["n/k", "tenant/acme/s1"]);
        assert_eq!(read("[]").unwrap(), Vec::<String>::new());
        assert_eq!(read("null").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn as_many_as_there_may_be_and_one_more() {
        assert_eq!(read(&many(REFS_MAX)).unwrap().len(), REFS_MAX);
        assert_eq!(read(&many(REFS_MAX + 1)).unwrap_err().code(), "invalid_value");
        let long = |bytes: usize| format!(r#"["n/{}"]"#, "k".repeat(bytes - 2));
        assert!(read(&long(REF_BYTES_MAX)).is_ok());
        assert!(read(&long(REF_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for list in [r#"["n"]"#, r#"["/k"]"#, r#"["n/"]"#, r#"[""]"#, "[1]", r#"[["n/k"]]"#, r#"["n/k k"]"#] {
            assert_eq!(read(list).unwrap_err().code(), "invalid_value", "{list}");
        }
    }

    #[test]
    fn context_stands_before_the_prompt_and_nothing_gets_out_of_its_quotes() {
        let mut context = Context::default();
        context.add("n/k", r#"{"text":"a \"b\""}"#);
        let text: String = serde_json::from_slice(&[b"\"", &*context.finish(), b"\""].concat()).unwrap();
        assert_eq!(text, "Context n/k:\n{\"text\":\"a \\\"b\\\"\"}\n\n");
    }

    #[test]
    fn the_event_says_what_was_found_and_what_not() {
        let mut line = Vec::new();
        event(2, &["n/a".into(), "n/b".into()], &mut line);
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let told =
            serde_json::json!({"type": "event", "event": "context", "used": 2, "missing": ["n/a", "n/b"]});
        assert_eq!(line, told);
    }
}
