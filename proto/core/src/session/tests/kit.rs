//! Two ends and what is between them.

use std::collections::VecDeque;

use super::*;
use crate::frame::{Frame, RawJson, Text, Window};
use crate::units::Moment;

pub const MILLI: u64 = 1_000_000;

pub fn at(millis: u64) -> Moment {
    Moment(millis * MILLI)
}

pub fn say(text: &str) -> Message {
    Message::new("note", RawJson::of_text(text))
}

/// A content of exactly so many bytes.
pub fn long(bytes: usize) -> Message {
    say(&"x".repeat(bytes - 2))
}

pub fn window(max_tokens: u64) -> Window {
    Window { max_parallel: 4, max_tokens, max_usd_micros: 1_000_000 }
}

pub fn opening() -> Opening {
    Opening { window: window(1000), ..Opening::default() }
}

pub fn dialer() -> Session {
    Session::dial(Settings::default(), "s".into(), opening(), at(0))
}

/// One end and what it has told.
pub struct End {
    pub session: Session,
    pub events: VecDeque<Event>,
}

impl End {
    pub fn new(session: Session) -> End {
        End { session, events: VecDeque::new() }
    }

    pub fn fetch(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push_back(event);
        }
    }

    /// The events since the last time.
    pub fn told(&mut self) -> Vec<Event> {
        self.fetch();
        self.events.drain(..).collect()
    }

    pub fn frames(&mut self, now: Moment) -> Vec<Frame> {
        std::iter::from_fn(|| self.session.poll_frame(now)).collect()
    }
}

/// Both ends over a link that loses nothing.
pub struct Pair {
    pub dialer: End,
    pub acceptor: End,
    pub now: Moment,
}

impl Pair {
    /// Open on both sides, with a token.
    pub fn open() -> Pair {
        Pair::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Pair {
        let now = at(0);
        let dialer = Session::dial(settings.clone(), "s".into(), opening(), now);
        let acceptor = Session::accept(settings, "s".into(), now);
        let mut pair = Pair { dialer: End::new(dialer), acceptor: End::new(acceptor), now };
        pair.pump();
        assert!(matches!(pair.acceptor.told()[..], [Event::Opening { resume: None, .. }]));
        pair.acceptor.session.grant(window(500), Some("t1".into()), now);
        pair.pump();
        assert!(matches!(pair.dialer.told()[..], [Event::Granted { .. }]));
        pair
    }

    /// Until nobody has anything to send.
    pub fn pump(&mut self) {
        loop {
            let there = self.dialer.frames(self.now);
            let back = self.acceptor.frames(self.now);
            if there.is_empty() && back.is_empty() {
                return;
            }
            there.into_iter().for_each(|frame| self.acceptor.session.on_frame(frame, self.now));
            back.into_iter().for_each(|frame| self.dialer.session.on_frame(frame, self.now));
        }
    }

    /// Time passes; whoever wants to know is told when he wants it.
    pub fn pass(&mut self, until: Moment) {
        loop {
            let due = self.dialer.session.due().into_iter().chain(self.acceptor.session.due()).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.dialer.session.on_time(self.now);
            self.acceptor.session.on_time(self.now);
            self.pump();
        }
        self.now = until;
    }

    /// The connection breaks and the dialer comes back.
    pub fn break_and_resume(&mut self, token: &str) {
        self.dialer.session.on_disconnect(self.now);
        self.acceptor.session.on_disconnect(self.now);
        assert!(self.dialer.session.redial(self.now));
        let syn = self.dialer.session.poll_frame(self.now).unwrap();
        let resume = claim(syn, self.now);
        let opening = ResumeOpening { received: resume.received, resume_token: Text::from(token) };
        assert!(self.acceptor.session.reattach(opening, self.now));
        self.pump();
    }
}

/// What a fresh acceptor makes of a SYN that claims a session.
pub fn claim(syn: Frame, now: Moment) -> Resume {
    let mut fresh = Session::accept(Settings::default(), "s".into(), now);
    fresh.on_frame(syn, now);
    match fresh.poll_event() {
        Some(Event::Opening { resume: Some(resume), .. }) => *resume,
        other => panic!("{other:?}"),
    }
}
