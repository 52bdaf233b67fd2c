//! A program that answers prompts and dials the data plane itself, so that it needs no address of its own:
//! work comes over the connection it opened. The session is opened anew for as long as it serves.

mod echo;
mod openai;
#[cfg(test)]
mod tests;

pub use self::echo::echo;
pub use self::openai::ModelServer;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto_core::frame::{FlagSet, Frame, Meta, RawJson, Text};
use proto_core::session::{AgentState, AgentStatus, Message, Refusal};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::client::{json as content, open};
use crate::session::chance::backoff;
use crate::session::link::Dial;
use crate::session::strand::{Strand, Teller};
use crate::session::{Session, queue};
use crate::transport::Target;
use crate::{Failure, Options};

/// Answers what it is asked, over sessions it opens.
pub struct Adapter {
    name: String,
    handler: Arc<Handler>,
    told: watch::Sender<AgentStatus>,
    counts: Arc<Counts>,
}

type Handler = dyn Fn(Request, Reply) -> Handled + Send + Sync;
type Handled = Pin<Box<dyn Future<Output = Result<Usage, Refusal>> + Send>>;

/// What somebody asks: the body of a chat completion, always streamed.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub body: Value,
}

/// Where the answer goes. Sending waits for whoever reads it.
#[derive(Debug, Clone)]
pub struct Reply {
    teller: Teller,
}

/// What an answer took, as counted by who gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub tokens_in: u64,
    pub tokens_out: u64,
}

/// Says how an adapter is, from wherever.
#[derive(Debug, Clone)]
pub struct StatusTeller(watch::Sender<AgentStatus>);

// Order: relaxed; figures for a health report, nothing depends on them.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicU64,
}

impl Adapter {
    /// `name` is that of a declared Adapter of kind `attached`. `handler` answers one request; several run at
    /// once, and one that nobody waits for any more is dropped.
    pub fn new<H, F>(name: impl Into<String>, handler: H) -> Adapter
    where
        H: Fn(Request, Reply) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Usage, Refusal>> + Send + 'static,
    {
        let handler = move |request, reply| -> Handled { Box::pin(handler(request, reply)) };
        let (told, _) = watch::channel(status(AgentState::Ready));
        Adapter { name: name.into(), handler: Arc::new(handler), told, counts: Arc::default() }
    }

    pub fn status(&self) -> StatusTeller {
        StatusTeller(self.told.clone())
    }

    /// Serves over sessions with the data plane at `url` until `until` is there; then says that it drains,
    /// answers what is under way, and ends. A session that is lost is opened again.
    ///
    /// # Errors
    /// Where the first session cannot be opened, or a later one is refused for good.
    pub async fn serve(
        &self,
        url: &str,
        options: &Options,
        until: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        self.serve_over(Target::new(url, options)?.dial(), options, until).await
    }

    pub(crate) async fn serve_over(
        &self,
        dial: Dial,
        options: &Options,
        until: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let mut until = std::pin::pin!(until);
        let mut attempt = 0;
        loop {
            // Bounded by the streams the other end may open.
            let (offered, strands) = queue();
            let opening = open(dial.clone(), options, self.meta(), Some(offered));
            let opened = tokio::select! {
                opened = opening => opened,
                () = &mut until => return Ok(()),
            };
            let served = match opened {
                Ok(session) => {
                    let since = Instant::now();
                    let served = self.serve_session(&session, strands, &mut until).await;
                    // One that held for a while was no failure.
                    if since.elapsed() >= STEADY {
                        attempt = 0;
                    }
                    served
                }
                Err(failure) if attempt == 0 || !is_worth_another(&failure) => return Err(failure),
                Err(failure) => Err(failure),
            };
            match served {
                Ok(left) => return left,
                Err(failure) if !is_worth_another(&failure) => return Err(failure),
                Err(_) => {}
            }
            attempt += 1;
            tokio::select! {
                () = sleep(backoff(attempt)) => {}
                () = &mut until => return Ok(()),
            }
        }
    }

