//! Operators' documents: whatever the bytes are, reading them ends in resources or in mistakes that fit a
//! screen. What was taken reads back from its canonical JSON and from YAML as the same resource.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto_core::parse::{Source, documents, resource_json, set, to_yaml};

fuzz_target!(|content: &[u8]| {
    match documents(&[Source { file: "f", content }]) {
        Ok(parsed) => {
            for document in &parsed.documents {
                let again = resource_json(document.json.as_bytes()).expect("canonical JSON reads back");
                assert_eq!((&again.resource, &again.json), (&document.resource, &document.json));
                let yaml = to_yaml(&document.json);
                let again =
                    documents(&[Source { file: "f", content: yaml.as_bytes() }]).expect("YAML reads back");
                assert_eq!(again.documents[0].resource, document.resource);
                assert_eq!(again.documents[0].json, document.json);
            }
            let _ = set(&parsed.documents);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a refusal says why");
            assert!(mistakes.iter().all(|mistake| mistake.what.len() < 1000 && mistake.path.len() < 4000));
        }
    }
});
