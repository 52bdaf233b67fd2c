//! Frames on a stream of bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::session::prefix::{LENGTH_BYTES, Splitter, TooLong, prefixed};

fn all(splitter: &mut Splitter) -> Result<Vec<Bytes>, TooLong> {
    std::iter::from_fn(|| splitter.poll().transpose()).collect()
}

fn stream(messages: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        out.extend_from_slice(&prefixed(message));
        out.extend_from_slice(message);
    }
    out.freeze()
}

proptest! {
    #[test]
    fn whatever_pieces_it_comes_in_the_same_messages_come_out(
        messages in vec(vec(any::<u8>(), 0..40).prop_map(Bytes::from), 0..12),
        cuts in vec(0..60_usize, 0..40),
    ) {
        let mut rest = stream(&messages);
        let mut splitter = Splitter::new(40);
        let mut out = Vec::new();
        for cut in cuts {
            splitter.on_bytes(rest.split_to(cut.min(rest.len())));
            out.extend(all(&mut splitter).unwrap());
            prop_assert!(splitter.held_bytes() < LENGTH_BYTES + 40);
        }
        splitter.on_bytes(rest);
        out.extend(all(&mut splitter).unwrap());
        prop_assert_eq!(out, messages);
        prop_assert!(!splitter.is_within_a_message());
    }
}

#[test]
fn a_message_of_the_bound_passes_and_one_byte_more_is_refused_before_it_comes() {
    let mut splitter = Splitter::new(3);
    splitter.on_bytes(stream(&[Bytes::from_static(b"abc")]));
    assert_eq!(all(&mut splitter), Ok(vec![Bytes::from_static(b"abc")]));
    splitter.on_bytes(Bytes::from_static(&[0, 0, 0, 4]));
    assert_eq!(splitter.poll(), Err(TooLong(4)));
    assert_eq!(splitter.poll(), Err(TooLong(4)));
}

#[test]
fn a_message_that_comes_in_one_piece_is_not_copied() {
    let whole = stream(&[Bytes::from_static(b"abc"), Bytes::from_static(b"de")]);
    let mut splitter = Splitter::new(3);
    splitter.on_bytes(whole.clone());
    let messages = all(&mut splitter).unwrap();
    assert_eq!(messages[0].as_ptr(), whole[LENGTH_BYTES..].as_ptr());
    assert_eq!(messages[1].as_ptr(), whole[2 * LENGTH_BYTES + 3..].as_ptr());
}

#[test]
fn a_cut_message_is_seen_at_the_end_of_the_stream() {
    let mut splitter = Splitter::new(3);
    assert!(!splitter.is_within_a_message());
    splitter.on_bytes(Bytes::from_static(&[0, 0]));
    assert_eq!((splitter.poll(), splitter.is_within_a_message()), (Ok(None), true));
}

#[test]
fn nothing_of_what_was_handed_out_is_kept() {
    let whole = Bytes::from(stream(&[Bytes::from(vec![7; 100])]).to_vec());
    let mut splitter = Splitter::new(100);
    splitter.on_bytes(whole.clone());
    assert_eq!(all(&mut splitter).unwrap().len(), 1);
    assert!(whole.is_unique(), "an empty part of it would keep it");
}
