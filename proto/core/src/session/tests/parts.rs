//! Messages in parts: how they are cut, and put together in both styles.

use proptest::prelude::*;

use super::kit::{at, say, window};
use super::*;
use crate::frame::checksum::{merkle_root, of_fragment};
use crate::frame::{FlagSet, Frame, RawJson, Text};
use crate::session::cut::Cut;
use crate::session::fragment::{Assembly, Taken, is_fragment};
use crate::session::replay::Outbound;

fn place() -> Place {
    Place { session_id: "s".into(), stream_id: "1".into(), msg_seq: 1, window: window(1), ..Place::default() }
}

fn frames(message: Message, part_bytes: usize) -> Vec<Frame> {
    let mut out = Outbound::default();
    out.push(message);
    let cut = Cut { whole_bytes: part_bytes, part_bytes };
    std::iter::from_fn(|| out.poll(place(), cut)).collect()
}

fn part(frag_seq: u32, flags: FlagSet, content: &str) -> Frame {
    let mut frame = Message::new("note", RawJson::parse(content.to_owned()).unwrap()).into_frame(place());
    frame.frag_seq = frag_seq;
    frame.flags = flags.into();
    frame
}

/// FRAG, and the rest.
fn frag(frag_seq: u32, flags: FlagSet, text: &str) -> Frame {
    part(frag_seq, FlagSet::FRAG.union(flags), &format!(r#"{{"text":"{text}"}}"#))
}

fn sum(mut frame: Frame, sum: &str) -> Frame {
    frame.payload.checksum = Some(Text::from(sum));
    frame
}

fn assemble(frames: impl IntoIterator<Item = Frame>) -> Result<Option<Message>, Refusal> {
    let mut assembly = Assembly::default();
    let mut whole = None;
    for frame in frames {
        assert!(is_fragment(&frame));
        if let Taken::Whole(message, _) = assembly.on_fragment(frame, &Limits::default())? {
            whole = Some(*message);
        }
    }
    Ok(whole)
}

fn reason(frames: impl IntoIterator<Item = Frame>) -> String {
    assemble(frames).unwrap_err().reason.as_str().to_owned()
}

proptest! {
    #[test]
    fn what_is_cut_anywhere_and_arrives_in_any_order_is_whole_again(
        text in prop::collection::vec(any::<char>(), 1..400),
        part_bytes in 8..200_usize,
        order in any::<u64>(),
        is_last in any::<bool>(),
    ) {
        let text: String = text.into_iter().collect();
        let message = Message { is_last, meta: Some(Box::default()), ..say(&text) };
        let mut frames = frames(message.clone(), part_bytes);
        if frames.len() == 1 {
            prop_assert_eq!(&frames[0].payload.content, &message.content);
            return Ok(());
        }
        let last = frames.len() - 1;
        for (at, frame) in frames.iter().enumerate() {
            prop_assert_eq!(frame.frag_seq as usize, at);
            prop_assert_eq!(frame.flags.has(FlagSet::MORE), at < last);
            prop_assert_eq!(frame.flags.has(FlagSet::FIN), is_last && at == last);
        }
        let count = frames.len() as u64;
        frames.sort_by_key(|frame| (u64::from(frame.frag_seq) * 7919 + order) % count);
        let whole = assemble(frames).unwrap().unwrap();
        prop_assert_eq!(whole.content, message.content);
        prop_assert_eq!(whole.is_last, is_last);
    }
}

#[test]
fn both_styles_make_the_same_message_whatever_the_order() {
    let (none, more, last) = (FlagSet::NONE, FlagSet::MORE, FlagSet::LAST);
    let styles = [
        vec![frag(0, none, "ab"), frag(1, none, "cd"), frag(2, last, "e")],
        vec![frag(2, last, "e"), frag(0, none, "ab"), frag(1, none, "cd")],
        // As a converter makes them of the first: the last says neither.
        vec![frag(0, more, "ab"), frag(1, more, "cd"), frag(2, none, "e")],
        vec![frag(2, none, "e"), frag(1, more, "cd"), frag(0, more, "ab")],
        vec![part(0, more, r#""{\"text\":\"a""#), part(1, more, r#""bcd""#), part(2, none, r#""e\"}""#)],
        vec![frag(0, last, "abcde")],
    ];
    for frames in styles {
        let flags: Vec<_> = frames.iter().map(|frame| frame.flags.clone()).collect();
        let whole = assemble(frames).unwrap().unwrap_or_else(|| panic!("{flags:?}"));
        assert_eq!(whole.content.as_str(), r#"{"text":"abcde"}"#, "{flags:?}");
    }
}

#[test]
fn a_part_that_is_missing_keeps_the_message_waiting_and_is_named() {
    let mut assembly = Assembly::default();
    let limits = Limits::default();
    for frame in [frag(0, FlagSet::NONE, "a"), frag(3, FlagSet::NONE, "d")] {
        assert_eq!(assembly.on_fragment(frame, &limits), Ok(Taken::Waiting));
    }
    assert_eq!(assembly.missing(9), None);
    assert_eq!(assembly.on_fragment(frag(5, FlagSet::LAST, "f"), &limits), Ok(Taken::Waiting));
    assert_eq!(assembly.missing(9), Some(vec![1, 2, 4]));
    assert_eq!(assembly.missing(2), Some(vec![1, 2]));
    assert_eq!(assembly.on_fragment(frag(3, FlagSet::NONE, "d"), &limits), Ok(Taken::Duplicate));
}

#[test]
fn sums_of_parts_and_the_root_over_all_of_them_are_checked() {
    let (none, last) = (FlagSet::NONE, FlagSet::LAST);
    let good = [sum(frag(0, none, "ab"), &of_fragment(b"ab")), sum(frag(1, last, "c"), &of_fragment(b"c"))];
    assert!(assemble(good).unwrap().is_some());
    let root = merkle_root([&b"ab"[..], b"c"]);
    let rooted = [sum(frag(1, last, "c"), &root), sum(frag(0, none, "ab"), &root)];
    assert!(assemble(rooted).unwrap().is_some());
    let wrong_part = "a fragment does not match its checksum";
    assert_eq!(reason([sum(frag(0, none, "ab"), &of_fragment(b"ax"))]), wrong_part);
    assert_eq!(reason([sum(frag(0, none, "ab"), "no sum")]), wrong_part);
    let two_roots = [sum(frag(0, none, "ab"), &root), sum(frag(1, last, "c"), &merkle_root([&b"c"[..]]))];
    assert_eq!(reason(two_roots), wrong_part);
    // Other parts of the same text have another root.
    let moved = [sum(frag(0, none, "a"), &root), sum(frag(1, last, "bc"), &root)];
    assert_eq!(reason(moved), "the message does not match its checksum");
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let (none, more, last) = (FlagSet::NONE, FlagSet::MORE, FlagSet::LAST);
    let cases = [
        (vec![frag(0, none, "a"), part(1, more, r#""b""#)], "fragments of two kinds in one message"),
        (vec![frag(1, last, "a"), frag(2, last, "b")], "a message with two ends"),
        (vec![frag(1, last, "a"), frag(2, none, "b")], "a fragment behind the last"),
        (vec![frag(2, none, "a"), frag(1, last, "b")], "a fragment behind the last"),
        (vec![part(0, FlagSet::FRAG, "7")], "a fragment that is no text"),
        (vec![part(1, none, "{}")], "a fragment that is no text"),
        (vec![part(0, more, r#""[1""#), part(1, none, r#"",""#)], "the fragments are no JSON together"),
    ];
    for (frames, expected) in cases {
        assert_eq!(reason(frames), expected);
    }
}

#[test]
fn more_behind_a_whole_content_means_more_messages() {
    assert!(!is_fragment(&part(0, FlagSet::MORE, r#"{"text":"a"}"#)));
    assert!(!is_fragment(&part(0, FlagSet::NONE, r#""a""#)));
    assert!(is_fragment(&part(0, FlagSet::MORE, r#""a""#)));
    assert!(is_fragment(&part(1, FlagSet::NONE, r#""a""#)));
}

#[test]
fn a_fragment_or_a_byte_too_many_is_refused() {
    let limits = Limits { fragments: 3, message_bytes: 10, ..Limits::default() };
    let take = |frames: Vec<Frame>| {
        let mut assembly = Assembly::default();
        frames.into_iter().try_for_each(|frame| assembly.on_fragment(frame, &limits).map(drop))
    };
    assert_eq!(take(vec![frag(2, FlagSet::NONE, "a")]), Ok(()));
    assert_eq!(take(vec![frag(3, FlagSet::NONE, "a")]).unwrap_err().reason.as_str(), "too many fragments");
    assert_eq!(take(vec![frag(0, FlagSet::NONE, "12345"), frag(1, FlagSet::NONE, "67890")]), Ok(()));
    let long = take(vec![frag(0, FlagSet::NONE, "12345"), frag(1, FlagSet::NONE, "678901")]);
    assert_eq!(long.unwrap_err().reason.as_str(), "the message is too long");
}

#[test]
fn parts_that_are_asked_for_are_the_ones_that_were_sent() {
    let mut pair = kit::Pair::open();
    let stream = pair.dialer.session.open(None, at(0)).unwrap();
    let text = "é".repeat(100_000);
    pair.dialer.session.send(stream, say(&text), at(0)).unwrap();
    let frames = pair.dialer.frames(at(0));
    assert_eq!(frames.len(), 4);
    for frame in frames.into_iter().filter(|frame| frame.frag_seq == 0 || frame.frag_seq == 3) {
        pair.acceptor.session.on_frame(frame, at(0));
    }
    pair.acceptor.session.on_time(at(500));
    let asked = pair.acceptor.frames(at(500));
    assert_eq!(asked.len(), 1);
    assert!(asked[0].payload.content.as_str().contains(r#""missing":[1,2]"#), "{asked:?}");
    pair.dialer.session.on_frame(asked[0].clone(), at(500));
    let again = pair.dialer.frames(at(500));
    assert_eq!(again.iter().map(|frame| frame.frag_seq).collect::<Vec<_>>(), [1, 2]);
    again.into_iter().for_each(|frame| pair.acceptor.session.on_frame(frame, at(500)));
    let told = pair.acceptor.told();
    let [_, Event::Message { message, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(message.content, RawJson::of_text(&text));
}
