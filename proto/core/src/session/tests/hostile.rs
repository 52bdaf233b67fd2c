//! A peer that says whatever it likes: nothing panics, and nothing grows without bound.

use proptest::collection::vec;
use proptest::prelude::*;

use super::kit::{MILLI, opening, say, window};
use super::*;
use crate::frame::{Ext, FlagSet, Frame, Meta, Payload, Qos, RawJson, Text};
use crate::units::Moment;

#[derive(Debug, Clone)]
enum Act {
    Hear(Box<Frame>),
    Pass(u64),
    Poll(usize),
    Events(usize),
    Open(bool),
    Send(usize, usize, bool),
    Consume(usize),
    Reset(usize),
    Warn(usize),
    Window(u64),
    Grant,
    Disconnect,
    Return(u64),
    Malformed,
    Finish,
}

fn content() -> BoxedStrategy<RawJson> {
    let fixed = [
        "null",
        "{}",
        "\"[1,\"",
        "\"2]\"",
        "\"é\"",
        r#"{"text":"a"}"#,
        r#"{"encodings":["bin"],"resume":true,"limits":{"streams":2,"replay_bytes":10,"frame_bytes":0}}"#,
        r#"{"resume_token":"t","received":[["s1",1],["~1",9]]}"#,
        r#"{"resumed":true,"resume_token":"t","received":[["s1",1]],"heartbeat_ms":0,"idle_ms":0}"#,
        r#"{"encoding":"json","limits":{"fragments":0,"message_bytes":3}}"#,
        r#"{"code":"ESEQ_RETRY","msg_seq":1,"missing":[]}"#,
        r#"{"code":"ESEQ_RETRY","msg_seq":1,"missing":[0,7,4294967295]}"#,
        r#"{"code":"eproto","reason":"why"}"#,
        r#"{"code":"ENEW"}"#,
        r#"{"status":"PAUSE","suggested_window":{"max_usd":1e300}}"#,
        r#"{"status":"BUSY","metrics":{"queue_depth":1e400}}"#,
    ];
    let fixed: Vec<_> = fixed.into_iter().filter_map(|json| RawJson::parse(json).ok()).collect();
    prop_oneof![
        8 => prop::sample::select(fixed),
        1 => (1..200_usize).prop_map(|kib| RawJson::of_text(&"\\\u{1F600}".repeat(kib * 200))),
    ]
    .boxed()
}

fn frame() -> BoxedStrategy<Frame> {
    let seq = prop_oneof![8 => 0..6_u64, 1 => any::<u64>(), 1 => 1020..1030_u64];
    let frag = prop_oneof![6 => Just(0_u32), 3 => 0..4_u32, 1 => any::<u32>()];
    let all = [
        FlagSet::NONE,
        FlagSet::SYN,
        FlagSet::SYN.union(FlagSet::ACK),
        FlagSet::ACK,
        FlagSet::FIN,
        FlagSet::RST,
        FlagSet::MORE,
        FlagSet::FRAG,
        FlagSet::FRAG.union(FlagSet::LAST),
        FlagSet::FRAG.union(FlagSet::MORE),
        FlagSet::HB,
        FlagSet::CTRL,
    ];
    let flags = prop_oneof![
        3 => Just(FlagSet::NONE),
        4 => prop::sample::select(all.to_vec()),
        1 => (0..1_u16 << 13).prop_map(|bits| FlagSet::of_bits(bits).unwrap()),
    ];
    let ids = ["", "", "s1", "s1", "s2", "~1", "~9", "other"];
    let kinds = [kind::ERROR, kind::SYN, kind::STATUS, kind::WINDOW_UPDATE, "note", "note"];
    let sums =
        ["", "e3b0c44298fc1c14", "zz", "cec40c7927c6c2d6ca3642f8b3e701ff4e1db8d7c32676657afc124dca0815e0"];
    let words = (prop::sample::select(ids.to_vec()), prop::sample::select(kinds.to_vec()));
    let rest = (any::<u8>(), prop::sample::select(sums.to_vec()), prop::sample::select(vec!["", "s", "z"]));
    (seq, frag, flags, words, content(), rest)
        .prop_map(|(msg_seq, frag_seq, flags, (id, kind), content, (ttl, sum, session))| Frame {
            session_id: session.into(),
            stream_id: id.into(),
            msg_seq,
            frag_seq,
            flags: flags.into(),
            qos: Qos::Gold,
            ttl: ttl % 3,
            window: window(5),
            window_ext: Ext::default(),
            meta: Meta::default(),
            payload: Payload {
                checksum: (!sum.is_empty() && ttl > 200).then(|| sum.into()),
                ..Payload::new(kind.into(), content)
            },
            sig: None,
            checksum: (ttl == 255).then(|| sum.into()),
            nonce: None,
            kid: None,
            telemetry: None,
            adapter: None,
            ext: Ext::default(),
        })
        .boxed()
}

