//! Messages of MCP and of the older protocol of tools: whatever the bytes, they are read or refused; what is
//! read is JSON of the right kind, and what is answered to it is JSON again. The first line of an input is
//! what its headers say.
#![no_main]

use dataplane_core::dialect::mcp::answer;
use dataplane_core::dialect::mcp::checks::{Headers, names, revision};
use dataplane_core::dialect::mcp::request::{Asked, Meta};
use dataplane_core::dialect::mcp::rpc::{Id, Message, read};
use dataplane_core::dialect::mcp::socket::{self, Said};
use dataplane_core::dialect::mcp::tools;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, body) = (&input[..end], &input[end..]);
    over_http(header, body);
    match socket::read(body) {
        Ok(Some(Said::Call(call))) => {
            is_json(call.id.as_json().as_bytes());
            if let Ok(completion) = tools::route(call.arguments, &["echo"]) {
                is_json(&completion.content);
            }
            let mut out = Vec::new();
            socket::error(call.id, "X", "y", &mut out);
            is_json(&out);
        }
        Ok(_) => {}
        Err((wrong, _)) => assert!(!wrong.is_empty()),
    }
});

fn over_http(header: &[u8], body: &[u8]) {
    let (id, method, params) = match read(body) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        Ok(Message::Notification { method, params }) => return drop(Asked::noted(&method, params)),
        Ok(Message::Response) => return,
        Err((refusal, id)) => {
            let mut out = Vec::new();
            answer::refused(id, &refusal, std::str::from_utf8(header).ok(), &mut out);
            return is_json(&out);
        }
    };
    is_json(body);
    // What nobody reads may be deeper than this reader goes, or hold half a surrogate pair.
    if let Ok(whole) = serde_json::from_slice::<Value>(body) {
        assert_eq!(whole["method"], *method, "the method is the body's");
        assert!(whole["id"].is_string() || whole["id"].is_number());
    }
    let Ok(meta) = Meta::of(params) else { return };
    let headers = Headers { revision: Some(header), method: Some(header), name: Some(header) };
    let Ok(revision) = revision(&headers, &meta) else { return };
    let mut out = Vec::new();
    answer::empty(id, revision, &mut out);
    is_json(&out);
    if let Ok(Asked::CallTool(call)) = Asked::read(revision, &method, params, &meta) {
        let _ = names(&headers, &method, Some(&call.name));
        if let Some(token) = call.progress {
            let mut out = Vec::new();
            answer::progress(Id::again(token.as_json()), 1, b"x", &mut out);
            is_json(&out);
        }
        if let Ok(completion) = tools::route(call.arguments, &["echo"]) {
            is_json(&completion.content);
        }
    }
}

fn is_json(bytes: &[u8]) {
    let read = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
    assert!(read.is_ok(), "no JSON: {}", String::from_utf8_lossy(bytes));
}
