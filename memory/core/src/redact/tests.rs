//! What is replaced, and what must not be.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn redacted(input: &str) -> (String, Found) {
    let mut found = Found::default();
    let out = text(input, &mut found).into_owned();
    (out, found)
}

#[test]
fn each_shape_is_replaced_by_a_word_that_says_what_it_was() {
    let table = [
        ("ann@example.com", "[redacted-email]"),
        ("mail <ann.b+x@mail.example.co.uk>.", "mail <[redacted-email]>."),
        ("a@b.de,c@d.org", "[redacted-email],[redacted-email]"),
        ("jörg@müller.de", "[redacted-email]"),
        ("+49 170 1234567", "[redacted-phone]"),
        ("call +1 (555) 123-4567 now", "call [redacted-phone] now"),
        ("(555) 123-4567", "[redacted-phone]"),
        ("(555)123.4567", "[redacted-phone]"),
        ("555-123-4567", "[redacted-phone]"),
        ("1 555 123 4567", "[redacted-phone]"),
        ("ssn 123-45-6789.", "ssn [redacted-ssn]."),
        ("123 45 6789", "[redacted-ssn]"),
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111!", "****-****-****-1111!"),
        ("card=378282246310005", "card=***********0005"),
        ("4111111111111111 555-123-4567", "************1111 [redacted-phone]"),
        ("ann@example.com 123-45-6789", "[redacted-email] [redacted-ssn]"),
    ];
    for (input, expected) in table {
        assert_eq!(redacted(input).0, expected, "{input}");
    }
}

#[test]
fn what_only_resembles_them_is_kept() {
    let kept = [
        "",
        "hello",
        "@",
        "ann@",
        "@example.com",
        "ann@example",
        "ann@example.",
        "ann@.com",
        "ann@a..com",
        "version 1.2@3.4",
        "4111 1111 1111 1112",
        "order 12345678",
        "a4111111111111111",
        "4111111111111111x",
        "0.4111111111111111",
        "0000000000000000",
        "1795369654",
        "192.168.100.200",
        "2026-11-22",
        "555-123-45678",
        "1555-123-4567",
        "000-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123-45 6789",
        "+1234567",
        "+1234567890123456",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "(12) 123-4567",
        "über 9000",
    ];
    for input in kept {
        assert_eq!(redacted(input), (input.to_owned(), Found::default()), "{input}");
    }
}

#[test]
fn values_under_secret_names_go_whatever_they_are() {
    let mut value = json!({
        "password": "hunter2",
        "API-Key": ["a", "b"],
        "apiKey": {"deep": true},
        "credit_card": 5,
        "token": null,
        "max_tokens": 64,
        "profile": {"Secret": "x", "note": "call 555-123-4567", "list": ["ann@example.com", 7, true]},
        "card": 4_111_111_111_111_111_u64,
        "at": 1_795_369_654_123_u64,
    });
    let mut found = Found::default();
    json(&mut value, &mut found);
    assert_eq!(
        value,
        json!({
            "password": "[redacted]",
            "API-Key": "[redacted]",
            "apiKey": "[redacted]",
            "credit_card": "[redacted]",
            "token": null,
            "max_tokens": 64,
            "profile": {
                "Secret": "[redacted]",
                "note": "call [redacted-phone]",
                "list": ["[redacted-email]", 7, true],
            },
            "card": "************1111",
            "at": 1_795_369_654_123_u64,
        })
    );
    assert_eq!(found, Found { emails: 1, phones: 1, ssns: 0, cards: 1, secrets: 5 });
    assert_eq!(found.total(), 8);
}

proptest! {
    #[test]
    fn any_text_is_taken_and_nothing_is_found_twice(input in "[ a-z0-9@.+()/é-]{0,60}") {
        let (once, found) = redacted(&input);
        prop_assert_eq!(found.total() == 0, once == input);
        let (twice, _) = redacted(&once);
        prop_assert_eq!(&redacted(&twice).0, &twice, "comes to rest");
    }

    #[test]
    fn an_address_is_found_in_any_surroundings(before in "[ a-z,;!é]{0,20}", after in "[ ,;!]{0,20}") {
        let (out, found) = redacted(&format!("{before} ann@example.com {after}"));
        prop_assert_eq!(out, format!("{before} [redacted-email] {after}"));
        prop_assert_eq!(found.emails, 1);
    }
}
