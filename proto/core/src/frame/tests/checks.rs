use std::time::Duration;

use super::super::checksum::{self, Said};
use super::super::nonce::{CAPACITY, Nonces, Replayed, SPAN};
use super::super::sign::{KEYS_MAX, Keys, Unverified};
use super::super::{Code, Encoding, Number, What, json};
use super::*;
use crate::units::Moment;

#[test]
fn a_nonce_is_taken_once_in_a_minute() {
    let mut nonces = Nonces::default();
    let start = Moment(7);
    assert_eq!(nonces.on_nonce(start, "n1"), Ok(()));
    assert_eq!(nonces.on_nonce(start, "n2"), Ok(()));
    assert_eq!(nonces.on_nonce(start + (SPAN - Duration::from_nanos(1)), "n1"), Err(Replayed));
    assert_eq!(nonces.on_nonce(start + SPAN, "n1"), Ok(()));
    assert_eq!(nonces.len(), 1, "n2 is forgotten too");
}

#[test]
fn a_replay_does_not_make_a_nonce_last_longer() {
    let mut nonces = Nonces::new(Duration::from_secs(2), 10);
    let second = |seconds| Moment(0) + Duration::from_secs(seconds);
    assert_eq!(nonces.on_nonce(second(0), "n"), Ok(()));
    assert_eq!(nonces.on_nonce(second(1), "n"), Err(Replayed));
    assert_eq!(nonces.on_nonce(second(2), "n"), Ok(()));
}

#[test]
fn nonces_take_bounded_memory_and_the_oldest_goes_first() {
    let mut nonces = Nonces::default();
    for number in 0..=CAPACITY {
        assert_eq!(nonces.on_nonce(Moment(0), &number.to_string()), Ok(()));
    }
    assert_eq!(nonces.len(), CAPACITY);
    assert_eq!(nonces.on_nonce(Moment(0), "1"), Err(Replayed));
    assert_eq!(nonces.on_nonce(Moment(0), "0"), Ok(()));
    assert_eq!(nonces.on_nonce(Moment(0), "1"), Ok(()));
}

fn signed(keys: &Keys) -> Frame {
    let mut frame = plain();
    assert!(keys.sign(&mut frame));
    frame
}

#[test]
fn frames_under_way_stay_good_until_their_key_is_retired() {
    let mut keys = Keys::of_text("k1=one, k2=two").unwrap();
    let old = signed(&keys);
    assert_eq!(old.kid, Some("k1".into()));
    assert!(!keys.retire("k1"), "the one that signs stays");
    assert!(keys.rotate("k2") && !keys.rotate("k3"));
    let new = signed(&keys);
    assert_eq!(new.kid, Some("k2".into()));
    assert_eq!((keys.verify(&old), keys.verify(&new)), (Ok(()), Ok(())));
    assert!(keys.retire("k1") && !keys.retire("k1"));
    assert_eq!((keys.verify(&old), keys.verify(&new)), (Err(Unverified::UnknownKey), Ok(())));
    assert_eq!(signed(&keys), new, "the one that signs is the same after another has gone");
}

#[test]
fn every_change_of_a_signed_frame_is_found() {
    let keys = Keys::of_text("k1=secret").unwrap();
    let mut frame = signed(&keys);
    let changes: [fn(&mut Frame); 9] = [
        |frame| frame.session_id = "s2".into(),
        |frame| frame.msg_seq += 1,
        |frame| frame.flags = FlagSet::NONE.into(),
        |frame| frame.qos = Qos::Silver,
        |frame| frame.window.max_usd_micros += 1,
        |frame| frame.meta.risk = Some("low".into()),
        |frame| frame.payload.content = raw("{}"),
        |frame| frame.nonce = Some("n".into()),
        |frame| frame.ext.insert("x".into(), raw("1")),
    ];
    for change in changes {
        let mut changed = frame.clone();
        change(&mut changed);
        assert_eq!(keys.verify(&changed), Err(Unverified::Mismatch));
    }
    frame.kid = None;
    assert_eq!(keys.verify(&frame), Err(Unverified::NoKeyId));
    frame.sig = None;
    assert_eq!(keys.verify(&frame), Err(Unverified::Unsigned));
    assert_eq!(Unverified::Unsigned.code(), Code::Sec);
}

