//! Both ends over a link that breaks, says things twice and in another order: every message arrives once, in
//! its order, or its stream is reset.

use std::collections::BTreeMap;

use super::kit::{End, at, opening, say, window};
use super::*;
use crate::frame::{Frame, Text};
use crate::units::Moment;

struct Random(u64);

impl Random {
    /// splitmix64 (Steele et al., OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// One end, what it said, and what it heard, by the id of the stream.
struct Side {
    end: End,
    said: BTreeMap<String, Vec<String>>,
    heard: BTreeMap<String, Vec<String>>,
    /// Streams this end can speak in.
    open: Vec<StreamKey>,
    ids: BTreeMap<StreamKey, String>,
    unconsumed: Vec<(StreamKey, u64)>,
    resets: Vec<Refusal>,
    ended: Option<Ended>,
}

struct World {
    seed: u64,
    random: Random,
    now: Moment,
    sides: [Side; 2],
    /// From each side to the other.
    links: [Vec<Frame>; 2],
    /// The newest token, and the one that was shown last.
    tokens: u64,
    shown: Text,
    opened: usize,
    breaks: usize,
}

fn settings() -> Settings {
    let limits = Limits {
        frame_bytes: 4096,
        message_bytes: 64 << 10,
        replay_bytes: 8 << 10,
        session_bytes: 24 << 10,
        streams: 6,
        ..Limits::default()
    };
    Settings { limits, ..Settings::default() }
}

impl World {
    fn new(seed: u64) -> World {
        let sides = [
            Session::dial(settings(), "s".into(), opening(), at(0)),
            Session::accept(settings(), "s".into(), at(0)),
        ];
        let side = |session| Side {
            end: End::new(session),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            open: Vec::new(),
            ids: BTreeMap::new(),
            unconsumed: Vec::new(),
            resets: Vec::new(),
            ended: None,
        };
        let mut world = World {
            seed,
            random: Random(seed),
            now: at(0),
            sides: sides.map(side),
            links: [Vec::new(), Vec::new()],
            tokens: 1,
            shown: Text::default(),
            opened: 0,
            breaks: 0,
        };
        world.settle(false);
        world
    }

    fn step(&mut self) {
        let one = self.random.below(2);
        match self.random.below(20) {
            0 if self.opened < 12 => self.open(one),
            0..=5 => self.speak(one),
            6..=9 => self.put_on_link(one),
            10..=14 => self.take_off_link(one),
            15..=17 => self.consume(one),
            18 if self.random.chance(15) => self.break_link(),
            _ => self.pass(),
        }
        self.listen(0);
        self.listen(1);
    }

    fn open(&mut self, one: usize) {
        let side = &mut self.sides[one];
        if let Ok(key) = side.end.session.open(None, self.now) {
            side.open.push(key);
            side.ids.insert(key, side.end.session.id(key).unwrap().as_str().to_owned());
            self.opened += 1;
        }
    }

    fn speak(&mut self, one: usize) {
        let count = self.sides[one].open.len();
        if count == 0 {
            return;
        }
        let at = self.random.below(count);
        let bytes = match self.random.below(20) {
            0 => self.random.below(40 << 10),
            1..=4 => self.random.below(8 << 10),
            _ => self.random.below(200),
        };
        let is_last = self.random.chance(8);
        let key = self.sides[one].open[at];
        self.say(one, key, bytes, is_last);
    }

    fn say(&mut self, one: usize, key: StreamKey, bytes: usize, is_last: bool) -> bool {
        let side = &mut self.sides[one];
        let said = side.said.entry(side.ids[&key].clone()).or_default();
        let text = format!("{}:{}", said.len(), "é\"\\x".repeat(bytes / 5));
        let message = if is_last { say(&text).last() } else { say(&text) };
        match side.end.session.send(key, message, self.now) {
            Ok(msg_seq) => {
                said.push(text);
                assert_eq!(msg_seq, said.len() as u64, "seed {}", self.seed);
            }
            Err(SendFault::Blocked) => return false,
            Err(fault) => panic!("{fault} with seed {}", self.seed),
        }
        if is_last {
            side.open.retain(|open| *open != key);
        }
        true
    }

