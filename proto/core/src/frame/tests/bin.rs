use super::super::bin::{HEADER_BYTES, QosByte, View, encode, encode_parts};
use super::super::checksum::hex;
use super::super::crc::crc32c;
use super::super::{FRAME_BYTES_MAX, FlagSet, Number, What, cbor};
use super::*;

/// The vector of docs/protocol.md: header, then sections.
const PLAIN: &str = concat!(
    "ffa701020400081400000000000000010000000000000004000000000000c350",
    "00000000000f424000020003000000120000000000000011e390fe29c4417a14",
    "73317374316167656e742e726573756c742e7061727469616c7b227461736b5f74797065223a227161227d7b22746578",
    "74223a2268c3a96c6c6f227d"
);

#[test]
fn a_frame_has_the_documented_layout() {
    assert_eq!(hex(&encode(&plain()).unwrap()), PLAIN);
}

/// A frame with each section, and something in each.
fn full() -> Frame {
    let mut frame = Frame { flags: flags(&["SYN", "ACK"]), qos: Qos::Other("platinum".into()), ..plain() };
    frame.payload.confidence = Some(Number::Float(0.5));
    frame.window_ext.insert("x".into(), raw("1"));
    frame
}

#[test]
fn an_unopened_frame_says_who_where_and_what() {
    let view = View::read(encode(&full()).unwrap()).unwrap();
    assert_eq!((view.session_id(), view.stream_id(), view.kind()), ("s1", "st1", "agent.result.partial"));
    assert_eq!(view.meta(), br#"{"task_type":"qa"}"#);
    assert_eq!(view.content(), r#"{"text":"héllo"}"#.as_bytes());
    let ext = r#"{"flags":["SYN","ACK"],"qos":"platinum","window":{"x":1},"payload":{"confidence":0.5}}"#;
    assert_eq!(view.ext(), ext.as_bytes());
    let header = view.header();
    assert_eq!((header.qos, header.ttl, header.msg_seq), (QosByte::Other, 8, 1));
    assert_eq!(header.flags, FlagSet::SYN.union(FlagSet::ACK));
    assert_eq!(view.frame().unwrap(), full());
}

#[test]
fn the_content_of_an_encoded_frame_is_not_copied() {
    let frame = plain();
    let [head, content] = encode_parts(&frame).unwrap();
    assert_eq!(content.as_ptr(), frame.payload.content.as_bytes().as_ptr());
    assert_eq!([head, content].concat(), encode(&frame).unwrap());
}

#[test]
fn a_frame_is_passed_on_with_a_new_header_and_the_same_sections() {
    for frame in [plain(), full()] {
        let view = View::read(encode(&frame).unwrap()).unwrap();
        let header = view.next_hop(7, FlagSet::ECN);
        let next = View::read([&header[..], &view.sections()].concat().into()).unwrap();
        let mut expected = Frame { ttl: 7, ..frame };
        expected.flags.add(FlagSet::ECN);
        assert_eq!(next.frame().unwrap(), expected);
    }
}

#[test]
fn a_changed_content_is_passed_on_and_found_by_who_opens_it() {
    let mut message = encode(&plain()).unwrap().to_vec();
    *message.last_mut().unwrap() ^= 1;
    let view = View::read(message.into()).unwrap();
    assert!(!view.is_intact());
    assert_eq!(view.frame().unwrap_err().what, What::Checksum);
}

#[test]
fn every_byte_of_the_header_is_checked_before_any_is_believed() {
    let message = encode(&plain()).unwrap();
    for at in 0..HEADER_BYTES {
        let mut changed = message.to_vec();
        changed[at] ^= 0x10;
        assert!(View::read(changed.into()).is_err(), "byte {at}");
    }
}

/// The header after a change, with its checksum put right.
fn sealed(mut message: Vec<u8>, change: impl Fn(&mut [u8])) -> Bytes {
    change(&mut message);
    let sections = crc32c(&[&message[HEADER_BYTES..]]);
    message[56..60].copy_from_slice(&sections.to_be_bytes());
    let header = crc32c(&[&message[..60]]);
    message[60..64].copy_from_slice(&header.to_be_bytes());
    message.into()
}

fn refusal(change: impl Fn(&mut [u8])) -> What {
    View::read(sealed(encode(&plain()).unwrap().to_vec(), change)).unwrap_err().what
}

#[test]
fn headers_of_another_kind_are_refused() {
    assert_eq!(refusal(|bytes| bytes[0] = b'{'), What::Syntax);
    assert_eq!(refusal(|bytes| bytes[2] = 2), What::Version);
    assert_eq!(refusal(|bytes| bytes[3] = 3), What::Range);
    assert_eq!(refusal(|bytes| bytes[4] = 0x80), What::Range);
    assert_eq!(refusal(|bytes| bytes[55] += 1), What::Truncated);
    assert_eq!(refusal(|bytes| bytes[55] -= 1), What::Trailing);
    assert_eq!(refusal(|bytes| bytes[40..42].fill(0xff)), What::TooLong);
    for word in 0..3 {
        assert_eq!(refusal(|bytes| bytes[HEADER_BYTES + 2 * word] = 0xff), What::Utf8);
    }
}

/// The frame with this `ext`, whatever the header says.
fn with_ext(ext: &str, header: impl Fn(&mut [u8])) -> Result<Frame, What> {
    let message = encode(&plain()).unwrap();
    let view = View::read(message.clone()).unwrap();
    let (before, content) = message.split_at(message.len() - view.content().len());
    let message = [before, ext.as_bytes(), content].concat();
    let message = sealed(message, |bytes| {
        bytes[48..52].copy_from_slice(&(ext.len() as u32).to_be_bytes());
        header(bytes);
    });
    View::read(message).unwrap().frame().map_err(|wrong| wrong.what)
}

#[test]
fn ext_says_nothing_that_is_said_elsewhere() {
    for ext in [
        r#"{"v":1}"#,
        r#"{"session_id":"other"}"#,
        r#"{"stream_id":"other"}"#,
        r#"{"msg_seq":2}"#,
        r#"{"msgSeq":2}"#,
        r#"{"frag_seq":2}"#,
        r#"{"ttl":2}"#,
        r#"{"meta":{}}"#,
        r#"{"window":{"max_tokens":1}}"#,
        r#"{"payload":{"type":"x"}}"#,
        r#"{"payload":{"content":1}}"#,
        r#"{"qos":"gold"}"#,
        r#"{"qos":"platinum"}"#,
        r#"{"flags":["ACK"]}"#,
    ] {
        assert_eq!(with_ext(ext, |_| ()), Err(What::Contradiction), "{ext}");
    }
    assert_eq!(with_ext("{}", |bytes| bytes[3] = 255), Err(What::Contradiction));
    assert_eq!(with_ext("[]", |_| ()), Err(What::WrongType));
    assert_eq!(with_ext("{} ", |_| ()), Ok(plain()));
    assert_eq!(with_ext("{}{}", |_| ()), Err(What::Trailing));
}

#[test]
fn what_marked_a_frame_on_its_way_counts_beside_the_list_it_came_with() {
    let frame = with_ext(r#"{"flags":["x","SYN"]}"#, |bytes| bytes[5] |= 4).unwrap();
    assert_eq!(frame.flags, flags(&["x", "SYN", "ECN"]));
}

#[test]
fn a_frame_of_one_mebibyte_passes_and_one_byte_more_does_not() {
    let of_size = |encode: fn(&Frame) -> Result<Bytes, super::super::Malformed>, size: usize| {
        let mut frame = plain();
        frame.payload.content = RawJson::of_text(&"x".repeat(1 << 19));
        let rest = encode(&frame).unwrap().len() - (1 << 19);
        frame.payload.content = RawJson::of_text(&"x".repeat(size - rest));
        encode(&frame)
    };
    for encode in [encode, cbor::encode] {
        assert_eq!(of_size(encode, FRAME_BYTES_MAX).unwrap().len(), FRAME_BYTES_MAX);
        assert_eq!(of_size(encode, FRAME_BYTES_MAX + 1).unwrap_err().what, What::FrameBytes);
    }
    let longer = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    assert_eq!(View::read(longer.clone()).unwrap_err().what, What::FrameBytes);
    assert_eq!(cbor::decode(&longer).unwrap_err().what, What::FrameBytes);
}
