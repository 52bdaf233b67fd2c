//! Streams of Anthropic's told as chat completions, and those told back: whatever the bytes and however they
//! are cut, the same comes out; what comes out is read as whole events of the other dialect, and what passes
//! as it is, is counted the same.
#![no_main]

use bytes::Bytes;
use dataplane_core::dialect::anthropic::ToEvents;
use dataplane_core::dialect::openai::StreamReader;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::{Retelling, Words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, stream) = input;
    let size = usize::from(cut) + 1;
    let (whole, cut_up) = (told(stream, stream.len().max(1)), told(stream, size));
    assert_eq!(whole.as_ref().err(), cut_up.as_ref().err());
    if let (Ok(whole), Ok(cut_up)) = (&whole, &cut_up) {
        assert_eq!(whole, cut_up);
        let mut hub = StreamReader::new(false);
        let mut back = ToEvents::new();
        let mut events = Vec::new();
        let told = Bytes::copy_from_slice(whole);
        // An event that was held may be longer than is held once more words stand around it.
        if hub.push_data(&told, |data| back.on_chunk(&data, &mut events)).is_ok() {
            assert_eq!(hub.progress().unread, 0, "{}", String::from_utf8_lossy(whole));
        }
        let usage = hub.progress().usage.unwrap_or_default();
        back.finish(&usage, &mut events);
        assert!(std::str::from_utf8(&events).is_ok());
        let mut native = StreamReader::of(Words::Anthropic, false);
        if native.push(&Bytes::from(events), &mut Rope::new()).is_ok() {
            assert_eq!((native.progress().unread, native.progress().is_done), (0, true));
        }
    }
    assert_eq!(counted(stream, stream.len().max(1)), counted(stream, size));
});

fn told(stream: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut retelling = Retelling::new(Words::Anthropic, b"text/event-stream", 7);
    let mut out = Rope::new();
    for piece in stream.chunks(size) {
        let pushed = retelling.push(&Bytes::copy_from_slice(piece), &mut out);
        pushed.map_err(|fault| format!("{fault:?}"))?;
    }
    retelling.end(&mut out);
    Ok(out.iter().flat_map(|piece| piece.to_vec()).collect())
}

fn counted(stream: &[u8], size: usize) -> String {
    let mut reader = StreamReader::of(Words::Anthropic, false);
    for piece in stream.chunks(size) {
        if let Err(fault) = reader.push(&Bytes::copy_from_slice(piece), &mut Rope::new()) {
            return format!("{fault:?}");
        }
    }
    let end = reader.end(true);
    format!("{:?} {end:?}", reader.progress())
}
