//! One call of a tool over HTTP: handed to the exchange, answered whole, or piece by piece where its caller
//! wants to hear how it goes on. When that caller goes away, or cancels, so does the work upstream.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::dialect::mcp::Revision;
use dataplane_core::dialect::mcp::answer::{self, Completed, KEEP_ALIVE};
use dataplane_core::dialect::mcp::rpc::Id;
use dataplane_core::dialect::mcp::tools::Completion;
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::TenantId;
use dataplane_core::trace::Context;
use dataplane_state::tally::Operation;
use http::HeaderValue;
use proto_core::frame::Text;
use proto_core::model::Qos;
use proto_core::units::Moment;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::calls::UnderWay;
use crate::serve::atp::outbox::{Delivery, Outbox, Said, Ticket};
use crate::serve::atp::work::{self, Done, Job};
use crate::serve::pump::Pump;
use crate::served::Hold;
use crate::words::{Dialect, Telling};
use crate::worker::Worker;

/// For whom, and within what.
pub struct Whose {
    pub worker: Arc<Worker>,
    pub held: Hold,
    pub tenant: TenantId,
    pub run: Option<Text>,
    pub qos: Option<Qos>,
    pub deadline: Option<Duration>,
    pub envelope: Envelope<'static>,
    pub operation: Option<Operation>,
    pub request_id: HeaderValue,
    /// The span its caller says it belongs to.
    pub parent: Option<Context>,
    pub at: Moment,
}

/// As the exchange takes it.
pub fn job(whose: Whose, completion: &Completion) -> Job {
    Job {
        worker: whose.worker,
        held: whose.held,
        tenant: whose.tenant,
        run: whose.run,
        content: completion.content.clone(),
        task_type: None,
        qos: whose.qos,
        deadline: whose.deadline,
        envelope: whose.envelope,
        adapter_kind: completion.kind,
        also: Vec::new(),
        as_text: true,
        is_spared: false,
        operation: whose.operation,
        request_id: whose.request_id,
        parent: whose.parent,
        at: whose.at,
    }
}

/// A job under way. Dropped, it is cancelled, and with it the work upstream.
pub struct Running {
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    task: AbortHandle,
    under_way: Option<UnderWay>,
    telling: Telling,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came of it.
pub enum Came {
    /// Some text, as it stands between the quotes of JSON, and how many tokens there are by then.
    Text(Bytes, u64),
    Last(Last),
}

/// How it ended.
pub enum Last {
    Done(Box<Done>),
    Failed(Fault, String),
}

impl Running {
    /// `under_way`: its name, where it can be cancelled by that.
    pub fn start(job: Job, under_way: Option<UnderWay>) -> Running {
        #[expect(clippy::disallowed_methods, reason = "its one task has room for so many bytes and no more")]
        let (to, deliveries) = mpsc::unbounded_channel();
        let outbox = Outbox::new(&job.worker, Ticket(0), &to);
        let telling = Telling::new(Dialect::OpenAi, &job.request_id);
        let task = tokio::spawn(work::run(job, outbox)).abort_handle();
        Running { deliveries, task, under_way, telling }
    }

    /// The next of it.
    pub async fn next(&mut self) -> Came {
        loop {
            let cancelled = async {
                match &self.under_way {
                    Some(under_way) => under_way.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let delivery = tokio::select! {
                biased;
                () = cancelled => {
                    self.task.abort();
                    return self.failed(Fault::client(Kind::ClientGone));
                }
                delivery = self.deliveries.recv() => delivery,
            };
            // A task that ends without a last word broke an invariant of ours.
            let Some(Delivery { said, tokens, .. }) = delivery else {
                return self.failed(Fault::proxy(Kind::Internal));
            };
            return match said {
                Said::Began { .. } | Said::Data(_) => continue,
                Said::Text(piece) => Came::Text(piece, tokens),
                Said::Done(done) => Came::Last(Last::Done(done)),
                Said::Failed(failed) => Came::Last(Last::Failed(failed.fault, failed.reason)),
            };
        }
    }

    fn failed(&self, fault: Fault) -> Came {
        Came::Last(Last::Failed(fault, self.telling.reason(fault)))
    }
}

/// The whole answer, and the status it counts as.
pub async fn whole(mut running: Running, id: Id<'_>, revision: Revision) -> (Vec<u8>, u16) {
    loop {
        if let Came::Last(last) = running.next().await {
            return told(&last, id, revision);
        }
    }
}

fn told(last: &Last, id: Id<'_>, revision: Revision) -> (Vec<u8>, u16) {
    let mut out = Vec::new();
    match last {
        Last::Done(done) => {
            answer::completed(id, revision, &completed(done), &mut out);
            (out, 200)
        }
        Last::Failed(fault, reason) => {
            answer::failed(id, revision, reason, Some(*fault), &mut out);
            (out, fault.status())
        }
    }
}

/// As answers are written.
pub fn completed(done: &Done) -> Completed<'_> {
    Completed {
        text: done.text.as_deref().unwrap_or_default(),
        model: done.model.as_str(),
        adapter: done.adapter.as_str(),
        usage: done.usage,
        cost: done.cost,
        latency_ms: u64::try_from(done.latency.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Tells `pump` of each piece, under the name `progress`, then the answer.
pub async fn streamed(
    mut running: Running,
    worker: Arc<Worker>,
    pump: Pump,
    (id, progress): (Box<str>, Box<str>),
    revision: Revision,
) {
    let (id, progress) = (Id::again(&id), Id::again(&progress));
    let mut sequence = 0;
    let mut alive = pin!(sleep_until(Instant::now() + KEEP_ALIVE_EVERY));
    loop {
        let came = tokio::select! {
            biased;
            () = pump.gone() => return,
            came = running.next() => came,
            () = alive.as_mut() => {
                alive.as_mut().reset(Instant::now() + KEEP_ALIVE_EVERY);
                pump.try_send(Bytes::from_static(KEEP_ALIVE));
                continue;
            }
        };
        let mut out = Vec::new();
        let is_last = match came {
            Came::Text(piece, _) => {
                sequence += 1;
                worker.tally.mcp_partials.one();
                answer::event(&mut out, |out| answer::progress(progress, sequence, &piece, out));
                false
            }
            Came::Last(last) => {
                answer::event(&mut out, |out| out.append(&mut told(&last, id, revision).0));
                true
            }
        };
        if pump.send(out.into()).await.is_err() {
            return;
        }
        if is_last {
            return pump.finish(None).await;
        }
    }
}

/// More often than proxies on the way cut a stream that says nothing.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
