//! A backend with a clock that is turned by hand, and a Redis of its own for tests.

use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::audit::Secret;
use memory_core::consistency::Consistency;
use memory_core::entry::Precondition;
use memory_core::place::{Namespace, Place};
use memory_core::quota::{Quota, Usage};
use memory_core::wall::Wall;
use tempfile::TempDir;

use crate::app::StartFault;
use crate::backend::redis::server::{Password, Server};
use crate::backend::{Backend, OneFile, Redis};
use crate::index::Index;
use crate::index::ask::Question;
use crate::store::Store;
use crate::store::changes::Put;
use crate::telemetry::Metrics;
use crate::writer::{Clock, Writer};

pub const QUOTA: Quota = Quota { items_max: 1000, bytes_max: 10_000_000 };
pub const NOW: u64 = 1_000_000;

/// A backend, and what it lives in.
pub struct Bench {
    pub backend: Backend,
    now: Arc<AtomicU64>,
    folder: TempDir,
    pub url: Option<String>,
}

impl Bench {
    pub async fn file() -> Bench {
        Bench::opened(None).await
    }

    /// In a database of its own.
    pub async fn redis(server: &RedisServer) -> Bench {
        Bench::opened(Some(server.database())).await
    }

    async fn opened(url: Option<String>) -> Bench {
        let (folder, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(NOW)));
        let backend = open(&folder, url.as_deref(), &now, None).await;
        Bench { backend, now, folder, url }
    }

    /// The same store, as another start of a gateway sees it.
    pub async fn again(self, secret: Option<Secret>) -> Bench {
        let Bench { backend, now, folder, url } = self;
        drop(backend);
        let backend = open(&folder, url.as_deref(), &now, secret).await;
        Bench { backend, now, folder, url }
    }

    pub fn pass(&self, ms: u64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    pub async fn text(&self, tenant: &str, raw: &str) -> Option<String> {
        let item = self.backend.get(tenant.into(), place(raw), Consistency::Eventual).await.unwrap();
        item.map(|item| String::from_utf8(item.value).unwrap())
    }

    pub async fn usage(&self, tenant: &str) -> Usage {
        let accounts = self.backend.accounts().await.unwrap();
        let found = accounts.into_iter().find(|(name, _)| name == tenant);
        found.map_or(Usage::default(), |(_, account)| account.usage)
    }

    /// Places of what is found, the best first.
    pub async fn found(&self, tenant: &str, text: &str) -> Vec<String> {
        found(&self.backend, tenant, text).await
    }

    pub async fn keys(&self, tenant: &str, namespace: &str) -> Vec<String> {
        let namespace = Namespace::parse(namespace).unwrap();
        let page = self.backend.list(tenant.into(), namespace, String::new(), None, 100).await.unwrap();
        page.rows.into_iter().map(|(key, _)| key).collect()
    }
}

async fn open(folder: &TempDir, url: Option<&str>, now: &Arc<AtomicU64>, secret: Option<Secret>) -> Backend {
    let read = Arc::clone(now);
    let clock: Clock = Arc::new(move || Wall(read.load(Ordering::Relaxed)));
    let metrics = Metrics::new().unwrap();
    if let Some(url) = url {
        let server = Server::parse(url, Password::None, None).unwrap();
        let (redis, ..) = Redis::open(server, Some(clock), secret, folder.path(), &metrics).await.unwrap();
        return Backend::Redis(redis);
    }
    // The writer of the gateway before may still be closing it.
    let (store, _) = until("the file", async || Store::open(folder.path(), secret.clone()).ok()).await;
    let store = Arc::new(store);
    let (writer, _) = Writer::start(Arc::clone(&store), Arc::clone(&clock), metrics.failed.clone()).unwrap();
    let followed: Arc<Store> = Arc::clone(&store);
    let (index, _) = Index::start(followed, folder.path(), &metrics).unwrap();
    Backend::File(OneFile { store, writer, index, clock })
}

pub async fn found(backend: &Backend, tenant: &str, text: &str) -> Vec<String> {
    let question = Question::of(text, None, 0, 10).expect("a word");
    let matches = backend.search(tenant.into(), question).await.unwrap();
    matches.items.into_iter().map(|(_, item)| item.path).collect()
}

/// A gateway as it is run, with the clock of its Redis, and its data folder.
pub struct Gateway {
    redis: Redis,
    _folder: TempDir,
}

impl Deref for Gateway {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}

pub async fn redis_at(url: &str, metrics: &Metrics) -> Result<Gateway, StartFault> {
    redis_with(url, Password::None, metrics).await
}

pub async fn redis_with(url: &str, password: Password, metrics: &Metrics) -> Result<Gateway, StartFault> {
    let (server, folder) = (Server::parse(url, password, None).unwrap(), tempfile::tempdir().unwrap());
    let (redis, ..) = Redis::open(server, None, None, folder.path(), metrics).await?;
    Ok(Gateway { redis, _folder: folder })
}

pub fn place(raw: &str) -> Place {
    Place::of_url(raw).unwrap()
}

pub fn asked(tenant: &str, raw: &str, value: &str) -> Put {
    Put {
        tenant: tenant.into(),
        place: place(raw),
        value: value.as_bytes().to_vec(),
        precondition: Precondition::Any,
        lifetime: None,
        quota: QUOTA,
    }
}

/// Asks again until there is something.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..1000 {
        ticks.tick().await;
        if let Some(found) = ask().await {
            return found;
        }
    }
    panic!("{what} did not come");
}

/// A Redis process on a port of its own, with an append-only file in a folder of its own.
pub struct RedisServer {
    pub port: u16,
    folder: TempDir,
    options: Vec<String>,
    child: Mutex<Child>,
    databases: AtomicU64,
}

/// One for each test that asks; `None`: there is no Redis on this machine, and nothing says there must be.
pub fn redis_server() -> Option<RedisServer> {
    RedisServer::start(&[])
}

impl RedisServer {
    pub fn start(options: &[&str]) -> Option<RedisServer> {
        let Some(program) = program() else {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and there is no redis-server");
            eprintln!("skipped: there is no redis-server");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let child = Mutex::new(spawned(&program, port, &folder, &options));
        Some(RedisServer { port, folder, options, child, databases: AtomicU64::new(0) })
    }

    pub fn database(&self) -> String {
        format!("redis://127.0.0.1:{}/{}", self.port, self.databases.fetch_add(1, Ordering::Relaxed))
    }

    /// As `kill -9` does.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let child = self.child.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &child]).status().unwrap().success());
    }

    /// With the files it left.
    pub fn restart(&self) {
        let program = program().expect("it was there before");
        *self.child.lock().unwrap() = spawned(&program, self.port, &self.folder, &self.options);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawned(program: &PathBuf, port: u16, folder: &TempDir, options: &Vec<String>) -> Child {
    let mut command = Command::new(program);
    // Debian's tools have the server under another name; it is what it is called.
    command.arg0("redis-server").args(["--bind", "127.0.0.1", "--databases", "100", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--port", &port.to_string()]);
    command.arg("--dir").arg(folder.path()).args(options);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    listens(port);
    child
}

fn listens(port: u16) {
    for _ in 0..1000 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("redis-server did not start");
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|at| at.is_file());
    found("redis-server").or_else(|| found("redis-check-rdb"))
}

/// Says that a missing Redis is an error.
const REQUIRED: &str = "ATP_TESTS_REDIS_REQUIRED";