    /// Frames of the session keep their place: an opening comes before what it opens.
    fn put_on_link(&mut self, one: usize) {
        for _ in 0..self.random.below(6) {
            let Some(frame) = self.sides[one].end.session.poll_frame(self.now) else { return };
            let link = &mut self.links[one];
            if frame.stream_id.is_empty() {
                link.push(frame);
                continue;
            }
            let movable = link.iter().rev().take_while(|other| !other.stream_id.is_empty()).count();
            let back = if self.random.chance(30) { self.random.below(movable.min(5) + 1) } else { 0 };
            let place = link.len() - back;
            if self.random.chance(10) {
                link.push(frame.clone());
            }
            link.insert(place, frame);
        }
    }

    fn take_off_link(&mut self, one: usize) {
        for _ in 0..self.random.below(6) {
            if self.links[one].is_empty() {
                return;
            }
            let frame = self.links[one].remove(0);
            self.sides[1 - one].end.session.on_frame(frame, self.now);
            self.listen(1 - one);
        }
    }

    fn listen(&mut self, one: usize) {
        while let Some(event) = self.sides[one].end.session.poll_event() {
            let side = &mut self.sides[one];
            match event {
                Event::Opening { .. } => {
                    side.end.session.grant(window(500), Some("t1".into()), self.now);
                }
                Event::StreamOpened { stream } => {
                    let id =
                        side.end.session.id(stream).expect("it has just been opened").as_str().to_owned();
                    side.ids.insert(stream, id);
                    side.open.push(stream);
                }
                Event::Message { stream, msg_seq, message } => {
                    let heard = side.heard.entry(side.ids[&stream].clone()).or_default();
                    heard.push(serde_json::from_slice(message.content.as_bytes()).unwrap());
                    assert_eq!(heard.len() as u64, msg_seq, "seed {}", self.seed);
                    side.unconsumed.push((stream, msg_seq));
                }
                Event::Reset { refusal, .. } => side.resets.push(refusal),
                Event::StreamClosed { stream } => side.open.retain(|open| *open != stream),
                Event::Closed(ended) => side.ended = Some(ended),
                _ => {}
            }
        }
    }

    fn consume(&mut self, one: usize) {
        let side = &mut self.sides[one];
        if !side.unconsumed.is_empty() {
            let (stream, msg_seq) = side.unconsumed.remove(self.random.below(side.unconsumed.len()));
            side.unconsumed.retain(|(other, seq)| *other != stream || *seq > msg_seq);
            side.end.session.on_consumed(stream, msg_seq, self.now);
        }
    }

    /// All that is under way is lost; sometimes also what the dialer comes back with.
    fn break_link(&mut self) {
        self.links = [Vec::new(), Vec::new()];
        self.breaks += 1;
        self.sides[0].end.session.on_disconnect(self.now);
        self.sides[1].end.session.on_disconnect(self.now);
        if !self.sides[0].end.session.redial(self.now) {
            return;
        }
        let syn = self.sides[0].end.session.poll_frame(self.now).expect("the opening is the first frame");
        if self.random.chance(20) {
            return self.break_link();
        }
        let resume = kit::claim(syn, self.now);
        // The answer to the claim before may be lost: its token is still good.
        let newest = Text::from(format!("t{}", self.tokens));
        let is_older_good = !self.sides[1].end.session.is_token_known() && resume.token == self.shown;
        assert!(resume.token == newest || is_older_good, "seed {}: {:?}", self.seed, resume.token);
        self.shown = resume.token;
        self.tokens += 1;
        let resume_token = Text::from(format!("t{}", self.tokens));
        let opening = ResumeOpening { received: resume.received, resume_token };
        assert!(self.sides[1].end.session.reattach(opening, self.now), "seed {}", self.seed);
    }

