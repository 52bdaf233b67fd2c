//! The Sync service: one task for each data plane, which feeds its [`Publisher`] and obeys it. Here are the
//! deadlines the machine does not know: for the hello, for an answer to a push, for a message to be taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto_core::sync::{Event, Publisher, QUESTIONS_MAX, Violation};
use proto_core::wire::atp::control::v1::{SyncRequest, SyncResponse};
use proto_rpc::control::sync_server;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use crate::planes::{Ask, Planes, Seat};
use crate::shutdown::Stopping;
use crate::writer::{State, Writer};

/// Serves `atp.control.v1.Sync`.
#[derive(Debug)]
pub struct SyncService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    planes: Arc<Planes>,
    metrics: Arc<Metrics>,
    stopping: Stopping,
    streams: Arc<Semaphore>,
}

impl SyncService {
    pub fn new(
        writer: Writer,
        planes: Arc<Planes>,
        metrics: Arc<Metrics>,
        stopping: Stopping,
    ) -> SyncService {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        SyncService { shared: Arc::new(Shared { writer, planes, metrics, stopping, streams }) }
    }
}

#[tonic::async_trait]
impl sync_server::Sync for SyncService {
    type SyncStream = ReceiverStream<Result<SyncResponse, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{STREAMS_MAX} Sync streams are open, which is all there may be"
            ))
        })?;
        let (outbound, responses) = mpsc::channel(OUTBOUND_MAX);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let states = shared.writer.states();
            let conversation = Conversation {
                shared: &shared,
                publisher: Publisher::default(),
                states,
                outbound: &outbound,
            };
            let end = conversation.run(request.into_inner()).await;
            if let Some(status) = end.into_status() {
                // A data plane that does not even take the reason is gone.
                let _ = timeout(SEND_MAX, outbound.send(Err(status))).await;
            }
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// One stream.
struct Conversation<'a> {
    shared: &'a Shared,
    publisher: Publisher,
    states: watch::Receiver<Arc<State>>,
    outbound: &'a mpsc::Sender<Result<SyncResponse, Status>>,
}

/// Why a stream ended.
enum End {
    /// The data plane ended it.
    Gone,
    Stopping,
    Violation(Violation),
    Refused(Status),
}

impl End {
    /// What the data plane is told, if it is there to be told.
    fn into_status(self) -> Option<Status> {
        match self {
            End::Gone => None,
            End::Stopping => Some(Status::unavailable("the control plane is stopping; connect again")),
            End::Violation(violation) => Some(Status::invalid_argument(violation.to_string())),
            End::Refused(status) => Some(status),
        }
    }
}

