//! The Sync service: one task for each data plane, which feeds its [`Publisher`] and obeys it. Here are the
//! deadlines the machine does not know: for the hello, for an answer to a push, for a message to be taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controlplane_core::registry::SETTLES_AFTER;
use proto_core::sync::{Event, Publisher, QUESTIONS_MAX, SET_BYTES_MAX, Violation};
use proto_core::wire::atp::control::v1::{SyncRequest, SyncResponse};
use proto_rpc::control::sync_server;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
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
    room: Room,
}

impl SyncService {
    pub fn new(
        writer: Writer,
        planes: Arc<Planes>,
        metrics: Arc<Metrics>,
        stopping: Stopping,
    ) -> SyncService {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let room = Room::new(PUSHING_BYTES_MAX);
        SyncService { shared: Arc::new(Shared { writer, planes, metrics, stopping, streams, room }) }
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

/// A push that waits for its answer, and the room it takes meanwhile.
struct Pushing<'a> {
    answer_due: Instant,
    _room: SemaphorePermit<'a>,
}

/// When this data plane is told where adapters stand.
struct Places {
    changes: watch::Receiver<u64>,
    due: Option<Instant>,
    /// Lists that came together are told as one.
    not_before: Option<Instant>,
}

impl Places {
    fn on_change(&mut self) {
        let now = Instant::now();
        let soon = self.not_before.map_or(now, |not_before| not_before.max(now));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn tell(&mut self, seat: &Seat<'_>) -> proto_core::wire::atp::control::v1::Places {
        let (now, list) = (Instant::now(), seat.others());
        self.not_before = Some(now + PLACES_EVERY);
        // One that is not whole takes nothing out; the one after it does.
        self.due = (!list.is_whole).then_some(now + SETTLES_AFTER);
        list
    }
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
        let shared = self.shared;
        let mut asked: BTreeMap<u64, Ask> = BTreeMap::new();
        let mut pushing: Option<Pushing<'_>> = None;
        let mut places =
            Places { changes: shared.planes.places(), due: Some(Instant::now()), not_before: None };
        loop {
            while let Some(message) = self.publisher.poll_question().or_else(|| self.publisher.poll_places())
            {
                if let Err(end) = self.send(message).await {
                    return end;
                }
            }
            // Answered: its room is for others.
            pushing = pushing.filter(|_| self.publisher.is_outstanding());
            let push_bytes = self.publisher.push_due();
            tokio::select! {
                () = shared.stopping.wait() => return End::Stopping,
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
                Ok(()) = places.changes.changed() => places.on_change(),
                () = due(places.due) => self.publisher.on_others(places.tell(seat)),
                ask = asks.recv() => match ask {
                    Some(ask) => self.on_ask(ask, &mut asked),
                    None => return End::Refused(Status::aborted(REPLACED)),
                },
                room = shared.room.take(push_bytes.unwrap_or(0)), if push_bytes.is_some() => {
                    if let Some(push) = self.publisher.poll_push() {
                        pushing = Some(Pushing { answer_due: Instant::now() + ANSWER_MAX, _room: room });
                        if let Err(end) = self.send(push).await {
                            return end;
                        }
                    }
                }
                () = due(pushing.as_ref().map(|pushing| pushing.answer_due)) => {
                    return late(format!("a push was not answered within {} s", ANSWER_MAX.as_secs()));
                }
            }
        }
    }

    async fn send(&self, message: SyncResponse) -> Result<(), End> {
        match timeout(SEND_MAX, self.outbound.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(late(format!("nothing was taken for {} s", SEND_MAX.as_secs()))),
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
            Event::Places(list) => seat.on_places(list)?,
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

/// Room for the sets that are on their way to all data planes. Whoever waits is served in the order of
/// asking; a newer set asks anew.
#[derive(Debug)]
struct Room {
    /// In KiB, so that a set's size is a number of permits.
    kib: Semaphore,
}

impl Room {
    fn new(bytes: usize) -> Room {
        Room { kib: Semaphore::new(bytes / 1024) }
    }

    /// Waits for room for a set. The room is free again when what is returned is dropped.
    async fn take(&self, bytes: usize) -> SemaphorePermit<'_> {
        let kib = u32::try_from(bytes.div_ceil(1024)).expect("a set has 64 MiB at most");
        self.kib.acquire_many(kib).await.expect("this semaphore is never closed")
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

/// Bytes of sets that are on their way at once. Each stream holds its own encoded copy until the network has
/// taken it, so without this a thousand data planes that come back together would cost a thousand copies.
/// Room for four of the largest sets, or for a thousand of 256 KiB.
const PUSHING_BYTES_MAX: usize = 4 * SET_BYTES_MAX;

/// Between two lists of places to one data plane: a thousand data planes with a thousand places each are a
/// hundred megabytes for each round.
const PLACES_EVERY: Duration = Duration::from_millis(500);

/// For the first message of a stream. A data plane may first finish building a set of its earlier connection.
const HELLO_MAX: Duration = Duration::from_secs(30);

/// For a data plane to answer a push: to receive up to 64 MiB, to parse, build and swap it.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// For a message to be taken from our hands.
const SEND_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sets_past_the_room_wait_until_one_is_answered() {
        let room = Room::new(4096);
        let first = room.take(2048).await;
        let _second = room.take(2047).await;
        let third = timeout(Duration::from_secs(1), room.take(1)).await;
        assert!(third.is_err(), "the room is full");
        drop(first);
        let _later = room.take(2048).await;
    }

    #[tokio::test]
    async fn the_largest_set_has_room() {
        let room = Room::new(PUSHING_BYTES_MAX);
        let _largest = room.take(SET_BYTES_MAX).await;
    }
}
