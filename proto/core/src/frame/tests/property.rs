//! What holds for every frame, and for every sequence of bytes.

use proptest::prelude::*;

use super::super::bin::View;
use super::super::cbor::envelope;
use super::super::node::Style;
use super::super::sign::{self, Keys};
use super::super::{Encoding, Malformed, cbor, checksum, json};
use super::arbitrary::{frame, json as any_json, number};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_encoding_to_any_and_back_is_the_same_frame(frame in frame()) {
        for one in Encoding::ALL {
            let first = one.decode(&one.encode(&frame).unwrap());
            prop_assert_eq!(first.as_ref(), Ok(&frame), "{:?}", one);
            for other in Encoding::ALL {
                let there = other.decode(&other.encode(first.as_ref().unwrap()).unwrap()).unwrap();
                let back = one.decode(&one.encode(&there).unwrap()).unwrap();
                prop_assert_eq!(&back, &frame, "{:?} to {:?} and back", one, other);
            }
        }
    }

    #[test]
    fn what_is_signed_and_summed_is_the_same_in_every_encoding(frame in frame()) {
        let mut frame = frame;
        frame.ext.remove("checksum");
        frame.checksum = Some(checksum::of_frame(&frame).into());
        let keys = Keys::of_text("k1=secret").unwrap();
        prop_assert!(keys.sign(&mut frame));
        for encoding in Encoding::ALL {
            let message = encoding.encode(&frame).unwrap();
            let again = encoding.decode(&message).unwrap();
            prop_assert_eq!(keys.verify(&again), Ok(()), "{:?}", encoding);
            prop_assert_eq!(checksum::check_frame(&again), Ok(()), "{:?}", encoding);
            if encoding == Encoding::Json {
                prop_assert_eq!(keys.verify_json(&message), Ok(()));
            }
        }
        let moved = Frame { ttl: frame.ttl.wrapping_add(1), ..frame };
        prop_assert_eq!(keys.verify(&moved), Err(sign::Unverified::Mismatch));
        prop_assert!(checksum::check_frame(&moved).is_err());
    }

    #[test]
    fn one_value_has_one_spelling_in_cbor(frame in frame()) {
        let message = cbor::encode(&frame).unwrap();
        prop_assert_eq!(cbor::encode(&cbor::decode(&message).unwrap()).unwrap(), message);
    }

    #[test]
    fn any_json_is_the_same_value_to_another_reader(json in any_json()) {
        let ours: serde_json::Value = serde_json::from_str(&json.node().text(Style::Plain)).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(json.as_str()).unwrap();
        prop_assert_eq!(ours, theirs);
        prop_assert_eq!(&cbor::to_json(&cbor::of_json(&json)).unwrap(), &json);
        prop_assert_eq!(&envelope::open(b"k", &envelope::seal(b"k", &json)).unwrap(), &json);
        let ascii = json.node().text(Style::Python);
        prop_assert!(ascii.is_ascii());
        prop_assert_eq!(RawJson::parse(ascii).unwrap(), json);
    }

    #[test]
    fn numbers_read_back_from_both_spellings(number in number()) {
        for style in [Style::Plain, Style::Python] {
            let text = super::super::node::Node::Number(number).text(style);
            prop_assert_eq!(super::super::Number::of_json(&text), Some(number), "{}", text);
        }
    }

    #[test]
    fn no_bytes_upset_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        for encoding in Encoding::ALL {
            let _ = encoding.decode(&bytes);
        }
        let _ = (cbor::to_json(&bytes), envelope::open(b"k", &bytes), RawJson::parse(bytes));
    }

    #[test]
    fn a_frame_with_one_byte_changed_is_refused_or_is_a_frame(
        frame in frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        for encoding in Encoding::ALL {
            let mut changed = encoding.encode(&frame).unwrap().to_vec();
            let at = at.index(changed.len());
            let is_changed = std::mem::replace(&mut changed[at], byte) != byte;
            let decoded = encoding.decode(&changed.into());
            if encoding == Encoding::Bin && is_changed {
                prop_assert!(decoded.is_err(), "both checksums together cover every byte");
            }
            if let Ok(decoded) = decoded {
                let again = Encoding::Cbor.decode(&Encoding::Cbor.encode(&decoded).unwrap());
                prop_assert_eq!(again, Ok(decoded));
            }
        }
    }

    #[test]
    fn a_frame_that_was_cut_is_refused(frame in frame(), at in any::<prop::sample::Index>()) {
        for encoding in Encoding::ALL {
            let whole = encoding.encode(&frame).unwrap();
            let cut = whole.slice(..at.index(whole.len()));
            prop_assert!(encoding.decode(&cut).is_err(), "{:?}", encoding);
        }
    }

    #[test]
    fn json_is_taken_where_another_reader_takes_it_and_nowhere_else(
        text in r#"[\[\]{}:,"\\ a-c0-2.eE+\-untrlsf]{0,12}"#,
    ) {
        let ours = RawJson::parse(text.clone());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let differs_on_purpose = |wrong: &Malformed| {
            matches!(wrong.what, super::super::What::Duplicate | super::super::What::Unrepresentable)
        };
        match ours {
            Ok(_) => prop_assert!(theirs.is_ok(), "{}", text),
            Err(wrong) => {
                prop_assert!(theirs.is_err() || differs_on_purpose(&wrong), "{}: {:?}", text, wrong);
            }
        }
    }
}

#[test]
fn a_header_that_was_sealed_again_never_upsets_a_view() {
    // Random bytes never pass the header's checksum, so these pass it on purpose.
    let whole = Encoding::Bin.encode(&plain()).unwrap();
    for at in 0..60 {
        for byte in [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff] {
            let mut changed = whole.to_vec();
            changed[at] = byte;
            let crc = super::super::crc::crc32c(&[&changed[..60]]);
            changed[60..64].copy_from_slice(&crc.to_be_bytes());
            let sections_crc = super::super::crc::crc32c(&[&changed[64..]]);
            assert_eq!(&whole[56..60], sections_crc.to_be_bytes());
            if let Ok(view) = View::read(changed.into()) {
                let _ = (view.session_id(), view.stream_id(), view.frame());
            }
        }
    }
    let _ = json::decode(&whole);
}
