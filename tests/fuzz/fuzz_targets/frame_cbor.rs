//! Frames in CBOR, values in CBOR and sealed ones: what is taken has this one spelling, and JSON says so too.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto_core::frame::cbor::{self, envelope};
use proto_core::frame::{Encoding, What};

fuzz_target!(|message: &[u8]| {
    let message = Bytes::copy_from_slice(message);
    if let Ok(value) = cbor::to_json(&message) {
        assert_eq!(cbor::of_json(&value), message, "one spelling");
    }
    let _ = envelope::open(b"key", &message);
    let Ok(frame) = cbor::decode(&message) else { return };
    for encoding in Encoding::ALL {
        match encoding.encode(&frame) {
            Ok(encoded) => assert_eq!(encoding.decode(&encoded).as_ref(), Ok(&frame)),
            Err(wrong) => assert_eq!(wrong.what, What::FrameBytes),
        }
    }
});
