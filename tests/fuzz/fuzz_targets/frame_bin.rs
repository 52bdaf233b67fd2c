//! Binary frames: a view is refused or says who, where and what without a panic, and what opens is a frame
//! that every encoding carries. Once as the bytes are, once with the checksums put right (chance never does).
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto_core::frame::bin::{HEADER_BYTES, View};
use proto_core::frame::{Encoding, FlagSet, What};

fuzz_target!(|message: &[u8]| {
    look(Bytes::copy_from_slice(message));
    if message.len() >= HEADER_BYTES {
        let mut sealed = message.to_vec();
        let sections = crc32c(&sealed[HEADER_BYTES..]);
        sealed[56..60].copy_from_slice(&sections.to_be_bytes());
        let header = crc32c(&sealed[..60]);
        sealed[60..64].copy_from_slice(&header.to_be_bytes());
        look(sealed.into());
    }
});

fn look(message: Bytes) {
    let Ok(view) = View::read(message) else { return };
    let _ = (view.session_id(), view.stream_id(), view.kind(), view.meta(), view.ext(), view.content());
    let header = view.next_hop(view.header().ttl.saturating_sub(1), FlagSet::ECN);
    let next = View::read([&header[..], &view.sections()].concat().into()).expect("the next hop reads it");
    assert_eq!(next.frame().is_ok(), view.frame().is_ok());
    let Ok(frame) = view.frame() else { return };
    for encoding in Encoding::ALL {
        match encoding.encode(&frame) {
            Ok(encoded) => assert_eq!(encoding.decode(&encoded).as_ref(), Ok(&frame)),
            Err(wrong) => assert_eq!(wrong.what, What::FrameBytes),
        }
    }
}

/// Bit by bit: another way to the same number.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