fn act() -> BoxedStrategy<Act> {
    prop_oneof![
        30 => frame().prop_map(|frame| Act::Hear(Box::new(frame))),
        5 => (0..2000_u64).prop_map(|millis| Act::Pass(millis * MILLI)),
        1 => any::<u64>().prop_map(Act::Pass),
        8 => (0..4_usize).prop_map(Act::Poll),
        8 => (0..4_usize).prop_map(Act::Events),
        2 => any::<bool>().prop_map(Act::Open),
        6 => (0..4_usize, 0..300_000_usize, any::<bool>())
            .prop_map(|(at, bytes, last)| Act::Send(at, bytes, last)),
        6 => (0..4_usize).prop_map(Act::Consume),
        1 => (0..4_usize).prop_map(Act::Reset),
        1 => (0..4_usize).prop_map(Act::Warn),
        1 => any::<u64>().prop_map(Act::Window),
        3 => Just(Act::Grant),
        1 => Just(Act::Disconnect),
        2 => (0..4_u64).prop_map(Act::Return),
        1 => Just(Act::Malformed),
        1 => prop::sample::select(vec![Act::Finish]),
    ]
    .boxed()
}

struct Victim {
    session: Session,
    now: Moment,
    streams: Vec<StreamKey>,
    waiting: Vec<(StreamKey, u64)>,
    closed: usize,
}

impl Victim {
    fn act(&mut self, act: Act) {
        let Victim { session, now, streams, waiting, .. } = self;
        let key = |at: usize| streams.get(at % streams.len().max(1)).copied();
        match act {
            Act::Hear(frame) => session.on_frame(*frame, *now),
            Act::Pass(nanos) => {
                *now = Moment(now.0.saturating_add(nanos));
                session.on_time(*now);
            }
            Act::Poll(count) => (0..count).for_each(|_| drop(session.poll_frame(*now))),
            Act::Events(count) => (0..count).for_each(|_| self.fetch()),
            Act::Open(is_named) => {
                let id = is_named.then(|| Text::from("s1"));
                streams.extend(session.open(id, *now));
            }
            Act::Send(at, bytes, is_last) => {
                let message = Message { is_last, ..say(&"x".repeat(bytes)) };
                let _ = key(at).map(|key| session.send(key, message, *now));
            }
            Act::Consume(at) => {
                if let Some((key, msg_seq)) = waiting.get(at).copied() {
                    session.on_consumed(key, msg_seq, *now);
                }
            }
            Act::Reset(at) => {
                let refusal = Refusal::new(crate::frame::Code::Window, "no");
                key(at).into_iter().for_each(|key| session.reset(key, refusal.clone(), *now));
            }
            Act::Warn(at) => {
                let refusal = Refusal::new(crate::frame::Code::Window, "no");
                key(at).into_iter().for_each(|key| session.warn(key, 3, refusal.clone(), *now));
            }
            Act::Window(tokens) => session.set_window(window(tokens), *now),
            Act::Grant => session.grant(window(7), Some("t".into()), *now),
            Act::Disconnect => session.on_disconnect(*now),
            Act::Return(msg_seq) => {
                session.redial(*now);
                let received = ["s1", "~1"].map(|id| Received { stream_id: id.into(), msg_seq }).to_vec();
                session.reattach(ResumeOpening { received, resume_token: "t2".into() }, *now);
            }
            Act::Malformed => {
                let malformed = crate::frame::Encoding::Json.decode(&"{".into()).unwrap_err();
                session.on_malformed(&malformed, *now);
            }
            Act::Finish => session.finish(*now),
        }
    }

    fn fetch(&mut self) {
        match self.session.poll_event() {
            Some(Event::StreamOpened { stream }) => self.streams.push(stream),
            Some(Event::Message { stream, msg_seq, .. }) => self.waiting.push((stream, msg_seq)),
            Some(Event::Closed(_)) => self.closed += 1,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn whatever_comes_in_whatever_order_nothing_panics(
        is_dialer in any::<bool>(),
        acts in vec(act(), 1..120),
    ) {
        let settings = Settings::default();
        let session = if is_dialer {
            Session::dial(settings, "s".into(), opening(), Moment(0))
        } else {
            Session::accept(settings, "s".into(), Moment(0))
        };
        let mut victim = Victim { session, now: Moment(0), streams: vec![], waiting: vec![], closed: 0 };
        for act in acts {
            let is_closed = victim.session.phase() == Phase::Closed;
            victim.act(act);
            let phase = victim.session.phase();
            prop_assert!(!is_closed || phase == Phase::Closed, "a closed session stays closed");
            prop_assert!(victim.session.held_bytes() < 24 << 20);
            let due = victim.session.due();
            prop_assert_eq!(due.is_none(), victim.session.phase() == Phase::Closed);
        }
        for _ in 0..10_000 {
            victim.fetch();
        }
        prop_assert_eq!(victim.closed, usize::from(victim.session.phase() == Phase::Closed));
    }
}