impl Conversation<'_> {
    async fn run(mut self, mut inbound: Streaming<SyncRequest>) -> End {
        let newest = Arc::clone(&self.states.borrow_and_update().published);
        self.publisher.on_set(newest);
        let hello = tokio::select! {
            () = self.shared.stopping.wait() => return End::Stopping,
            hello = timeout(HELLO_MAX, inbound.message()) => hello,
        };
        let hello = match hello {
            Err(_) => return late(format!("no hello came within {} s", HELLO_MAX.as_secs())),
            Ok(Ok(Some(hello))) => hello,
            Ok(_) => return End::Gone,
        };
        if let Err(violation) = self.publisher.on_message(hello) {
            return End::Violation(violation);
        }
        let node = self.publisher.node().unwrap_or_default().to_owned();
        let shared = self.shared;
        let (seat, asks) = match shared.planes.on_hello(&node, self.publisher.version()) {
            Ok(taken) => taken,
            Err(full) => return End::Refused(Status::resource_exhausted(full.to_string())),
        };
        seat.on_state(self.publisher.held(), &[]);
        tracing::info!(node, version = self.publisher.version(), "data plane connected");
        let end = self.converse(inbound, &seat, asks).await;
        match &end {
            End::Gone | End::Stopping => tracing::info!(node, "data plane disconnected"),
            End::Violation(violation) => tracing::warn!(node, %violation, "data plane broke the protocol"),
            End::Refused(status) => tracing::warn!(node, reason = status.message(), "data plane dropped"),
        }
        end
    }

    async fn converse(
        &mut self,
        mut inbound: Streaming<SyncRequest>,
        seat: &Seat<'_>,
        mut asks: mpsc::Receiver<Ask>,
    ) -> End {
        let mut asked: BTreeMap<u64, Ask> = BTreeMap::new();
        let mut answer_due: Option<Instant> = None;
        loop {
            while let Some(message) = self.publisher.poll_message() {
                match timeout(SEND_MAX, self.outbound.send(Ok(message))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Gone,
                    Err(_) => return late(format!("nothing was taken for {} s", SEND_MAX.as_secs())),
                }
            }
            answer_due = match (self.publisher.is_outstanding(), answer_due) {
                (true, None) => Some(Instant::now() + ANSWER_MAX),
                (true, due) => due,
                (false, _) => None,
            };
            tokio::select! {
                () = self.shared.stopping.wait() => return End::Stopping,
                message = inbound.message() => match message {
                    Ok(Some(message)) => if let Err(violation) = self.on_message(message, seat, &mut asked) {
                        return End::Violation(violation);
                    },
                    Ok(None) | Err(_) => return End::Gone,
                },
                changed = self.states.changed() => match changed {
                    Ok(()) => {
                        let newest = Arc::clone(&self.states.borrow_and_update().published);
                        self.publisher.on_set(newest);
                    }
                    Err(_) => return End::Stopping,
                },
                ask = asks.recv() => match ask {
                    Some(ask) => self.on_ask(ask, &mut asked),
                    None => return End::Refused(Status::aborted(REPLACED)),
                },
                () = due(answer_due) => {
                    return late(format!("a push was not answered within {} s", ANSWER_MAX.as_secs()));
                }
            }
        }
    }

    fn on_message(
        &mut self,
        message: SyncRequest,
        seat: &Seat<'_>,
        asked: &mut BTreeMap<u64, Ask>,
    ) -> Result<(), Violation> {
        let node = self.publisher.node().unwrap_or_default().to_owned();
        match self.publisher.on_message(message)? {
            Event::Accepted(generation) => {
                tracing::info!(node, %generation, "data plane serves the generation");
                self.shared.metrics.acks.inc();
            }
            Event::Refused(generation) => {
                let rejects = self.publisher.rejects();
                let first = rejects.first().map(|reject| reject.reason.as_str()).unwrap_or_default();
                let reasons = rejects.len();
                tracing::warn!(node, %generation, reasons, first, "data plane refused the generation");
                self.shared.metrics.rejections.inc();
            }
            Event::Explained { id, json } => {
                if let Some(ask) = asked.remove(&id) {
                    // Whoever asked may have given up.
                    let _ = ask.answer.send(json);
                }
            }
            Event::Hello | Event::Stale => {}
        }
        seat.on_state(self.publisher.held(), self.publisher.rejects());
        Ok(())
    }

    fn on_ask(&mut self, ask: Ask, asked: &mut BTreeMap<u64, Ask>) {
        asked.retain(|id, waiting| {
            let is_waiting = !waiting.answer.is_closed();
            if !is_waiting {
                self.publisher.forget(*id);
            }
            is_waiting
        });
        let (model, task_type, tenant) = (ask.model.clone(), ask.task_type.clone(), ask.tenant.clone());
        // Past the bound the ask is dropped, which tells whoever asked.
        if let Ok(id) = self.publisher.ask(model, task_type, tenant) {
            asked.insert(id, ask);
        }
    }
}

fn late(why: String) -> End {
    End::Refused(Status::deadline_exceeded(why))
}

/// Ends at the moment given; never where there is none.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

const REPLACED: &str =
    "another stream said hello as this node; node names are unique, give one of the data planes another";

/// Streams at once: every data plane, and room for those that come back before their earlier stream was seen
/// to end.
const STREAMS_MAX: usize = controlplane_core::fleet::CONNECTED_MAX + 100;

/// Messages handed to a stream ahead of the network: a push and the questions asked beside it.
const OUTBOUND_MAX: usize = 1 + QUESTIONS_MAX;

/// For the first message of a stream. A data plane may first finish building a set of its earlier connection.
const HELLO_MAX: Duration = Duration::from_secs(30);

/// For a data plane to answer a push: to receive up to 64 MiB, to parse, build and swap it.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// For a message to be taken from our hands.
const SEND_MAX: Duration = Duration::from_secs(30);
