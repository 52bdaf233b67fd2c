//! The one that changes the store: a thread with a bounded queue. Jobs that wait together share one
//! transaction, so that many callers share the wait for the disk; each is answered after the commit.

use std::sync::Arc;
use std::time::Duration;

use memory_core::wall::Wall;
use prometheus::IntCounter;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::store::writing::Writing;
use crate::store::{Fail, Store, StoreFault};

/// Hands jobs to the thread. It ends once every handle is gone, after the jobs that wait.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

/// What time it is, for expiry and events.
pub type Clock = Arc<dyn Fn() -> Wall + Send + Sync>;

/// Does its part of a transaction; gives what is to be done once that is committed or failed.
type Job = Box<dyn FnOnce(&mut Writing<'_>, Wall) -> Result<Settle, Failed> + Send>;
type Settle = Box<dyn FnOnce(Result<(), StoreFault>) + Send>;

/// A job that failed, and takes its whole transaction along.
struct Failed {
    settle: Settle,
    fail: Fail,
}

/// Told when the thread has ended and the store is closed.
pub type Closed = oneshot::Receiver<()>;

impl Writer {
    /// Starts the thread. `failed` counts jobs whose transaction failed, those too that nobody waits for.
    pub fn start(store: Arc<Store>, clock: Clock, failed: IntCounter) -> std::io::Result<(Writer, Closed)> {
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let (ended, closed) = oneshot::channel();
        std::thread::Builder::new().name("memory-writer".into()).spawn(move || {
            work(&store, &clock, &failed, queue);
            drop(store);
            // Nobody waits for it where the gateway was dropped.
            let _ = ended.send(());
        })?;
        Ok((Writer { jobs }, closed))
    }

    /// Runs a job; what it gave, once that is on disk. A caller that goes away does not undo it.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writing<'_>, Wall) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let answer = self.begin(job).await?;
        let answer = timeout(ANSWER_WAIT, answer).await.map_err(|_| StoreFault::Late)?;
        answer.map_err(|_| StoreFault::Stopping)?
    }

    /// Waits for a place in the queue only; the job is done some time later.
    pub async fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writing<'_>, Wall) -> Result<T, Fail> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreFault>>, StoreFault> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |writing, now| {
            // An answer that nobody waits for any more is no error.
            match job(writing, now) {
                Ok(value) => Ok(Box::new(move |committed| drop(done.send(committed.map(|()| value))))),
                Err(fail) => {
                    let settle: Settle = Box::new(move |committed| {
                        drop(done.send(Err(committed.err().unwrap_or(StoreFault::Stopping))));
                    });
                    Err(Failed { settle, fail })
                }
            }
        });
        self.jobs.send_timeout(job, QUEUE_WAIT).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => StoreFault::Busy,
            SendTimeoutError::Closed(_) => StoreFault::Stopping,
        })?;
        Ok(answer)
    }
}

fn work(store: &Store, clock: &Clock, failed: &IntCounter, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut settled: Vec<Settle> = Vec::new();
        let committed = store.write(|writing| {
            let mut next = Some(first);
            while let Some(job) = next {
                match job(writing, clock()) {
                    Ok(settle) => settled.push(settle),
                    Err(Failed { settle, fail }) => {
                        settled.push(settle);
                        return Err(fail);
                    }
                }
                next = if settled.len() < TOGETHER_MAX { queue.try_recv().ok() } else { None };
            }
            Ok(())
        });
        if let Err(fault) = &committed {
            // Where it could not even begin, its first job was dropped, and its caller told so.
            let jobs = settled.len().max(1);
            failed.inc_by(jobs as u64);
            tracing::error!(%fault, jobs, "a transaction failed; it is kept as a whole or not at all");
        }
        settled.into_iter().for_each(|settle| settle(committed.clone()));
    }
}

/// Jobs that wait. Each may hold a value of 1 MiB.
pub const WAITING_MAX: usize = 64;
/// For a place among them: a disk that has not taken one transaction in that time is not keeping up.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// For the commit, from there: many slow ones.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Jobs in one transaction: one wait for the disk for all of them, and none waits for more than these.
pub const TOGETHER_MAX: usize = 64;

#[cfg(test)]
mod tests;