    fn pass(&mut self) {
        self.now = Moment(self.now.0 + self.random.next() % 200_000_000);
        for side in &mut self.sides {
            side.end.session.on_time(self.now);
        }
    }

    /// Everything arrives and is consumed; with `is_end`, every stream is ended too.
    fn settle(&mut self, is_end: bool) {
        for _ in 0..400 {
            for one in 0..2 {
                if is_end {
                    for key in self.sides[one].open.clone() {
                        self.say(one, key, 3, true);
                    }
                }
                while let Some(frame) = self.sides[one].end.session.poll_frame(self.now) {
                    self.links[one].push(frame);
                }
                for frame in std::mem::take(&mut self.links[one]) {
                    self.sides[1 - one].end.session.on_frame(frame, self.now);
                    self.listen(1 - one);
                }
                self.listen(one);
                while !self.sides[one].unconsumed.is_empty() {
                    self.consume(one);
                }
            }
            self.now = Moment(self.now.0 + 50_000_000);
            self.sides.iter_mut().for_each(|side| side.end.session.on_time(self.now));
        }
    }
}

#[test]
fn every_message_arrives_once_and_in_order_over_a_link_that_breaks_repeats_and_reorders() {
    let (mut breaks, mut messages, mut parts) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        world.settle(true);
        for one in 0..2 {
            let (said, heard) = (&world.sides[one].said, &world.sides[1 - one].heard);
            let said: BTreeMap<_, _> = said.iter().filter(|(_, said)| !said.is_empty()).collect();
            assert_eq!(said, heard.iter().collect(), "seed {seed}, from side {one}");
            messages += heard.values().map(Vec::len).sum::<usize>();
            parts += heard.values().flatten().filter(|text| text.len() > 4096 / 8).count();
            let side = &world.sides[one];
            assert_eq!(side.resets, [], "seed {seed}");
            assert_eq!(side.ended, None, "seed {seed}");
            assert_eq!(side.end.session.held_bytes(), 0, "seed {seed}, side {one}");
            assert!(side.open.is_empty(), "seed {seed}, side {one}: {:?}", side.open);
        }
        breaks += world.breaks;
    }
    // The link was as bad as its name.
    assert!(
        breaks > 2 * SEEDS as usize && messages > 40 * SEEDS as usize && parts > 100,
        "{breaks} {messages} {parts}"
    );
}

#[test]
fn a_message_that_is_lost_for_good_is_named_in_the_reset() {
    let mut pair = kit::Pair::open();
    let stream = pair.dialer.session.open(None, pair.now).unwrap();
    for text in ["one", "two", "three"] {
        pair.dialer.session.send(stream, say(text), pair.now).unwrap();
    }
    let mut asked = 0;
    for _ in 0..100 {
        for frame in pair.dialer.frames(pair.now) {
            if frame.msg_seq != 2 {
                pair.acceptor.session.on_frame(frame, pair.now);
            }
        }
        for frame in pair.acceptor.frames(pair.now) {
            asked += usize::from(frame.payload.content.as_str().contains("\"msg_seq\":2,\"missing\":[]"));
            pair.dialer.session.on_frame(frame, pair.now);
        }
        pair.now = pair.now + std::time::Duration::from_millis(100);
        pair.acceptor.session.on_time(pair.now);
        pair.dialer.session.on_time(pair.now);
    }
    assert_eq!(asked, 8);
    let expected =
        Refusal { reason: "never came: 2".into(), ..Refusal::new(crate::frame::Code::SeqRetry, "") };
    let resets = |events: Vec<Event>| -> Vec<(Refusal, bool)> {
        let of = |event| match event {
            Event::Reset { refusal, by_peer, .. } => Some((refusal, by_peer)),
            _ => None,
        };
        events.into_iter().filter_map(of).collect()
    };
    assert_eq!(resets(pair.acceptor.told()), [(expected.clone(), false)]);
    assert_eq!(resets(pair.dialer.told()), [(expected, true)]);
}

const SEEDS: u64 = 150;