#[test]
fn a_json_message_is_verified_as_it_was_written() {
    let keys = Keys::of_text("k1=secret").unwrap();
    // Without flags, which the frame then has none of, but does have.
    let body = r#"{"kid":"k1","meta":{},"payload":{"content":1.50,"type":"log"},"z":"é"}"#;
    let covered = r#"{"kid":"k1","meta":{},"payload":{"content":1.5,"type":"log"},"z":"\u00e9"}"#;
    assert_eq!(super::super::sign::canonical_json(&bytes(body)).unwrap(), covered);
    let sig = {
        use hmac::Mac;
        checksum::hex(&super::super::sign::mac(b"secret", covered.as_bytes()).finalize().into_bytes())
    };
    let message = body.replacen('{', &format!("{{\"sig\": \"{sig}\" , "), 1);
    assert_eq!(keys.verify_json(&bytes(&message)), Ok(()));
    assert_eq!(keys.verify_json(&bytes(&message.replace("log", "lag"))), Err(Unverified::Mismatch));
    assert!(matches!(keys.verify_json(&bytes("[]")), Err(Unverified::Malformed(_))));
    // As deep as a frame may be.
    let deepest = format!(r#"{{"payload":{{"content":{}0{}}}}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(keys.verify_json(&bytes(&deepest)), Err(Unverified::Unsigned));
}

#[test]
fn keys_have_names_secrets_and_a_bound_and_never_show_what_they_are() {
    let mut keys = Keys::default();
    assert!(!keys.sign(&mut plain()));
    assert!(!keys.add("", Bytes::from_static(b"x")) && !keys.add("k", Bytes::new()));
    for number in 0..KEYS_MAX {
        assert!(keys.add(number.to_string(), Bytes::from_static(b"tops3cret")));
    }
    assert!(!keys.add("more", Bytes::from_static(b"x")));
    assert!(keys.add("0", Bytes::from_static(b"changed")), "a name that is there takes no room");
    assert!(!format!("{keys:?}").contains("tops3cret"));
    assert!(Keys::of_text("k1").is_none() && Keys::of_text("k1=").is_none());
}

#[test]
fn a_fragment_is_checked_by_itself_and_a_root_by_the_whole_message() {
    let said = Said::of_text("sha256:2cf24dba5fb0a30e").unwrap();
    assert_eq!((said.is_true_of(b"hello"), said.is_true_of(b"hell")), (Some(true), Some(false)));
    assert_eq!(Said::of_text("2CF24DBA5FB0A30E"), Some(said));
    let root = Said::of_text(&checksum::merkle_root([&b"hello"[..]])).unwrap();
    assert_eq!(root.is_true_of(b"hello"), None);
    assert!(matches!(root, Said::Root(_)));
    for wrong in ["", "2cf24dba5fb0a30", "2cf24dba5fb0a30g", "sha256:", "2cf24dba5fb0a30e00"] {
        assert_eq!(Said::of_text(wrong), None, "{wrong}");
    }
}

#[test]
fn a_checksum_counts_confidence_with_32_bits_or_all() {
    let mut frame = plain();
    frame.payload.confidence = Some(Number::Float(0.9));
    frame.checksum = Some(checksum::of_frame(&frame).into());
    assert_eq!(checksum::check_frame(&frame), Ok(()));
    let wide = checksum::hex(&{
        use sha2::Digest;
        let node = frame.node().without(&["checksum", "sig"]);
        sha2::Sha256::digest(node.text(super::super::node::Style::Plain))
    });
    frame.checksum = Some(wide.into());
    assert_eq!(checksum::check_frame(&frame), Ok(()));
    frame.checksum = Some("sha256:00".into());
    assert_eq!(checksum::check_frame(&frame).unwrap_err().what, What::Checksum);
    frame.checksum = None;
    assert_eq!(checksum::check_frame(&frame), Ok(()));
}

#[test]
fn every_code_is_read_as_it_is_written_in_either_case() {
    for code in Code::ALL {
        assert_eq!(Code::of_text(code.as_str()), Some(code));
        assert_eq!(Code::of_text(&code.as_str().to_lowercase()), Some(code));
        assert!(code.as_str().starts_with('E'));
    }
    assert_eq!(Code::of_text("EWHATEVER"), None);
    assert_eq!(json::decode(&bytes("{")).unwrap_err().code(), Code::Proto);
}

#[test]
fn no_encoder_writes_what_no_decoder_takes() {
    type Change = fn(&mut Frame);
    let changes: [(Change, What); 12] = [
        (|frame| frame.ext.insert("ttl".into(), raw("1")), What::Contradiction),
        (|frame| frame.ext.insert("msgSeq".into(), raw("1")), What::Contradiction),
        (|frame| frame.ext.insert("ttl".into(), raw("null")), What::Contradiction),
        (|frame| frame.ext.insert("sig".into(), raw("\"x\"")), What::Contradiction),
        (|frame| frame.meta.ext.insert("taskType".into(), raw("null")), What::Contradiction),
        (|frame| frame.window_ext.insert("max_tokens".into(), raw("1")), What::Contradiction),
        (|frame| frame.payload.cost_ext.insert("x".into(), raw("1")), What::Missing),
        (|frame| frame.payload.confidence = Some(Number::Float(1.5)), What::Range),
        (|frame| frame.meta.trace = Some(RawJson::NULL), What::WrongType),
        (|frame| frame.telemetry = Some(raw("1")), What::WrongType),
        (|frame| frame.flags = flags(&[""]), What::Range),
        (|frame| frame.payload.kind = "x".repeat(256).into(), What::TooLong),
    ];
    for (at, (change, what)) in changes.into_iter().enumerate() {
        let mut frame = plain();
        change(&mut frame);
        for encoding in Encoding::ALL {
            assert_eq!(encoding.encode(&frame).unwrap_err().what, what, "change {at} in {encoding:?}");
        }
    }
}

#[test]
fn signing_takes_the_place_of_nulls_that_were_sent() {
    let mut frame = plain();
    frame.ext.insert("sig".into(), RawJson::NULL);
    frame.ext.insert("kid".into(), RawJson::NULL);
    assert!(Keys::of_text("k=s").unwrap().sign(&mut frame));
    assert!(frame.check().is_ok() && frame.ext.is_empty());
}

#[test]
fn flags_are_a_set_and_keep_the_list_they_came_as() {
    let mut flags = flags(&["SYN", "x", "ACK", "SYN"]);
    assert!(flags.has(FlagSet::SYN.union(FlagSet::ACK)));
    flags.add(FlagSet::ECN.union(FlagSet::SYN));
    assert_eq!(flags.names().collect::<Vec<_>>(), ["SYN", "x", "ACK", "SYN", "ECN"]);
    flags.remove(FlagSet::SYN);
    assert_eq!(flags.names().collect::<Vec<_>>(), ["x", "ACK", "ECN"]);
    let mut plain: Flags = FlagSet::SYN.into();
    plain.add(FlagSet::ACK);
    assert_eq!((plain.listed(), plain.names().collect::<Vec<_>>()), (None, vec!["ACK", "SYN"]));
    assert_eq!(super::flags(&["ACK", "SYN"]), plain);
    assert_eq!(FlagSet::of_bits(1 << 13), None);
}

#[test]
fn encodings_are_told_apart_by_byte_name_and_type() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::of_byte(encoding.byte()), Some(encoding));
        assert!(encoding.subprotocol().starts_with("atp.") && encoding.content_type().contains("atp+"));
    }
    assert_eq!(Encoding::of_byte(3), None);
}

#[test]
fn the_narrower_of_two_windows_is_narrower_in_each_of_its_three() {
    let wanted = Window { max_parallel: 2000, max_tokens: 5, max_usd_micros: u64::MAX };
    let granted = wanted.min(Window::WIDEST);
    assert_eq!(granted, Window { max_parallel: 1000, max_tokens: 5, max_usd_micros: 10_000_000_000 });
}
