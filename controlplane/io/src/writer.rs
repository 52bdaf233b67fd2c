//! The one writer: takes intents one after another, commits each and only then shows the new state to
//! everyone. Readers take the present [`State`] and never wait for it, nor for the store.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use controlplane_core::compile::compile;
use controlplane_core::intent::{Change, Intent, Plan, Refusal, Verb, Write, plan};
use controlplane_core::stored::Stored;
use proto_core::sync::{Generation, PublishedSet, TooLarge};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::store::{Store, StoreFault};

/// What is stored, as of one generation.
#[derive(Debug)]
pub struct State {
    pub stored: Stored,
    pub published: Arc<PublishedSet>,
}

impl State {
    pub fn generation(&self) -> Generation {
        self.published.generation()
    }
}

/// What became of an intent.
#[derive(Debug, Clone)]
pub struct Applied {
    pub changes: Arc<Vec<Change>>,
    /// After the changes; where nothing changed, the one before.
    pub generation: Generation,
}

/// Why an intent changed nothing, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    #[error("refused")]
    Refused(Refusal),
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
    #[error("{0}")]
    Store(#[from] StoreFault),
    #[error("{WAITING_MAX} changes wait already; try again in a moment")]
    Busy,
    #[error(
        "the store took over {WAIT_SECONDS_MAX} s; the change may still be made: look before you repeat it"
    )]
    Late,
    #[error("the control plane is stopping")]
    Stopping,
}

/// Hands intents to the writer and shows what it made of them. Clones speak to the same writer, which ends
/// with the last of them.
#[derive(Debug, Clone)]
pub struct Writer {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<Arc<State>>,
    applied: broadcast::Sender<Applied>,
}

#[derive(Debug)]
enum Command {
    Change { intent: Intent, done: oneshot::Sender<Result<Applied, WriteFault>> },
    Close,
}

impl Writer {
    /// Loads the store and starts the writer on a thread for blocking work.
    pub async fn start(store: Box<dyn Store>) -> Result<Writer, WriteFault> {
        let (commands, queue) = mpsc::channel(WAITING_MAX);
        let (applied, _) = broadcast::channel(APPLIED_KEPT);
        let (ready, started) = oneshot::channel();
        let events = applied.clone();
        tokio::task::spawn_blocking(move || match Bench::open(store, events) {
            Ok((bench, state)) => {
                // Nobody waits for a start that was given up; the queue is closed then, and the bench ends.
                let _ = ready.send(Ok(state));
                bench.work(queue);
            }
            Err(fault) => {
                let _ = ready.send(Err(fault));
            }
        });
        let state = started.await.map_err(|_| WriteFault::Stopping)??;
        Ok(Writer { commands, state, applied })
    }

    /// Makes a change, or says why not. A caller that goes away does not undo it.
    pub async fn submit(&self, intent: Intent) -> Result<Applied, WriteFault> {
        let (done, answer) = oneshot::channel();
        self.commands.try_send(Command::Change { intent, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteFault::Busy,
            mpsc::error::TrySendError::Closed(_) => WriteFault::Stopping,
        })?;
        let answer =
            timeout(Duration::from_secs(WAIT_SECONDS_MAX), answer).await.map_err(|_| WriteFault::Late)?;
        answer.map_err(|_| WriteFault::Stopping)?
    }

    /// What the intent would change now; stores nothing.
    pub async fn consider(&self, intent: Intent) -> Result<Applied, WriteFault> {
        let state = self.state();
        let considered = tokio::task::spawn_blocking(move || {
            let plan = plan(&state.stored, intent).map_err(WriteFault::Refused)?;
            compile(&plan.next, state.generation())?;
            Ok(Applied { changes: Arc::new(plan.changes), generation: state.generation() })
        });
        considered.await.map_err(|_| WriteFault::Stopping)?
    }

