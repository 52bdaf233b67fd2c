//! What tests say things with: processes, clients, sets of resources, conditions.

mod certs;
mod client;
mod page;
mod process;
mod resources;
mod third;

use std::future::Future;
use std::time::{Duration, Instant};

pub use certs::{Authority, Pair};
pub use client::{Answer, Caller, Flow, chat, h2, lines};
pub use page::Page;
pub use process::{Atp, Folder, atp, finished, told};
pub use resources::{adapter, adapter_at, key_hash, route, tenant};
pub use third::{h3, quic};

use loadtest::mock::{Mock, MockConfig, serve_here};

/// A mock that does what models' names say.
pub async fn mock() -> Mock {
    serve_here(MockConfig::default()).await.expect("a free port")
}

/// All that was asked of it is over and counted: it counts an answer behind its last byte, when whoever asked
/// may have read it already.
pub async fn counted(mock: &Mock) {
    let is_over = async || mock.stats().models.values().all(|model| model.under_way == 0);
    until("the mock to have counted its answers", is_over).await;
}

/// Looks until it is so, or fails after [`PATIENCE`] with what it waited for.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    until_some(what, async || is_so().await.then_some(())).await;
}

/// Looks until there is something.
pub async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for: {what}", PATIENCE.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What must end within [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for: {what}", PATIENCE.as_secs()),
    }
}

/// Long for a machine that builds and tests at once; every wait ends as soon as it can.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
