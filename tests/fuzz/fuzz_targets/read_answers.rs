//! Answers in other words than the path's: whatever the bytes and however they are cut, they are told the
//! same way, and what is told reads as a stream of the path's own.
#![no_main]

use bytes::Bytes;
use dataplane_core::dialect::grpc::{Pieces, Status};
use dataplane_core::dialect::ollama::{Lines, render};
use dataplane_core::dialect::openai::StreamReader;
use dataplane_core::dialect::openai::chunks::Chunks;
use dataplane_core::dialect::rope::Rope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (is_grpc, cut, answer) = input;
    let size = usize::from(cut) + 1;
    let (whole, cut_up) = (read(is_grpc, answer, answer.len().max(1)), read(is_grpc, answer, size));
    assert_eq!(whole, cut_up);
    let mut reader = StreamReader::new(false);
    let mut out = Rope::new();
    // An event longer than the reader takes is its refusal, not a mistake of the telling.
    if reader.push(&Bytes::from(whole.0), &mut out).is_ok() {
        assert_eq!(reader.progress().unread, 0, "told as something that does not read");
    }
    if let Ok(told) = render(answer) {
        assert!(serde_json::from_slice::<serde_json::Value>(&told).is_ok(), "a request that is no JSON");
    }
});

fn read(is_grpc: bool, answer: &[u8], size: usize) -> (Vec<u8>, String) {
    let chunks = Chunks::new("chatcmpl-1", 1, "m");
    let mut out = Rope::new();
    let pieces = answer.chunks(size);
    let ended = if is_grpc {
        let mut reader = Pieces::new(chunks);
        let mut pieces = pieces.map(|piece| reader.push(piece, &mut out));
        let pushed = pieces.find(Result::is_err).unwrap_or(Ok(()));
        drop(pieces);
        pushed.and_then(|()| reader.end(Status::OK, &mut out))
    } else {
        let mut reader = Lines::new(chunks);
        let mut pieces = pieces.map(|piece| reader.push(&Bytes::copy_from_slice(piece), &mut out));
        let pushed = pieces.find(Result::is_err).unwrap_or(Ok(()));
        drop(pieces);
        pushed.and_then(|()| reader.end(&mut out))
    };
    (out.joined(), format!("{ended:?}"))
}
