//! Upstreams' streams: whatever the bytes and however they are cut, reading them ends the same way, counts
//! the same and sends on the same bytes.
#![no_main]

use bytes::Bytes;
use dataplane_core::dialect::openai::StreamReader;
use dataplane_core::dialect::rope::Rope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (drop_usage, cut, stream) = input;
    let size = usize::from(cut) + 1;
    let (whole, cut_up) = (read(drop_usage, stream, stream.len().max(1)), read(drop_usage, stream, size));
    assert_eq!(whole, cut_up);
});

fn read(drop_usage: bool, stream: &[u8], size: usize) -> (Vec<u8>, String) {
    let mut reader = StreamReader::new(drop_usage);
    let mut out = Rope::new();
    for piece in stream.chunks(size) {
        if let Err(fault) = reader.push(&Bytes::copy_from_slice(piece), &mut out) {
            return (Vec::new(), format!("{fault:?}"));
        }
    }
    let end = reader.end(true);
    let sent = out.iter().flat_map(|piece| piece.to_vec()).collect();
    (sent, format!("{:?} {end:?}", reader.progress()))
}