    /// Makes what waits already, then closes the store. Changes after it are refused.
    pub async fn close(&self) {
        // An error means that it is closed.
        let _ = self.commands.send(Command::Close).await;
        self.commands.closed().await;
    }

    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Wakes with every new state; a slow reader sees the newest, not each.
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Every change from now on; a reader more than [`APPLIED_KEPT`] behind is told that it missed some.
    pub fn applied(&self) -> broadcast::Receiver<Applied> {
        self.applied.subscribe()
    }
}

/// Where the writer works. Blocks; lives on its own thread.
struct Bench {
    store: Box<dyn Store>,
    state: watch::Sender<Arc<State>>,
    applied: broadcast::Sender<Applied>,
    /// A commit failed, so what is on disk may be newer than what is shown.
    is_unsure: bool,
}

impl Bench {
    fn open(
        mut store: Box<dyn Store>,
        applied: broadcast::Sender<Applied>,
    ) -> Result<(Bench, watch::Receiver<Arc<State>>), WriteFault> {
        let (state, states) = watch::channel(Arc::new(load(store.as_mut())?));
        Ok((Bench { store, state, applied, is_unsure: false }, states))
    }

    fn work(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(Command::Change { intent, done }) = queue.blocking_recv() {
            // A caller that went away is not told; what it asked for holds all the same.
            let _ = done.send(self.apply(intent));
        }
        // The store first: whoever sees the queue closed may open it again.
        drop(self);
        drop(queue);
    }

    fn apply(&mut self, intent: Intent) -> Result<Applied, WriteFault> {
        self.make_sure()?;
        let before = Arc::clone(&self.state.borrow());
        let plan = plan(&before.stored, intent).map_err(WriteFault::Refused)?;
        if plan.is_empty() {
            return Ok(Applied { changes: Arc::new(plan.changes), generation: before.generation() });
        }
        let Generation { epoch, number } = before.generation();
        let next = Generation { epoch, number: number + 1 };
        // Compiled before it is stored: what cannot be published must not be stored.
        let published = Arc::new(compile(&plan.next, next)?);
        self.commit(next, &plan)?;
        let Plan { changes, next: stored } = plan;
        self.state.send_replace(Arc::new(State { stored, published }));
        let changed = changes.iter().filter(|change| change.verb() != Verb::Unchanged).count();
        tracing::info!(generation = %next, changed, "resources changed");
        let applied = Applied { changes: Arc::new(changes), generation: next };
        // Nobody watching is no error.
        let _ = self.applied.send(applied.clone());
        Ok(applied)
    }

    fn commit(&mut self, next: Generation, plan: &Plan) -> Result<(), WriteFault> {
        let writes: Vec<Write<'_>> = plan.writes().collect();
        let Err(fault) = self.store.commit(next, &writes) else { return Ok(()) };
        tracing::error!(%fault, generation = %next, "the store failed while a change was written");
        self.is_unsure = true;
        // The change may be on disk all the same: looking is the only way to know. Where looking fails too,
        // the next intent looks again.
        let _ = self.make_sure();
        let is_durable = !self.is_unsure && self.state.borrow().generation() == next;
        if is_durable { Ok(()) } else { Err(fault.into()) }
    }

    /// After a failed commit: shows what is on disk.
    fn make_sure(&mut self) -> Result<(), WriteFault> {
        if self.is_unsure {
            let state = load(self.store.as_mut())?;
            self.state.send_replace(Arc::new(state));
            self.is_unsure = false;
        }
        Ok(())
    }
}

fn load(store: &mut dyn Store) -> Result<State, WriteFault> {
    let loaded = store.load()?;
    let stored: Stored = loaded.entries.into_iter().collect();
    let published = Arc::new(compile(&stored, loaded.generation)?);
    Ok(State { stored, published })
}

/// Intents that wait for the writer. Each may hold 16 MiB of documents.
pub const WAITING_MAX: usize = 16;

/// Seconds a caller waits for the writer: sixteen slow disks' worth of commits.
pub const WAIT_SECONDS_MAX: u64 = 30;

/// Change sets a slow watcher may be behind.
pub const APPLIED_KEPT: usize = 256;
