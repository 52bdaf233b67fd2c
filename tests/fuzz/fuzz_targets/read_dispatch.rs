//! Fan-outs: whatever is asked for is refused with reasons or understood, and what each lane is sent is JSON;
//! whatever lanes answer compares alike both ways and is the same as itself.
#![no_main]

use dataplane_core::reconcile::sketch::Sketch;
use dataplane_core::reconcile::{Dispatch, arbiter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (content, answer) = input.split_once('\0').unwrap_or((input, input));
    let (one, other) = (Sketch::of(content), Sketch::of(answer));
    let (there, back) = (one.likeness(&other), other.likeness(&one));
    assert_eq!((there.is_same, there.overlap), (back.is_same, back.overlap));
    assert!(one.likeness(&one).is_same && other.likeness(&other).is_same);
    match Dispatch::parse(content) {
        Err(mistakes) => assert!(!mistakes.0.is_empty(), "refused without a reason"),
        Ok(dispatch) => {
            for lane in 0..dispatch.targets.len() {
                let mut out = Vec::new();
                dispatch.body(lane, &mut out);
                assert!(is_json(&out), "a body that is no JSON");
            }
            let mut out = Vec::new();
            arbiter::question("judge", dispatch.messages(), &[content, answer], &mut out);
            assert!(is_json(&out), "a question that is no JSON");
        }
    }
});

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}
