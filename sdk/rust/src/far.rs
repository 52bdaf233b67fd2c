//! For tests: the other end of sessions, without a socket between. Grants what it is told to, consumes what
//! comes, and does what a test wants of its machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto_core::frame::{Code, Encoding, RawJson, Window};
use proto_core::session::{Event, Message, Refusal, ResumeOpening, Session as Machine, Settings, StreamKey};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use crate::session::clock;
use crate::session::link::{Dial, Inbound, Outbound, Plug, link};
use crate::{Client, Failure, Options};

pub struct Far {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    pub dialed: Arc<AtomicUsize>,
    dial: Dial,
}

enum Order {
    Do(Box<dyn FnOnce(&mut Machine) + Send>),
    Cut,
    Mute,
}

/// How a far end answers openings.
#[derive(Clone, Copy)]
pub struct Terms {
    pub window: Window,
    pub is_resumable: bool,
    pub refuses: bool,
    /// Nothing came for so long: the session ends.
    pub idle: Duration,
}

pub const WIDE: Window = Window { max_parallel: 100, max_tokens: 1000, max_usd_micros: 1000 };
pub const TERMS: Terms =
    Terms { window: WIDE, is_resumable: true, refuses: false, idle: Duration::from_secs(30) };

impl Far {
    pub fn new(terms: Terms) -> Far {
        let (orders, orders_from) = mpsc::channel(64);
        let (events_to, events) = mpsc::channel(4096);
        let (plugs, plugs_from) = mpsc::channel(4);
        let dialed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dialed);
        let dial: Dial = Arc::new(move || {
            let plugs = plugs.clone();
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Ok(link(Encoding::Bin, async move |plug| drop(plugs.send(plug).await))) })
        });
        let task = Task { terms, machine: None, plug: None, events: events_to, tokens: 0, is_mute: false };
        tokio::spawn(task.run(orders_from, plugs_from));
        Far { orders, events, dialed, dial }
    }

    pub fn dial(&self) -> Dial {
        self.dial.clone()
    }

    pub async fn client(&self, options: Options) -> Result<Client, Failure> {
        Client::over(self.dial(), options, Default::default()).await
    }

    pub async fn act(&self, what: impl FnOnce(&mut Machine) + Send + 'static) {
        self.orders.send(Order::Do(Box::new(what))).await.expect("the far end runs");
    }

    /// The connection breaks.
    pub async fn cut(&self) {
        self.orders.send(Order::Cut).await.expect("the far end runs");
    }

    /// The connection is there, and nothing passes it.
    pub async fn mute(&self) {
        self.orders.send(Order::Mute).await.expect("the far end runs");
    }

    /// The next event that `what` wants something of.
    pub async fn wait<T>(&mut self, mut what: impl FnMut(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the far end runs");
                if let Some(found) = what(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("it happens")
    }

    /// The next request.
    pub async fn request(&mut self) -> (StreamKey, String) {
        self.wait(|event| match event {
            Event::Message { stream, message, .. } => Some((stream, message.content.as_str().to_owned())),
            _ => None,
        })
        .await
    }

    pub async fn say(&self, stream: StreamKey, kind: &'static str, content: &str, is_last: bool) {
        let content = RawJson::parse(content.to_owned()).expect("a test's JSON");
        let message = Message { is_last, ..Message::new(kind, content) };
        self.act(move |machine| {
            machine.send(stream, message, clock::now()).expect("there is room");
        })
        .await;
    }

    pub async fn text(&self, stream: StreamKey, text: &str) {
        self.say(stream, "agent.result.partial", &format!(r#"{{"text":"{text}"}}"#), false).await;
    }

    pub async fn last(&self, stream: StreamKey) {
        let content = r#"{"model_used":"m","adapter":"a","tokens_in":1,"tokens_out":2,"cost_usd":0.5}"#;
        self.say(stream, "agent.result.final", content, true).await;
    }
}

struct Task {
    terms: Terms,
    machine: Option<Machine>,
    plug: Option<Plug>,
    events: mpsc::Sender<Event>,
    tokens: u32,
    is_mute: bool,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut plugs: mpsc::Receiver<Plug>) {
        loop {
            let is_mute = self.is_mute;
            if !is_mute {
                self.work().await;
            }
            let due = self.machine.as_ref().and_then(Machine::due).filter(|_| !is_mute);
            let heard = async {
                match &mut self.plug {
                    Some(plug) if !is_mute => plug.out.recv().await,
                    _ => std::future::pending().await,
                }
            };
            let time = async {
                match due {
                    Some(due) => sleep_until(clock::instant(due)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Do(what)) => what(self.machine.as_mut().expect("a session is open")),
                    Some(Order::Cut) => self.lose(),
                    Some(Order::Mute) => self.is_mute = true,
                    None => return,
                },
                Some(plug) = plugs.recv() => self.begin(plug).await,
                said = heard => match said {
                    Some(Outbound::Frame { message, .. }) => {
                        let frame = Encoding::Bin.decode(&message).expect("a frame of ours");
                        self.machine.as_mut().expect("a session is open").on_frame(frame, clock::now());
                    }
                    Some(Outbound::Over(_)) => {}
                    None => self.lose(),
                },
                () = time => self.machine.as_mut().expect("it is due").on_time(clock::now()),
            }
        }
    }

    fn lose(&mut self) {
        self.plug = None;
        if let Some(machine) = &mut self.machine {
            machine.on_disconnect(clock::now());
        }
    }

    /// A connection: its first frame says whether it is a new session.
    async fn begin(&mut self, mut plug: Plug) {
        let Some(Outbound::Frame { message, .. }) = plug.out.recv().await else { return };
        let first = Encoding::Bin.decode(&message).expect("a frame of ours");
        let settings = Settings {
            idle: self.terms.idle,
            heartbeat: HEARTBEAT.min(self.terms.idle / 2),
            ..Settings::default()
        };
        let mut fresh = Machine::accept(settings, first.session_id.clone(), clock::now());
        fresh.on_frame(first, clock::now());
        let Some(Event::Opening { resume, .. }) = fresh.poll_event() else {
            panic!("an opening comes first")
        };
        (self.plug, self.is_mute) = (Some(plug), false);
        self.tokens += 1;
        let token = format!("token-{}", self.tokens).into();
        match resume {
            Some(resume) => {
                let machine = self.machine.as_mut().expect("it is resumed");
                machine.on_disconnect(clock::now());
                let opening = ResumeOpening { received: resume.received, resume_token: token };
                assert!(machine.reattach(opening, clock::now()), "it waits to be resumed");
            }
            None if self.terms.refuses => {
                fresh.refuse(Refusal::new(Code::Sec, "go away"), clock::now());
                self.machine = Some(fresh);
            }
            None => {
                let token = Some(token).filter(|_| self.terms.is_resumable);
                fresh.grant(self.terms.window, token, clock::now());
                self.machine = Some(fresh);
            }
        }
    }

    async fn work(&mut self) {
        let Some(machine) = &mut self.machine else { return };
        loop {
            if let Some(plug) = &self.plug {
                while let Some(frame) = machine.poll_frame(clock::now()) {
                    // A client that is gone reads nothing.
                    let _ = plug.inbound.send(Inbound::Frame(Box::new(frame))).await;
                }
            }
            let Some(event) = machine.poll_event() else { return };
            if let Event::Message { stream, msg_seq, .. } = &event {
                machine.on_consumed(*stream, *msg_seq, clock::now());
            }
            if matches!(event, Event::Closed(_)) {
                self.plug = None;
            }
            let _ = self.events.send(event).await;
        }
    }
}

const HEARTBEAT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);
