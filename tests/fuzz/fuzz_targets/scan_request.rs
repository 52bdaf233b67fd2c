//! Requests' bodies: whatever the bytes and however they are cut, the scan refuses or accepts alike, accepts
//! nothing that another JSON parser refuses, and what the splice makes of it is JSON for the right model.
#![no_main]

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Profile, Scanner, scan};
use dataplane_core::dialect::splice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (profile, cut, body) = input;
    let profile =
        [Profile::Chat, Profile::Completions, Profile::Embeddings, Profile::Ask][usize::from(profile % 4)];
    let whole = scan(profile, body);
    let cut = usize::from(cut).min(body.len());
    let mut scanner = Scanner::new(profile);
    let pieces = scanner.push(&body[..cut]).and_then(|()| scanner.push(&body[cut..]));
    assert_eq!(pieces.and_then(|()| scanner.finish()).is_ok(), whole.is_ok(), "a cut changes nothing");
    let Ok(head) = whole else { return };
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok(), "accepted what is no JSON");
    if profile == Profile::Ask {
        return;
    }
    let rope: Rope =
        [Bytes::copy_from_slice(&body[..cut]), Bytes::copy_from_slice(&body[cut..])].into_iter().collect();
    let spliced = splice::for_upstream(&rope, &head, &Bytes::from_static(b"\"other\""));
    let joined: Vec<u8> = spliced.iter().flat_map(|piece| piece.to_vec()).collect();
    let asked: Asked = serde_json::from_slice(&joined).expect("a splice makes JSON");
    assert_eq!(asked.model, "other");
});

#[derive(serde::Deserialize)]
struct Asked {
    model: String,
}
