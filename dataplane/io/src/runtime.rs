//! Threads: one current-thread runtime per worker, so that a request never changes core, and one more for
//! everything that is not a request, so that a scrape or a push of configuration never delays one.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Handle;

/// Starts a thread that runs `task` to its end on a runtime of its own, for which others may have tasks too.
pub fn spawn<F, T>(name: String, task: F) -> io::Result<(JoinHandle<()>, Handle)>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(task()))?;
    Ok((thread, handle))
}

/// Name lookups of one worker at once; they are rare, since connections are kept.
const BLOCKING_THREADS_MAX: usize = 4;
/// Tasks polled between two looks at the sockets.
const EVENT_INTERVAL: u32 = 61;
