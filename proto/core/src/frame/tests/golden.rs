//! Vectors computed by existing implementations, and ours of `docs/protocol.md`.

use super::super::cbor::{self, envelope};
use super::super::{Encoding, Number, checksum, json, sign};
use super::*;

const SIGNED: &str = concat!(
    r#"{"flags":["SYN"],"frag_seq":0,"meta":{"task_type":"qa"},"msg_seq":1,"nonce":"n1","payload":"#,
    r#"{"confidence":0.5,"content":{"text":"h\u00e9llo"},"type":"agent.result.partial"},"qos":"gold","#,
    r#""session_id":"s1","stream_id":"st1","ttl":8,"v":1,"window":"#,
    r#"{"max_parallel":4,"max_tokens":50000,"max_usd_micros":1000000}}"#
);
const SIGNATURE: &str = "74ca407798ba0b1eceb9b6f31aa503b5cd68d325e871d37997edd57a558a8aa0";

fn of_vectors() -> Frame {
    let mut frame = Frame { nonce: Some("n1".into()), ..plain() };
    frame.payload.confidence = Some(Number::Float(0.5));
    frame
}

#[test]
fn the_canonical_text_and_its_signature_are_those_of_existing_peers() {
    let frame = of_vectors();
    assert_eq!(sign::canonical(&frame), SIGNED);
    assert_eq!(sign::signature(b"secret", &frame), SIGNATURE);
    assert_eq!(json::decode(&bytes(SIGNED)).unwrap().frame, frame);
    assert_eq!(sign::canonical_json(&bytes(SIGNED)).unwrap(), SIGNED);
}

#[test]
fn floats_are_spelled_as_python_spells_them() {
    for (float, spelled) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1.5, "1.5"),
        (100.0, "100.0"),
        (0.05, "0.05"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1e-7, "1e-07"),
        (-1.25e-7, "-1.25e-07"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        // Halfway between two that are as short.
        (1_156_983_321_958_482.0 + 0.25, "1156983321958482.2"),
        (189_053_430_650_933.0 + 0.125, "189053430650933.12"),
    ] {
        let mut out = String::new();
        Number::Float(float).write_python(&mut out);
        assert_eq!(out, spelled);
    }
}

#[test]
fn a_signature_holds_through_every_encoding() {
    for encoding in Encoding::ALL {
        let again = encoding.decode(&encoding.encode(&of_vectors()).unwrap()).unwrap();
        assert_eq!(sign::signature(b"secret", &again), SIGNATURE, "{encoding:?}");
    }
}

#[test]
fn the_checksum_of_a_frame_is_that_of_existing_routers() {
    let sum = "5ee9a7e9965af083f4591935bfba90890c69ff0bc7018a5ce92e7e7bf64de435";
    let message = concat!(
        r#"{"v":1,"session_id":"s1","stream_id":"st1","msg_seq":1,"frag_seq":0,"flags":["SYN"],"#,
        r#""qos":"gold","ttl":8,"window":{"max_parallel":4,"max_tokens":50000,"max_usd_micros":1000000},"#,
        r#""meta":{"task_type":"qa","languages":null,"risk":null,"data_scope":null,"trace":null,"#,
        r#""tool_permissions":null,"environment_id":null,"security_groups":null},"#,
        r#""payload":{"type":"agent.result.partial","content":{"text":"héllo"},"confidence":0.9,"#,
        r#""cost_est":null,"checksum":null,"expiry_ms":null},"sig":null,"checksum":"SUM"}"#
    );
    let message = message.replace("SUM", sum);
    let frame = json::decode(&bytes(&message)).unwrap().frame;
    assert_eq!(checksum::of_frame(&frame), sum);
    assert_eq!(checksum::check_frame(&frame), Ok(()));
    let prefixed = Frame { checksum: Some(format!("sha256:{sum}").into()), ..frame.clone() };
    assert_eq!(checksum::check_frame(&prefixed), Ok(()));
    assert!(checksum::check_frame(&Frame { ttl: 7, ..frame }).is_err());
}

#[test]
fn checksums_of_fragments_and_their_root_are_those_of_existing_peers() {
    assert_eq!(checksum::of_fragment(b"hello"), "2cf24dba5fb0a30e");
    assert_eq!(checksum::of_fragment(b""), "e3b0c44298fc1c14");
    let root = checksum::merkle_root([&b"abcd"[..], b"efgh", b"ij"]);
    assert_eq!(root, "cec40c7927c6c2d6ca3642f8b3e701ff4e1db8d7c32676657afc124dca0815e0");
    assert_eq!(checksum::merkle_root([]), checksum::merkle_root([&b""[..]]));
}

#[test]
fn cbor_of_a_value_is_that_of_existing_peers() {
    let json = raw(r#"{"v":1,"b":[true,null,-5,300],"s":"hé","f":1.5}"#);
    let cbor = cbor::of_json(&json);
    let expected = "a4616284f5f62419012c6166fb3ff800000000000061736368c3a9617601";
    assert_eq!(checksum::hex(&cbor), expected);
    assert_eq!(cbor::to_json(&cbor).unwrap(), json);
}

#[test]
fn a_sealed_value_is_that_of_existing_peers_and_opens_for_its_key_only() {
    let value = raw(r#"{"v":1,"s":"x"}"#);
    let sealed = envelope::seal(b"k", &value);
    let expected = concat!(
        "41545043002a7b22616c67223a224853323536222c2263686b223a226372633332222c22666d74223a2263626f72227d",
        "00000008a26173617861760160939ed9467334b1bc97abc8f08121a093e0e2e931c83df5eea7d7f39728431cb953bae2"
    );
    assert_eq!(checksum::hex(&sealed), expected);
    assert_eq!(envelope::open(b"k", &sealed).unwrap(), value);
    assert!(envelope::open(b"other", &sealed).is_err());
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert!(envelope::open(b"k", &Bytes::from(changed)).is_err(), "byte {at}");
        assert!(envelope::open(b"k", &sealed.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn the_documentation_has_these_vectors() {
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let page = squeezed(include_str!("../../../../../docs/protocol.md"));
    let encoded = |encoding: Encoding| encoding.encode(&plain()).unwrap();
    let json = encoded(Encoding::Json);
    let vectors = [
        std::str::from_utf8(&json).unwrap().to_owned(),
        checksum::hex(&encoded(Encoding::Cbor)),
        checksum::hex(&encoded(Encoding::Bin)),
        checksum::hex(&envelope::seal(b"k", &raw(r#"{"v":1,"s":"x"}"#))),
        SIGNED.to_owned(),
        SIGNATURE.to_owned(),
    ];
    for vector in vectors {
        assert!(page.contains(&squeezed(&vector)), "{vector}");
    }
}
