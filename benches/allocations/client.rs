//! The client's end of a session: the protocol's own machine, and a connection that carries what it says.

use std::time::Duration;

use benches::{KEY, MODEL};
use bytes::Bytes;
use proto_core::frame::{Encoding, Meta, RawJson, Text, Window};
use proto_core::session::{Event, Message, Opening, Session, Settings, StreamKey};
use proto_core::units::Moment;

use super::carriage::Carriage;

pub struct Client {
    carriage: Carriage,
    machine: Session,
    now: Moment,
}

impl Client {
    pub fn new(carriage: Carriage, way: &str, number: u32) -> Client {
        let mut meta = Meta::default();
        meta.ext.insert(Text::of_static("key"), RawJson::of_text(KEY));
        let window = Window { max_parallel: 4, ..Window::default() };
        let opening = Opening { window, meta, ..Opening::default() };
        let settings = Settings { encoding: Encoding::Bin, ..Settings::default() };
        let id = Text::from(format!("idle-{}-{number}", way.rsplit(' ').next().unwrap_or_default()));
        let now = Moment::default();
        Client { carriage, machine: Session::dial(settings, id, opening, now), now }
    }

    /// Opens the session, asks on a stream that stays open, hears the answer out and acknowledges it.
    pub async fn converse(&mut self) {
        self.flush().await;
        self.until("", |event| matches!(event, Event::Granted { .. }).then_some(())).await;
        let stream = self.machine.open(None, self.now).expect("a stream may be opened");
        let id = self.machine.id(stream).expect("it was opened").as_str().to_owned();
        let body = benches::chat_body(MODEL, false);
        let content = RawJson::parse(body).expect("a body is JSON");
        let message = Message::new(Text::of_static("completion"), content);
        self.machine.send(stream, message, self.now).expect("there is room");
        self.flush().await;
        self.until(&id, |event| match event {
            Event::Message { message, .. } => (message.kind.as_str() == "agent.result.final").then_some(()),
            _ => None,
        })
        .await;
        self.acknowledge(stream).await;
    }

    async fn until<T>(&mut self, stream: &str, mut is_it: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let mut found = None;
            while let Some(event) = self.machine.poll_event() {
                assert!(!matches!(event, Event::Reset { .. } | Event::Closed(_)), "{event:?}");
                found = found.or(is_it(&event));
                if let Event::Message { stream, msg_seq, .. } = event {
                    self.machine.on_consumed(stream, msg_seq, self.now);
                }
            }
            if let Some(found) = found {
                return found;
            }
            let message = self.carriage.hear(stream).await;
            let frame = Encoding::Bin.decode(&message).expect("a frame");
            self.machine.on_frame(frame, self.now);
        }
    }

    /// All that is still to be said, however patient the machine would be with it.
    async fn acknowledge(&mut self, stream: StreamKey) {
        assert!(self.machine.id(stream).is_some(), "the stream stays open");
        self.now = self.now + A_WHILE;
        self.machine.on_time(self.now);
        self.flush().await;
    }

    async fn flush(&mut self) {
        while let Some(frame) = self.machine.poll_frame(self.now) {
            let message: Bytes = Encoding::Bin.encode(&frame).expect("it was made here");
            self.carriage.say(frame.stream_id.as_str(), &message).await;
        }
    }
}

/// Longer than acknowledgements are held back, shorter than a heartbeat.
const A_WHILE: Duration = Duration::from_secs(1);
