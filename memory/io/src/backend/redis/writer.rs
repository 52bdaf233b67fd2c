//! The one of this gateway that changes Redis: a task with a bounded queue. Jobs of a tenant that wait
//! together are one step of Redis', which happens only if nobody changed the tenant since it was looked at;
//! where another gateway did, they are decided anew over what is there now. So what each decided holds, how
//! many gateways there may be, and of two that meet one always goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use memory_core::audit::Secret;
use prometheus::IntCounter;
use redis::Script;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::draft::{Draft, Loaded, Needs};
use super::keys::{self, AccountRow, FEED, FEED_AT, Keys, TENANTS};
use super::link::Link;
use super::scripts;
use crate::clock;
use crate::store::StoreFault;
use crate::store::account::Account;
use crate::store::changes::EVICTED_MAX;
use crate::writer::{Clock, Closed, TOGETHER_MAX, WAITING_MAX};

/// What the task and readings share.
pub struct Shared {
    pub link: Link,
    /// `None`: Redis' own clock, so that all its gateways agree when something has expired.
    pub clock: Option<Clock>,
    pub secret: Option<Secret>,
    /// Changes that were decided anew.
    pub conflicts: IntCounter,
    pub failed: IntCounter,
}

/// Hands jobs to the task. It ends once every handle is gone, after the jobs that wait.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Queued>,
}

struct Queued {
    tenant: Arc<str>,
    needs: Needs,
    job: Box<dyn Job>,
}

/// A change that may have to be decided more than once, and is told once.
trait Job: Send {
    fn decide(&mut self, draft: &mut Draft<'_>);
    fn settle(self: Box<Self>, made: Result<(), StoreFault>);
}

struct Typed<T, F> {
    work: F,
    value: Option<T>,
    done: oneshot::Sender<Result<T, StoreFault>>,
}

impl<T: Send, F: FnMut(&mut Draft<'_>) -> T + Send> Job for Typed<T, F> {
    fn decide(&mut self, draft: &mut Draft<'_>) {
        self.value = Some((self.work)(draft));
    }

    fn settle(self: Box<Self>, made: Result<(), StoreFault>) {
        let Typed { value, done, .. } = *self;
        // An answer that nobody waits for any more is no error.
        let _ = done.send(made.and_then(|()| value.ok_or(StoreFault::Stopping)));
    }
}

impl Writer {
    pub fn start(shared: Arc<Shared>) -> (Writer, Closed) {
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let (ended, closed) = oneshot::channel();
        tokio::spawn(async move {
            work(&shared, queue).await;
            // Nobody waits for it where the gateway was dropped.
            let _ = ended.send(());
        });
        (Writer { jobs }, closed)
    }

    /// Runs a job; what it gave, once Redis made it so. A caller that goes away does not undo it.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: Arc<str>,
        needs: Needs,
        work: impl FnMut(&mut Draft<'_>) -> T + Send + 'static,
    ) -> Result<T, StoreFault> {
        let answer = self.begin(tenant, needs, work).await?;
        let answer = timeout(ANSWER_WAIT, answer).await.map_err(|_| StoreFault::Late)?;
        answer.map_err(|_| StoreFault::Stopping)?
    }

    /// Waits for a place in the queue only; the job is done some time later.
    pub async fn begin<T: Send + 'static>(
        &self,
        tenant: Arc<str>,
        needs: Needs,
        work: impl FnMut(&mut Draft<'_>) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreFault>>, StoreFault> {
        let (done, answer) = oneshot::channel();
        let queued = Queued { tenant, needs, job: Box::new(Typed { work, value: None, done }) };
        self.jobs.send_timeout(queued, QUEUE_WAIT).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => StoreFault::Busy,
            SendTimeoutError::Closed(_) => StoreFault::Stopping,
        })?;
        Ok(answer)
    }
}

async fn work(shared: &Arc<Shared>, mut queue: mpsc::Receiver<Queued>) {
    let mut together = Vec::new();
    while queue.recv_many(&mut together, TOGETHER_MAX).await > 0 {
        let mut tenants: HashMap<Arc<str>, Vec<Queued>> = HashMap::new();
        for queued in together.drain(..) {
            tenants.entry(Arc::clone(&queued.tenant)).or_default().push(queued);
        }
        let mut making = JoinSet::new();
        for (tenant, queued) in tenants {
            let shared = Arc::clone(shared);
            making.spawn(async move { make_all(&shared, &tenant, queued).await });
        }
        while making.join_next().await.is_some() {}
    }
}

