//! Names of certificates: bytes are refused or name somebody without a panic, and whoever is named is written
//! as a document would write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_core::identity::Identity;

fuzz_target!(|certificate: &[u8]| {
    let Ok(identity) = Identity::of_certificate(certificate) else { return };
    let text = identity.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(Identity::parse(&text), Ok(identity));
});
