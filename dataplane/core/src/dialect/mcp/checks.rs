//! Which revision a request over HTTP is of, and whether its headers say what its body says. A proxy on the
//! way may have decided by the headers, so a request whose two halves differ is refused (MCP 2026-07-28,
//! Streamable HTTP, Server Validation).

use std::borrow::Cow;

use super::Revision;
use super::request::Meta;
use super::rpc::{Code, Refusal};

/// What the headers say; `None`: not there. Blanks around a value are no part of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'h> {
    /// `mcp-protocol-version`
    pub revision: Option<&'h [u8]>,
    /// `mcp-method`
    pub method: Option<&'h [u8]>,
    /// `mcp-name`
    pub name: Option<&'h [u8]>,
}

/// The revision of a request. Without a header and without a word of it in `_meta` it is of the time of
/// sessions, in which the first request had neither.
///
/// # Errors
/// A revision that is not served; or a stateless one whose halves differ, or that lacks what each request of
/// it must say.
pub fn revision(headers: &Headers<'_>, meta: &Meta<'_>) -> Result<Revision, Refusal> {
    let header = headers.revision.map(|value| std::str::from_utf8(value.trim_ascii()).unwrap_or_default());
    let body = meta.revision.as_deref();
    let (header, body) = match (header, body) {
        (None, None) => return Ok(Revision::NEWEST_WITH_SESSIONS),
        (Some(header), None) => match Revision::find(header) {
            Some(revision) if !revision.is_stateless() => return Ok(revision),
            Some(_) => return Err(Refusal::new(Code::Params, LACKS_REVISION)),
            None => return Err(unsupported()),
        },
        (None, Some(_)) => {
            return Err(Refusal::new(Code::Header, "The header mcp-protocol-version is missing."));
        }
        (Some(header), Some(body)) => (header, body),
    };
    if header != body {
        let what = "The header mcp-protocol-version and the body's protocolVersion differ.";
        return Err(Refusal::new(Code::Header, what));
    }
    let revision = Revision::find(body).ok_or_else(unsupported)?;
    let is_object = |value: &serde_json::value::RawValue| value.get().starts_with('{');
    if revision.is_stateless() && !meta.capabilities.is_some_and(is_object) {
        return Err(Refusal::new(Code::Params, LACKS_CAPABILITIES));
    }
    Ok(revision)
}

/// Whether the headers of a stateless request name its method, and the tool where it calls one.
///
/// # Errors
/// One is missing, or differs.
pub fn names(headers: &Headers<'_>, method: &str, tool: Option<&str>) -> Result<(), Refusal> {
    let of = |value: Option<&[u8]>| value.map(|value| value.trim_ascii().to_vec());
    match of(headers.method) {
        None => return Err(Refusal::new(Code::Header, "The header mcp-method is missing.")),
        Some(said) if said != method.as_bytes() => {
            return Err(Refusal::new(Code::Header, "The header mcp-method and the body's method differ."));
        }
        Some(_) => {}
    }
    let Some(tool) = tool else { return Ok(()) };
    match of(headers.name) {
        None => Err(Refusal::new(Code::Header, "The header mcp-name is missing.")),
        Some(said) => match decoded(&said) {
            Some(said) if *said == *tool.as_bytes() => Ok(()),
            _ => Err(Refusal::new(Code::Header, "The header mcp-name and the body's name differ.")),
        },
    }
}

fn unsupported() -> Refusal {
    Refusal::new(Code::Version, "This revision of MCP is not served; see `supported`.")
}

/// A value as it is, or in base64 between the marks that say so; `None`: base64 that is none.
fn decoded(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(inside) => base64(inside).map(Cow::Owned),
        None => Some(Cow::Borrowed(value)),
    }
}

/// RFC 4648 section 4, padded.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for four in text[..text.len() - padding].chunks(4) {
        let mut bits = 0;
        for byte in four {
            bits = bits << 6 | u32::from(six(*byte)?);
        }
        let missing = 4 - four.len();
        bits <<= 6 * missing;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - missing]);
    }
    Some(out)
}

fn six(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

const LACKS_REVISION: &str = "`_meta` must say io.modelcontextprotocol/protocolVersion with each request.";
const LACKS_CAPABILITIES: &str =
    "`_meta` must say io.modelcontextprotocol/clientCapabilities, an object, with each request.";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(header: Option<&str>, meta: &str) -> Result<Revision, i32> {
        let meta: Meta<'_> = serde_json::from_str(meta).expect("it is a meta");
        let headers = Headers { revision: header.map(str::as_bytes), ..Headers::default() };
        revision(&headers, &meta).map_err(|refusal| refusal.code.number())
    }

    #[test]
    fn the_revision_is_what_both_halves_say() {
        let says = |revision: &str, more: &str| {
            format!(r#"{{"io.modelcontextprotocol/protocolVersion":"{revision}"{more}}}"#)
        };
        let able = r#","io.modelcontextprotocol/clientCapabilities":{}"#;
        let new = says("2026-07-28", able);
        for (header, meta, wanted) in [
            (None, "{}", Ok(Revision::V2025November)),
            (Some("2025-06-18"), "{}", Ok(Revision::V2025June)),
            (Some(" 2025-11-25\t"), "{}", Ok(Revision::V2025November)),
            (Some("2025-11-25"), &*says("2025-11-25", ""), Ok(Revision::V2025November)),
            (Some("2026-07-28"), &*new, Ok(Revision::V2026July)),
            (Some("2026-07-28"), "{}", Err(-32602)),
            (Some("2026-07-28"), &*says("2026-07-28", ""), Err(-32602)),
            (
                Some("2026-07-28"),
                &*says("2026-07-28", r#","io.modelcontextprotocol/clientCapabilities":[]"#),
                Err(-32602),
            ),
            (None, &*new, Err(-32020)),
            (Some("2025-11-25"), &*new, Err(-32020)),
            (Some("2026-07-28"), &*says("2025-11-25", able), Err(-32020)),
            (Some("1900-01-01"), &*says("1900-01-01", able), Err(-32022)),
            (Some("1900-01-01"), "{}", Err(-32022)),
            (Some(""), "{}", Err(-32022)),
        ] {
            assert_eq!(told(header, meta), wanted, "{header:?} {meta}");
        }
    }

    #[test]
    fn method_and_tool_are_named_alike_in_both_halves() {
        let is_well = |method: Option<&str>, name: Option<&str>, tool: Option<&str>| {
            let headers =
                Headers { revision: None, method: method.map(str::as_bytes), name: name.map(str::as_bytes) };
            names(&headers, "tools/call", tool).is_ok()
        };
        let call = Some("tools/call");
        assert!(is_well(call, None, None));
        assert!(is_well(call, Some(" route.complete "), Some("route.complete")));
        assert!(is_well(call, Some("=?base64?w7ZmZm5l?="), Some("öffne")));
        assert!(is_well(call, Some("=?base64?YQ==?="), Some("a")));
        assert!(is_well(call, Some("=?base64??="), Some("")));
        for (method, name, tool) in [
            (None, None, None),
            (Some("TOOLS/CALL"), None, None),
            (Some("tools/list"), Some("a"), Some("a")),
            (call, None, Some("a")),
            (call, Some("b"), Some("a")),
            (call, Some("=?base64?YQ=?="), Some("a")),
            (call, Some("=?base64?Y*==?="), Some("a")),
            (call, Some("=?base64?====?="), Some("")),
            (call, Some("=?base64?YQ==?="), Some("=?base64?YQ==?=")),
        ] {
            assert!(!is_well(method, name, tool), "{method:?} {name:?} {tool:?}");
        }
    }
}
