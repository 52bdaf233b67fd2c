//! A frame of a session: as a hop on its way sees it, and as its two ends do.

use std::hint::black_box;

use bytes::Bytes;
use proto_core::frame::bin::{self, View};
use proto_core::frame::{Encoding, FlagSet, Frame, json};

mod rival;

use crate::scenarios::Step;

/// Reads a binary frame with 4 KiB of content, and writes the header for the next hop before its sections.
pub fn pass_on() -> Step {
    let message = bin::encode(&asking(4096)).expect("the frame is sound");
    assert_eq!(Encoding::Bin.decode(&message).as_ref(), Ok(&asking(4096)));
    Box::new(move || {
        let view = View::read(black_box(&message).clone()).expect("the frame is sound");
        let ttl = view.header().ttl - 1;
        assert!(view.session_id() != view.stream_id());
        black_box((view.next_hop(ttl, FlagSet::ECN), view.sections()));
    })
}

/// Reads a binary frame of 1 KiB as far as routing does: header, ids and type, all of them checked.
pub fn view_bin() -> Step {
    let message = of_1_kib(Encoding::Bin);
    Box::new(move || {
        let view = View::read(black_box(&message).clone()).expect("the frame is sound");
        let header = view.header();
        black_box((header.qos, header.flags, header.msg_seq, header.window));
        black_box((view.session_id(), view.stream_id(), view.kind()));
    })
}

/// Opens a binary frame of 1 KiB: all sections, content too.
pub fn read_bin() -> Step {
    let message = of_1_kib(Encoding::Bin);
    Box::new(move || drop(black_box(Encoding::Bin.decode(black_box(&message)))))
}

pub fn write_bin() -> Step {
    let message = of_1_kib(Encoding::Bin);
    let frame = Encoding::Bin.decode(&message).expect("the frame is sound");
    Box::new(move || drop(black_box(bin::encode(black_box(&frame)))))
}

pub fn read_json() -> Step {
    let message = of_1_kib(Encoding::Json);
    Box::new(move || drop(black_box(json::decode(black_box(&message)))))
}

pub fn write_json() -> Step {
    let frame = Encoding::Json.decode(&of_1_kib(Encoding::Json)).expect("the frame is sound");
    Box::new(move || drop(black_box(json::encode(black_box(&frame)))))
}

/// The same JSON into a struct that has the same fields, by serde_json.
pub fn read_json_by_serde() -> Step {
    let message = of_1_kib(Encoding::Json);
    Box::new(move || drop(black_box(rival::owned(black_box(&message)))))
}

/// The same, with text left where it came in.
pub fn read_json_by_serde_borrowed() -> Step {
    let message = of_1_kib(Encoding::Json);
    Box::new(move || drop(black_box(rival::borrowed(black_box(&message)))))
}

/// A request of an agent, 1 KiB in that encoding.
pub fn of_1_kib(encoding: Encoding) -> Bytes {
    let without = encoding.encode(&asking(0)).expect("the frame is sound").len();
    encoding.encode(&asking(1024 - without)).expect("the frame is sound")
}

/// A request whose prompt has so many letters.
fn asking(letters: usize) -> Frame {
    let prompt: String = "Why is the sky blue? ".chars().cycle().take(letters).collect();
    let message = Bytes::from([BEFORE_PROMPT, &prompt, AFTER_PROMPT].concat());
    json::decode(&message).expect("the frame is sound").frame
}

const BEFORE_PROMPT: &str = concat!(
    r#"{"v":1,"session_id":"0b8f9a1e-6c1d-4f3a-9f53-2d6a1c7e8b90","stream_id":"stream-7","msg_seq":41,"#,
    r#""frag_seq":0,"flags":["SYN"],"qos":"silver","ttl":8,"#,
    r#""window":{"max_parallel":4,"max_tokens":50000,"max_usd_micros":1000000},"#,
    r#""meta":{"task_type":"code_review","languages":["en","de"]},"payload":{"type":"completion","#,
    r#""content":{"model":"auto","stream":true,"max_tokens":256,"temperature":0.2,"messages":["#,
    r#"{"role":"system","content":"You explain things to children."},{"role":"user","content":""#
);
const AFTER_PROMPT: &str = r#""}]}}}"#;
