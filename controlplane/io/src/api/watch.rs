//! Watch: every change from now on, to callers that keep up. Who falls behind is told so and asks anew;
//! nothing is kept for it without bound.

use controlplane_core::intent::Verb;
use proto_core::model::Kind;
use proto_core::wire::atp::admin::v1 as wire;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::wire as to_wire;
use crate::shutdown::Stopping;
use crate::writer::Applied;

/// What a watcher is sent.
pub type Events = ReceiverStream<Result<wire::WatchEvent, Status>>;

/// Starts to send the changes of a kind (`None`: of every kind). `place` is held for as long as somebody
/// listens.
pub fn start(
    mut applied: broadcast::Receiver<Applied>,
    kind: Option<Kind>,
    place: OwnedSemaphorePermit,
    stopping: Stopping,
) -> Events {
    let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
    tokio::spawn(async move {
        let _place = place;
        loop {
            let next = tokio::select! {
                () = stopping.wait() => Err(Status::unavailable(STOPPING)),
                () = sender.closed() => return,
                next = applied.recv() => next.map_err(|error| match error {
                    RecvError::Lagged(missed) => Status::data_loss(format!(
                        "{missed} change sets were missed: list what there is, then watch again"
                    )),
                    RecvError::Closed => Status::unavailable(STOPPING),
                }),
            };
            let is_last = next.is_err();
            let events = match next {
                Ok(applied) => events(&applied, kind),
                Err(status) => vec![Err(status)],
            };
            for event in events {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if is_last {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

fn events(applied: &Applied, kind: Option<Kind>) -> Vec<Result<wire::WatchEvent, Status>> {
    let wanted = applied.changes.iter().filter(|change| kind.is_none_or(|kind| change.kind == kind));
    let changed = wanted.filter(|change| change.verb() != Verb::Unchanged);
    changed
        .map(|change| {
            Ok(wire::WatchEvent {
                change: Some(to_wire::change(change)),
                resource: change.after.as_deref().map(to_wire::resource),
                generation: Some(applied.generation.into()),
            })
        })
        .collect()
}

const STOPPING: &str = "the control plane is stopping; watch again";

/// Watches at once: people and a few controllers.
pub const WATCHERS_MAX: usize = 100;

/// Events handed to a watch ahead of the network.
const EVENTS_AHEAD: usize = 16;
