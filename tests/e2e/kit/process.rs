//! `atp` as a child: its addresses read from what it says, its end waited for, its life ended with the test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{PATIENCE, until, until_some};

/// A process that runs until it is told to end, or this is dropped.
pub struct Atp {
    child: Child,
    said: Arc<Mutex<String>>,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    /// The control plane's gRPC; of `up` and `controlplane`.
    pub grpc: SocketAddr,
    /// The memory gateway; of `up`.
    pub memory: SocketAddr,
}

impl Drop for Atp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- atp said:\n{}", self.said());
        }
    }
}

impl Atp {
    /// `atp up` with settings that choose free ports.
    pub async fn up(folder: &Folder) -> Atp {
        Atp::up_with(folder, "").await
    }

    /// The same; `more`: lines of settings.
    pub async fn up_with(folder: &Folder, more: &str) -> Atp {
        Atp::up_as(folder, more, &[]).await
    }

    /// The same with variables of the environment.
    pub async fn up_as(folder: &Folder, more: &str, env: &[(&str, &str)]) -> Atp {
        let settings = folder.write("up.yaml", &format!("{LISTEN}{WORKERS}{more}"));
        let mut command = atp(folder);
        command.args(["up", "--grpc", "127.0.0.1:0", "--control-http", "127.0.0.1:0"]);
        command.args(["--memory", "127.0.0.1:0", "--data-dir"]);
        command.arg(folder.data()).arg("--config").arg(settings).envs(env.iter().copied());
        let mut atp = Atp::start(command);
        atp.clients = atp.address("OpenAI base URL: http://").await;
        atp.admin = atp.address("admin          http://").await;
        atp.grpc = atp.address("gRPC ").await;
        atp.memory = atp.address("memory         http://").await;
        atp
    }

    /// A data plane that serves `resources.yaml` of the folder.
    pub async fn of_file(folder: &Folder, resources: &str) -> Atp {
        Atp::of_file_with(folder, resources, "").await
    }

    /// The same; `more`: lines of settings.
    pub async fn of_file_with(folder: &Folder, resources: &str, more: &str) -> Atp {
        folder.write("resources.yaml", resources);
        let atp = Atp::dataplane(folder, &format!("resources: resources.yaml\n{more}")).await;
        atp.until_ready().await;
        atp
    }

    /// A data plane; `more`: lines of settings, where its resources come from among them.
    pub async fn dataplane(folder: &Folder, more: &str) -> Atp {
        Atp::with_listeners(folder, LISTEN, more).await
    }

    /// The same; `listen`: the line that says where.
    pub async fn with_listeners(folder: &Folder, listen: &str, more: &str) -> Atp {
        Atp::dataplane_of(folder, listen, more, &[]).await
    }

    /// A data plane with variables of the environment.
    pub async fn dataplane_as(folder: &Folder, more: &str, env: &[(&str, &str)]) -> Atp {
        Atp::dataplane_of(folder, LISTEN, more, env).await
    }

    async fn dataplane_of(folder: &Folder, listen: &str, more: &str, env: &[(&str, &str)]) -> Atp {
        let workers = if more.contains("workers:") { "" } else { WORKERS };
        let settings = folder.write("dataplane.yaml", &format!("{listen}{workers}{more}"));
        let mut command = atp(folder);
        command.args(["dataplane", "--config"]).arg(settings).env("ATP_DATA_DIR", folder.data());
        command.envs(env.iter().copied());
        let mut atp = Atp::start(command);
        atp.clients = atp.address("clients: http://").await;
        atp.admin = atp.address("admin: http://").await;
        atp
    }

    /// A control plane; `grpc`: its address, port 0 for a free one.
    pub async fn controlplane(folder: &Folder, grpc: SocketAddr) -> Atp {
        let settings =
            format!("listen: {{ grpc: \"{grpc}\", http: \"127.0.0.1:0\", cleartext: loopback }}\n");
        let settings = folder.write("controlplane.yaml", &settings);
        let mut command = atp(folder);
        command.args(["controlplane", "--config"]).arg(settings).arg("--data-dir").arg(folder.data());
        let mut atp = Atp::start(command);
        atp.grpc = atp.address("grpc=").await;
        atp
    }

