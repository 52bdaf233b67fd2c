//! Requests and whole answers in either dialect: told in the other's words they are JSON, and telling never
//! panics.
#![no_main]

use bytes::Bytes;
use dataplane_core::bill::Usage;
use dataplane_core::dialect::anthropic::{answer, request};
use dataplane_core::dialect::rope::Rope;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let rope = Rope::from(Bytes::copy_from_slice(body));
    if let Ok(chat) = request::to_chat(&rope, &Bytes::from_static(b"\"m\"")) {
        is_json(&chat);
        // What was told may be told back, unless the other side has no words for it.
        if let Ok(back) = request::from_chat(&Rope::from(Bytes::from(chat))) {
            is_json(&back);
        }
    }
    if let Ok(messages) = request::from_chat(&rope) {
        is_json(&messages);
    }
    if let Some(chat) = answer::to_chat(body, 7) {
        is_json(&chat);
    }
    if let Some(message) = answer::from_chat(body, 400, &Usage::default(), "id") {
        is_json(&message);
    }
});

fn is_json(told: &[u8]) {
    let read = serde_json::from_slice::<Value>(told);
    assert!(read.is_ok(), "{read:?}: {}", String::from_utf8_lossy(told));
}
