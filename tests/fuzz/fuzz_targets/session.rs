//! Sessions: a peer that says whatever it likes, line by line. A line is a message of the peer in JSON, or a
//! letter for what else may happen, with a number. Nothing panics or grows without bound, messages of a
//! stream come once and in their order, and what is closed stays closed. The same bytes are also taken as
//! messages behind lengths, of which no cut makes others.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto_core::frame::{Code, Encoding, Meta, Qos, RawJson, Window, json};
use proto_core::session::{
    Event, Message, Opening, Phase, Received, Refusal, ResumeOpening, Session, Settings, Splitter, StreamKey,
};
use proto_core::units::Moment;

fuzz_target!(|input: &[u8]| {
    let (first, rest) = input.split_at(usize::from(!input.is_empty()));
    let side = first.first().copied().unwrap_or_default();
    let mut end = End::new(side % 2 == 1);
    for line in rest.split(|byte| *byte == b'\n').take(LINES_MAX) {
        let was_closed = end.session.phase() == Phase::Closed;
        end.hear(line);
        end.listen();
        let phase = end.session.phase();
        assert!(!was_closed || phase == Phase::Closed, "what is closed stays closed");
        assert_eq!(end.session.due().is_none(), phase == Phase::Closed, "who lives is woken");
        assert!(end.session.held_bytes() < HELD_BYTES_MAX);
    }
    assert_eq!(end.closed, usize::from(end.session.phase() == Phase::Closed), "told once");
    assert_eq!(split(rest, rest.len().max(1)), split(rest, usize::from(side) + 1), "a cut changes nothing");
});

struct End {
    session: Session,
    now: Moment,
    /// Open streams, and the last message each has said.
    streams: BTreeMap<StreamKey, u64>,
    closed: usize,
}

impl End {
    fn new(is_dialer: bool) -> End {
        let (id, now) = ("s".into(), Moment(0));
        let session = if is_dialer {
            let opening = Opening { qos: Qos::Gold, window: Window::WIDEST, meta: Meta::default() };
            Session::dial(Settings::default(), id, opening, now)
        } else {
            Session::accept(Settings::default(), id, now)
        };
        End { session, now, streams: BTreeMap::new(), closed: 0 }
    }

    fn hear(&mut self, line: &[u8]) {
        let number = std::str::from_utf8(line.get(1..).unwrap_or_default());
        let number = number.ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        let stream = self.streams.keys().nth(number as usize % self.streams.len().max(1)).copied();
        let session = &mut self.session;
        match (line.first(), stream) {
            (Some(b'{'), _) => match json::decode(&Bytes::copy_from_slice(line)) {
                Ok(received) => session.on_frame(received.frame, self.now),
                Err(malformed) => session.on_malformed(&malformed, self.now),
            },
            (Some(b'p'), _) => {
                self.now = Moment(self.now.0 + Duration::from_millis(number.into()).as_nanos() as u64);
                session.on_time(self.now);
            }
            (Some(b'g'), _) => session.grant(Window::WIDEST, Some("t".into()), self.now),
            (Some(b'o'), _) => drop(session.open(None, self.now).map(|key| self.streams.insert(key, 0))),
            (Some(b'd'), _) => session.on_disconnect(self.now),
            (Some(b'r'), _) => {
                session.redial(self.now);
                let received = Received { stream_id: "a".into(), msg_seq: number.into() };
                let opening = ResumeOpening { received: vec![received], resume_token: "t2".into() };
                session.reattach(opening, self.now);
            }
            (Some(b'f'), _) => session.finish(self.now),
            (Some(b's'), Some(stream)) => {
                let content = RawJson::of_text(&"é".repeat(number as usize % 200_000));
                let _ = session.send(stream, Message::new("note", content), self.now);
            }
            (Some(b'c'), Some(stream)) => session.on_consumed(stream, self.streams[&stream], self.now),
            (Some(b'x'), Some(stream)) => session.reset(stream, Refusal::new(Code::Window, "no"), self.now),
            _ => {}
        }
    }

    fn listen(&mut self) {
        while let Some(frame) = self.session.poll_frame(self.now) {
            let sent = Encoding::Bin.encode(&frame).expect("what a session says is a frame");
            assert_eq!(Encoding::Bin.decode(&sent).as_ref(), Ok(&frame));
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::StreamOpened { stream } => drop(self.streams.insert(stream, 0)),
                Event::Message { stream, msg_seq, .. } => {
                    let last = self.streams.get_mut(&stream).expect("its stream was opened before");
                    // Peers of old number as they like.
                    let is_next = msg_seq == *last + 1 || self.session.is_plain();
                    assert!(is_next, "once, and in its order");
                    *last = msg_seq;
                }
                Event::StreamClosed { stream } => drop(self.streams.remove(&stream)),
                Event::Closed(_) => self.closed += 1,
                _ => {}
            }
        }
    }
}

/// The messages, and whether one was too long.
fn split(bytes: &[u8], cut: usize) -> (Vec<Bytes>, bool) {
    let (mut splitter, mut messages) = (Splitter::new(1000), Vec::new());
    for piece in bytes.chunks(cut) {
        splitter.on_bytes(Bytes::copy_from_slice(piece));
        loop {
            match splitter.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

/// An input is to be through in milliseconds.
const LINES_MAX: usize = 200;

/// What a session may hold by its limits: a long message is 16 MiB, and there are two ways.
const HELD_BYTES_MAX: usize = 24 << 20;