    /// A memory gateway; its address is that of clients.
    pub async fn memory(folder: &Folder, arguments: &[&str], env: &[(&str, &str)]) -> Atp {
        let mut command = atp(folder);
        command.args(["memory", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.data());
        command.args(arguments).envs(env.iter().copied());
        let mut atp = Atp::start(command);
        atp.clients = atp.address("memory gateway http://").await;
        atp
    }

    fn start(mut command: Command) -> Atp {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut child = spawned.expect("the binary runs");
        let said = Arc::new(Mutex::new(String::new()));
        listen(child.stdout.take().expect("a pipe"), &said);
        listen(child.stderr.take().expect("a pipe"), &said);
        let none = "127.0.0.1:0".parse().expect("an address");
        Atp { child, said, clients: none, admin: none, grpc: none, memory: none }
    }

    /// Everything it wrote so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("readers do not panic").clone()
    }

    /// The address behind `before` in what it says.
    async fn address(&self, before: &str) -> SocketAddr {
        until_some(&format!("an address behind `{before}`"), async || {
            let said = self.said();
            let line = said.split_once(before)?.1;
            let end = line.find(|at: char| !at.is_ascii_digit() && !".:".contains(at))?;
            line[..end].trim_end_matches(':').parse().ok()
        })
        .await
    }

    /// Where it shows health and metrics alone.
    pub async fn probes(&self) -> SocketAddr {
        self.address("probes: http://").await
    }

    /// Where it speaks HTTP behind TLS.
    pub async fn https(&self) -> SocketAddr {
        self.address("https://").await
    }

    /// Where it speaks QUIC.
    pub async fn quic(&self) -> SocketAddr {
        self.address("quic://").await
    }

    /// A set of resources is served.
    pub async fn until_ready(&self) {
        until("readiness", async || {
            let status = super::Caller::new(self.clients).get("/readyz").await;
            status.status == 200
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success(), "the process is there");
    }

    /// The exit code, once it ended; `None` where a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        until_some("the end of the process", async || {
            child.try_wait().expect("a child can be waited for").map(|status| status.code())
        })
        .await
    }

    /// No destructor, no farewell.
    pub async fn kill(mut self) {
        self.signal("-KILL");
        assert_eq!(self.ended().await, None, "killed");
    }

    /// `atp ctl` with this control plane.
    pub async fn ctl(&self, folder: &Folder, arguments: &[&str]) -> Output {
        let mut command = atp(folder);
        command.arg("ctl").args(arguments).args(["--server", &format!("http://{}", self.grpc), "--data-dir"]);
        command.arg(folder.data());
        finished(command).await
    }

    /// Applies resources; the data plane takes them a little later.
    pub async fn apply(&self, folder: &Folder, resources: &str) {
        let file = folder.write("apply.yaml", resources);
        let output = self.ctl(folder, &["apply", "-f", &file.display().to_string()]).await;
        assert!(output.status.success(), "{}", told(&output));
    }

    /// Bytes of memory it holds.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }
}

/// What a command said, both ways.
pub fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command to its end.
pub async fn finished(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("a child can be waited for").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::park_timeout(super::LOOK_EVERY);
        }
        child.wait_with_output().expect("its output can be read")
    });
    run.await.expect("the command runs")
}

/// The binary, with nothing of the environment that would change it.
pub fn atp(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atp"));
    let own = std::env::vars().map(|(name, _)| name);
    let is_ours = |name: &String| {
        ["ATP_", "ROUTER_", "MEMORY_", "AUDIT_", "FEATURE_", "OTEL_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    own.filter(is_ours).for_each(|name| {
        command.env_remove(name);
    });
    command.env("HOME", folder.path()).env_remove("XDG_STATE_HOME").env("RUST_LOG", "info");
    command
}

fn listen(pipe: impl Read + Send + 'static, said: &Arc<Mutex<String>>) {
    let said = Arc::clone(said);
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut said = said.lock().expect("readers do not panic");
            said.push_str(&line);
            said.push('\n');
        }
    };
    std::thread::Builder::new().spawn(read).expect("a thread");
}

/// A folder of one test: settings, resources, data.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).expect("the folder can be written");
        path
    }
}

/// Free ports; leaving takes no longer than it must.
const LISTEN: &str = "listen: { http: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", probes: \"127.0.0.1:0\" }\n";
/// Where a test does not say.
const WORKERS: &str = "workers: 2\n";