/// In their order, as many in one step as are not too long.
async fn make_all(shared: &Shared, tenant: &str, mut queued: Vec<Queued>) {
    while !queued.is_empty() {
        let mut bytes = 0;
        let fits = |next: &&Queued| {
            bytes += next.needs.bytes;
            bytes <= STEP_BYTES_MAX
        };
        let count = queued.iter().take_while(fits).count().max(1);
        let (mut all, mut jobs) = (Needs::default(), Vec::new());
        for Queued { needs, job, .. } in queued.drain(..count) {
            all.paths.extend(needs.paths);
            all.values.extend(needs.values);
            all.expired |= needs.expired;
            jobs.push(job);
        }
        let made = make(shared, tenant, all, &mut jobs).await;
        if let Err(fault) = &made {
            shared.failed.inc_by(jobs.len() as u64);
            tracing::error!(%fault, jobs = jobs.len(), "a change of Redis failed");
        }
        jobs.into_iter().for_each(|job| job.settle(made.clone()));
    }
}

/// Decides jobs of one tenant until what they decided could be made so.
async fn make(
    shared: &Shared,
    tenant: &str,
    mut needs: Needs,
    jobs: &mut [Box<dyn Job>],
) -> Result<(), StoreFault> {
    let keys = Keys::of(tenant);
    let began = clock::now();
    while clock::now().since(began) < DECIDE_WAIT {
        let loaded = shared.load(&keys, &needs).await?;
        let Some(mut draft) = Draft::of(&needs, loaded, shared.secret.as_ref()) else {
            return Err(shared.link.unusable("a row is none that a gateway wrote".into()));
        };
        jobs.iter_mut().for_each(|job| job.decide(&mut draft));
        if draft.lacks_expired() {
            needs.expired = true;
            continue;
        }
        if draft.is_empty() {
            return Ok(());
        }
        let made: u64 = shared
            .link
            .call(&scripts::COMMIT, |call| {
                let Keys { account, entries, values, expiry, paths, versions, events } = &keys;
                for key in [account, entries, values, expiry, paths, versions, events] {
                    call.key(key);
                }
                call.key(TENANTS).key(FEED).key(FEED_AT);
                draft.write(tenant, call);
            })
            .await?;
        if made == 1 {
            return Ok(());
        }
        shared.conflicts.inc();
    }
    Err(StoreFault::Busy)
}

impl Shared {
    pub async fn health(&self) -> Result<(), StoreFault> {
        let _pong: String = self.link.ask(&redis::cmd("PING")).await?;
        Ok(())
    }

    /// Every tenant that ever did something.
    pub async fn accounts(&self) -> Result<Vec<(String, Account)>, StoreFault> {
        let mut tenants: Vec<String> = self.link.ask(redis::cmd("SMEMBERS").arg(TENANTS)).await?;
        tenants.sort_unstable();
        let mut accounts = Vec::new();
        for tenant in tenants {
            let mut asked = redis::cmd("HMGET");
            asked.arg(Keys::of(&tenant).account);
            asked.arg(&["turn", "items", "bytes", "first", "before", "next", "head"]);
            let row: AccountRow = self.link.ask(&asked).await?;
            accounts.push((tenant, keys::account_of(row).1));
        }
        Ok(accounts)
    }

    /// Rows of one tenant as of one moment.
    pub async fn load(&self, keys: &Keys, needs: &Needs) -> Result<Loaded, StoreFault> {
        let script: &Script = &scripts::LOAD;
        self.link
            .read(script, |call| {
                call.key(&keys.account).key(&keys.entries).key(&keys.values).key(&keys.expiry);
                match &self.clock {
                    Some(clock) => call.arg(clock().0),
                    None => call.arg(""),
                };
                call.arg(if needs.expired { EVICTED_MAX } else { 0 }).arg(needs.paths.len());
                for path in needs.paths.iter().chain(&needs.values) {
                    call.arg(path);
                }
            })
            .await
    }
}

/// For a place in the queue: a Redis that has not taken one step in that time is not keeping up.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// For the answer, from there: the queue in front, each step of which is bounded.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// For gateways that change the same tenant at the same time. Each that has to decide anew saw another go
/// on, so this is long enough for thousands.
const DECIDE_WAIT: Duration = Duration::from_secs(5);
/// Of values that one step writes, unless one alone is more: Redis does nothing else meanwhile.
const STEP_BYTES_MAX: usize = 4 * 1024 * 1024;
