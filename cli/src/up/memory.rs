//! The memory gateway inside `atp up`: its tenants are those of the set that the data plane serves, so a key
//! that is applied or taken away counts here at once. Without `--memory` it does without where its port is
//! taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use dataplane_io::app::Callers;
use dataplane_io::config::Env;
use memory_io::app::StartFault;
use memory_io::config::Tenants;
use memory_io::identity::{Denied, Directory, Found};
use memory_io::{Bound, Config};
use proto_core::model::Endpoint;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

/// Bound; nobody is served yet.
pub struct Ready {
    pub address: SocketAddr,
    bound: Bound,
    tenants: Arc<OfSet>,
}

/// Serving in a task of its own.
pub struct Serving {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// `None`: it ended.
    task: Option<JoinHandle<Result<(), String>>>,
}

/// Opens the store and binds; `None`: the port is taken and nobody asked for this one.
pub async fn bind(
    listen: Option<SocketAddr>,
    data_dir: PathBuf,
    env: Env<'_>,
) -> Result<Option<Ready>, String> {
    let address = listen.unwrap_or(DEFAULT);
    let tenants = Arc::new(OfSet { is_loopback: address.ip().is_loopback(), callers: OnceLock::new() });
    let known = Tenants::Known(Arc::clone(&tenants) as Arc<dyn Directory>);
    let config = Config::read(address, data_dir, known, env).map_err(|mistakes| mistakes.join("\n"))?;
    match memory_io::bind(config).await {
        Ok(bound) => Ok(Some(Ready { address: bound.address(), bound, tenants })),
        Err(StartFault::Listen { why: io::ErrorKind::AddrInUse, .. }) if listen.is_none() => {
            tracing::info!(%address, "is taken; the memory gateway is not served");
            Ok(None)
        }
        Err(fault) => Err(format!("the memory gateway: {fault}")),
    }
}

impl Ready {
    /// For the data plane beside it.
    pub fn endpoint(&self) -> Endpoint {
        let host = match self.address.ip() {
            address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address,
        };
        Endpoint::parse(&format!("http://{}", SocketAddr::new(host, self.address.port())))
            .expect("an address of ours is one")
    }

    pub fn start(self, callers: Callers) -> Serving {
        let Ready { address, bound, tenants } = self;
        tenants.callers.set(callers).expect("it starts once");
        let (stop, stopped) = oneshot::channel();
        // A sender that is gone means the same.
        let task = Some(tokio::spawn(bound.serve(async { drop(stopped.await) })));
        Serving { address, stop, task }
    }
}

impl Serving {
    /// Lets requests under way finish and closes the store.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        if let Some(task) = self.task.take()
            && let Err(why) = ended(task.await)
        {
            tracing::error!(why, "the memory gateway did not end well");
        }
    }
}

/// Until it ends by itself, with why; for ever where there is none.
pub async fn failed(memory: Option<&mut Serving>) -> String {
    let Some(memory) = memory else { return std::future::pending().await };
    let Some(task) = &mut memory.task else { return std::future::pending().await };
    let ended = ended(task.await);
    memory.task = None;
    format!("the memory gateway: {}", ended.err().unwrap_or_else(|| "it ended".into()))
}

fn ended(joined: Result<Result<(), String>, JoinError>) -> Result<(), String> {
    joined.unwrap_or_else(|error| Err(error.to_string()))
}

/// Who calls, as the data plane knows it.
#[derive(Debug)]
struct OfSet {
    is_loopback: bool,
    callers: OnceLock<Callers>,
}

impl Directory for OfSet {
    fn find(&self, key: Option<&[u8; 32]>) -> Result<Found, Denied> {
        let found = self.callers.get().and_then(|callers| callers.find(key, self.is_loopback));
        let found = found.ok_or(Denied::NotReady)?;
        let tenant = found.tenant.ok_or(match key {
            Some(_) => Denied::UnknownKey,
            None => Denied::NoKey,
        })?;
        Ok(Found { tenant, are_declared: found.are_declared })
    }
}

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
