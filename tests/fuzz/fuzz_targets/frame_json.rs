//! Frames in JSON: whatever the bytes, they are refused or are a frame that every encoding carries. Nothing
//! is taken that another JSON parser refuses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto_core::frame::sign::{self, Keys};
use proto_core::frame::{Encoding, RawJson, What, cbor, json};

fuzz_target!(|message: &[u8]| {
    let message = Bytes::copy_from_slice(message);
    if let Ok(raw) = RawJson::parse(message.clone()) {
        assert!(
            serde_json::from_slice::<serde::de::IgnoredAny>(&message).is_ok(),
            "accepted what is no JSON"
        );
        assert_eq!(cbor::to_json(&cbor::of_json(&raw)), Ok(raw), "CBOR says the same");
    }
    let _ = (sign::canonical_json(&message), Keys::default().verify_json(&message));
    let Ok(received) = json::decode(&message) else { return };
    for encoding in Encoding::ALL {
        match encoding.encode(&received.frame) {
            Ok(encoded) => assert_eq!(encoding.decode(&encoded).as_ref(), Ok(&received.frame)),
            Err(wrong) => assert_eq!(wrong.what, What::FrameBytes),
        }
    }
});
