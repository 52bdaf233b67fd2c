use super::super::cbor::{decode, encode, of_json, to_json};
use super::super::checksum::hex;
use super::super::{Number, What};
use super::*;

fn refusal(cbor: &[u8]) -> What {
    to_json(&Bytes::copy_from_slice(cbor)).unwrap_err().what
}

/// The vector of docs/protocol.md.
const PLAIN: &str = concat!(
    "ab65666c616773816353594e68667261675f73657100646d657461a1697461736b5f74797065627161676d73675f7365",
    "7101677061796c6f6164a267636f6e74656e74a164746578746668c3a96c6c6f6474797065746167656e742e72657375",
    "6c742e7061727469616c63716f7364676f6c646a73657373696f6e5f69646273316973747265616d5f69646373743163",
    "74746c086176016677696e646f77a36c6d61785f706172616c6c656c046a6d61785f746f6b656e7319c3506e6d61785f",
    "7573645f6d6963726f731a000f4240"
);

#[test]
fn a_frame_is_the_documented_map() {
    assert_eq!(hex(&encode(&plain()).unwrap()), PLAIN);
    assert_eq!(decode(&encode(&plain()).unwrap()).unwrap(), plain());
}

#[test]
fn each_value_has_one_spelling_and_no_other_is_taken() {
    for (json, cbor) in [
        ("0", &[0x00][..]),
        ("23", &[0x17]),
        ("24", &[0x18, 24]),
        ("255", &[0x18, 0xff]),
        ("256", &[0x19, 1, 0]),
        ("65536", &[0x1a, 0, 1, 0, 0]),
        ("4294967296", &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("-1", &[0x20]),
        ("-18446744073709551616", &[0x3b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("1.0", &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("\"\"", &[0x60]),
        ("[]", &[0x80]),
        ("{}", &[0xa0]),
        (r#"{"b":1,"aa":2}"#, &[0xa2, 0x62, b'a', b'a', 2, 0x61, b'b', 1]),
    ] {
        assert_eq!(of_json(&raw(json)), cbor, "{json}");
        assert_eq!(to_json(&Bytes::copy_from_slice(cbor)).unwrap(), raw(json), "{json}");
    }
    for (cbor, what) in [
        (&[0x18, 23][..], What::NotCanonical),
        (&[0x19, 0, 0xff], What::NotCanonical),
        (&[0x1a, 0, 0, 0xff, 0xff], What::NotCanonical),
        (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], What::NotCanonical),
        (&[0x78, 1, b'a'], What::NotCanonical),
        (&[0x7f, 0xff], What::NotCanonical),
        (&[0x9f, 0xff], What::NotCanonical),
        (&[0xbf, 0xff], What::NotCanonical),
        (&[0xf9, 0x3c, 0], What::NotCanonical),
        (&[0xfa, 0x3f, 0x80, 0, 0], What::NotCanonical),
        (&[0xa2, 0x61, b'b', 1, 0x62, b'a', b'a', 2], What::NotCanonical),
        (&[0xa2, 0x61, b'b', 1, 0x61, b'b', 2], What::Duplicate),
        (&[0xa1, 0x01, 0x01], What::WrongType),
        (&[0x41, 0], What::Unrepresentable),
        (&[0xc0, 0x60], What::Unrepresentable),
        (&[0xf7], What::Unrepresentable),
        (&[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], What::Unrepresentable),
        (&[0x61, 0xff], What::Utf8),
        (&[0x00, 0x00], What::Trailing),
        (&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], What::Truncated),
        (&[0x7b, 255, 255, 255, 255, 255, 255, 255, 255], What::Truncated),
        (&[], What::Truncated),
    ] {
        assert_eq!(refusal(cbor), what, "{cbor:02x?}");
    }
    assert_eq!(refusal(&[0x81; 200]), What::Depth);
}

#[test]
fn text_stays_where_it_came_in() {
    let message = encode(&plain()).unwrap();
    let frame = decode(&message).unwrap();
    assert!(message.as_ptr_range().contains(&frame.session_id.as_str().as_ptr()));
}

#[test]
fn an_integer_stays_one_and_a_float_too() {
    let mut frame = plain();
    for confidence in [Number::Positive(1), Number::Float(1.0), Number::Float(-0.0)] {
        frame.payload.confidence = Some(confidence);
        assert_eq!(decode(&encode(&frame).unwrap()).unwrap().payload.confidence, Some(confidence));
    }
}

#[test]
fn other_shapes_are_for_json_only() {
    let flat = raw(r#"{"type":"heartbeat","window":{},"meta":{},"payload":{}}"#);
    assert_eq!(decode(&of_json(&flat)).unwrap_err().what, What::Missing);
}