    /// `Ok` where it was told to end, with how it left.
    async fn serve_session(
        &self,
        session: &Session,
        mut strands: mpsc::UnboundedReceiver<Strand>,
        until: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Result<(), Failure>, Failure> {
        let mut told = self.told.subscribe();
        let mut health = interval(HEALTH_EVERY);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let mut at_work = JoinSet::new();
        if told.borrow_and_update().state != AgentState::Ready {
            session.tell_status(told.borrow().clone())?;
        }
        loop {
            tokio::select! {
                strand = strands.recv() => match strand {
                    Some(strand) => { at_work.spawn(self.answer(strand)); }
                    None => return Err(session.ended().await),
                },
                failure = session.ended() => return Err(failure),
                Some(_) = at_work.join_next() => {}
                changed = told.changed() => if changed.is_ok() {
                    session.tell_status(told.borrow_and_update().clone())?;
                },
                _ = health.tick() => session.tell(self.health(session, begun.elapsed()))?,
                () = &mut *until => break,
            }
        }
        Ok(self.leave(session, strands, at_work).await)
    }

    /// Answers what is under way, and ends.
    async fn leave(
        &self,
        session: &Session,
        mut strands: mpsc::UnboundedReceiver<Strand>,
        mut at_work: JoinSet<()>,
    ) -> Result<(), Failure> {
        session.tell_status(status(AgentState::Draining))?;
        let draining = async {
            loop {
                tokio::select! {
                    done = at_work.join_next() => if done.is_none() { return },
                    // What was sent before the other end knew.
                    Some(strand) = strands.recv() => { at_work.spawn(self.answer(strand)); }
                }
            }
        };
        let _ = timeout(DRAIN, draining).await;
        at_work.shutdown().await;
        session.finish().await
    }

    /// Answers one request.
    fn answer(&self, mut strand: Strand) -> impl Future<Output = ()> + Send + use<> {
        let (handler, counts) = (Arc::clone(&self.handler), Arc::clone(&self.counts));
        async move {
            let Ok(Some(message)) = strand.next().await else { return };
            let begun = UnderWay::new(&counts);
            let refusal = match serde_json::from_str(message.content.as_str()) {
                Ok(body) if message.kind.as_str() == "completion" => {
                    let reply = Reply { teller: strand.teller() };
                    let handling = handler(Request { body }, reply.clone());
                    tokio::select! {
                        // A reset, or the end of the session: nobody waits for it.
                        () = gone(&mut strand) => return,
                        handled = handling => match handled {
                            Ok(usage) => {
                                if reply.finish(usage).await.is_ok() {
                                    begun.end(true);
                                    settle(strand).await;
                                }
                                return;
                            }
                            Err(refusal) => refusal,
                        }
                    }
                }
                _ => {
                    Refusal::new(proto_core::frame::Code::BadInput, "an adapter takes `completion` requests")
                }
            };
            begun.end(false);
            strand.reset(refusal);
        }
    }

    fn meta(&self) -> Meta {
        let mut meta = Meta::default();
        meta.ext.insert("role".into(), RawJson::of_text("adapter"));
        meta.ext.insert("adapter".into(), RawJson::of_text(&self.name));
        meta
    }

    /// A frame that says the adapter is there, and how it does.
    fn health(&self, session: &Session, up: Duration) -> Frame {
        let count = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let Counts { answered, failed, under_way } = &*self.counts;
        let all = count(answered) + count(failed);
        let error_rate = if all == 0 { 0.0 } else { count(failed) as f64 / all as f64 };
        let report = json!({
            "adapter_id": self.name,
            "status": "healthy",
            "error_rate": error_rate,
            "queue_depth": count(under_way),
            "uptime_seconds": up.as_secs(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        let report = content(&report).expect("text and numbers are JSON");
        let place = proto_core::session::Place { session_id: Text::from(session.id()), ..Default::default() };
        let mut frame = Message::new("adapter.health", report).into_frame(place);
        frame.flags = FlagSet::CTRL.union(FlagSet::HEALTH).into();
        frame
    }
}

impl Reply {
    /// Some text of the answer.
    ///
    /// # Errors
    /// Where nobody waits for it any more.
    pub async fn text(&self, text: &str) -> Result<(), Failure> {
        self.send(&json!({ "text": text })).await
    }

    /// An object of a stream of chat completion chunks, which is passed on as it is.
    ///
    /// # Errors
    /// As [`Reply::text`], and where it cannot be carried.
    pub async fn chunk(&self, chunk: &Value) -> Result<(), Failure> {
        self.send(chunk).await
    }

    async fn send(&self, piece: &Value) -> Result<(), Failure> {
        self.teller.send(Message::new("agent.result.partial", content(piece)?)).await
    }

    async fn finish(&self, usage: Usage) -> Result<(), Failure> {
        let Usage { tokens_in, tokens_out } = usage;
        let last = json!({"usage": {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }});
        self.teller.send(Message::new("agent.result.final", content(&last)?).last()).await
    }
}

impl StatusTeller {
    /// What the data plane does with it: it sends less, nothing for a while, or nothing more.
    pub fn tell(&self, status: AgentStatus) {
        self.0.send_replace(status);
    }

    pub fn ready(&self) {
        self.tell(status(AgentState::Ready));
    }

    pub fn busy(&self) {
        self.tell(status(AgentState::Busy));
    }

    pub fn pause(&self) {
        self.tell(status(AgentState::Pause));
    }
}

/// Counts a request while it is under way, however it ends.
struct UnderWay(Arc<Counts>);

impl UnderWay {
    fn new(counts: &Arc<Counts>) -> UnderWay {
        counts.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(counts))
    }

    fn end(&self, is_well: bool) {
        let cell = if is_well { &self.0.answered } else { &self.0.failed };
        cell.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Until the stream ends before its end. What else is said on it says nothing to an adapter.
async fn gone(strand: &mut Strand) {
    loop {
        match strand.next().await {
            Ok(Some(_)) => {}
            // The other end has said its last, and waits.
            Ok(None) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Until all that was said is consumed, or nobody is there to do it.
async fn settle(mut strand: Strand) {
    while let Ok(Some(_)) = strand.next().await {}
    strand.leave();
}

fn status(state: AgentState) -> AgentStatus {
    AgentStatus { state, reason: None, suggested: None, grace: GRACE, retry_after_ms: None, metrics: None }
}

/// Some refusals stay whatever is tried: a name that is not declared, a certificate that is not its own.
fn is_worth_another(failure: &Failure) -> bool {
    match failure {
        Failure::Ended | Failure::Broken(_) => true,
        failure => failure.is_passing(),
    }
}

/// Well within the time after which a data plane takes an adapter for gone.
const HEALTH_EVERY: Duration = Duration::from_secs(10);
/// As long as a data plane waits for what is under way when it ends itself.
const DRAIN: Duration = Duration::from_secs(30);
/// After it, a session that breaks is tried again at once.
const STEADY: Duration = Duration::from_secs(10);
/// After a pause was told: how long work may still come.
const GRACE: Duration = Duration::from_secs(5);
