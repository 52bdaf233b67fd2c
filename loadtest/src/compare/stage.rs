//! The processes of a comparison: started, pinned, waited for, and ended.
//!
//! What it is for: a proxy alone on its core, the mock and the generator on another. Whatever way a
//! comparison ends, its children end with it. It never uses a port that something else listens on.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One process of the comparison; dropping it ends it.
pub(crate) struct Actor {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Which core a process may use; `None` leaves it to the kernel.
pub(crate) type Core = Option<u16>;

impl Actor {
    /// Starts a program with stdout and stderr in `directory/NAME.log`.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        core: Core,
        directory: &Path,
    ) -> Result<Actor, String> {
        let log = directory.join(format!("{name}.log"));
        let failed = |e: &dyn std::fmt::Display| format!("starting {name} ({}): {e}", program.display());
        let out = File::create(&log).map_err(|e| failed(&e))?;
        let err = out.try_clone().map_err(|e| failed(&e))?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        let spawned = command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = spawned.map_err(|e| match core {
            Some(_) => format!("starting {name} by taskset: {e}; install util-linux or use --no-pin"),
            None => failed(&e),
        })?;
        Ok(Actor { name, child, log })
    }

    /// The process and its children: nginx works in one.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        std::iter::once(own).chain(children_of(own)).collect()
    }

    /// Waits until the address accepts connections; the error carries the end of the log.
    pub(crate) async fn wait_for(&mut self, address: SocketAddr) -> Result<(), String> {
        self.poll("accept connections", || TcpStream::connect(address).is_ok().then_some(())).await
    }

    /// Waits for a line of the log that starts so; returns the rest of it.
    pub(crate) async fn wait_for_line(&mut self, start: &str) -> Result<String, String> {
        let log = self.log.clone();
        let find = || {
            let text = std::fs::read_to_string(&log).ok()?;
            let whole = text.lines().take(text.matches('\n').count());
            whole.filter_map(|line| line.strip_prefix(start)).map(str::to_owned).next()
        };
        self.poll("say where it listens", find).await
    }

    async fn poll<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "{} ended with {status} before it did {what}: {}",
                    self.name,
                    self.log_end()
                ));
            }
            if Instant::now() > deadline {
                let waited = START_MAX.as_secs();
                return Err(format!("{} did not {what} within {waited} s: {}", self.name, self.log_end()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        if lines.is_empty() {
            "its log is empty".into()
        } else {
            format!("its log ends:\n{}", lines[from..].join("\n"))
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // By the polite signal first: a killed master would leave its workers behind. The standard library
        // sends only the other one, and a binding for one call is not worth an unsafe block.
        let mut polite = Command::new("kill");
        polite.arg("-TERM").arg(self.child.id().to_string()).stderr(Stdio::null());
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = polite.status();
        let deadline = Instant::now() + STOP_MAX;
        while asked.is_ok() && Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::park_timeout(POLL),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // An error means it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves this process, with all its threads, to a core.
pub(crate) fn pin_self(core: Core) -> Result<(), String> {
    let Some(core) = core else { return Ok(()) };
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &std::process::id().to_string()])
        .output()
        .map_err(|e| format!("taskset: {e}; install util-linux or use --no-pin"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "pinning to core {core}: {}; choose --load-core among those of `nproc`, or --no-pin",
        why.trim()
    ))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|e| format!("looking for a free port on 127.0.0.1: {e}"))
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Programs start in milliseconds; one that compiles something first is not ready to be measured.
const START_MAX: Duration = Duration::from_secs(15);
const STOP_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
const LOG_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_ends_before_it_is_ready_is_reported_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["-c".to_owned(), "echo no such config >&2; exit 3".to_owned()];
        let mut actor =
            Actor::start("shell", Path::new("/bin/sh"), &arguments, None, directory.path()).unwrap();
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let why = actor.wait_for(nobody).await.unwrap_err();
        assert!(why.contains("exit status: 3") && why.contains("no such config"), "{why}");
    }

    #[tokio::test]
    async fn a_program_ends_when_its_actor_is_dropped_and_its_children_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let arguments =
            ["-c".to_owned(), "sleep 600 & trap 'kill $!; exit' TERM; echo at: $!; wait".to_owned()];
        let mut actor =
            Actor::start("shell", Path::new("/bin/sh"), &arguments, None, directory.path()).unwrap();
        let child: u32 = actor.wait_for_line("at: ").await.unwrap().parse().unwrap();
        let pids = actor.pids();
        assert_eq!(pids, [actor.child.id(), child]);
        drop(actor);
        assert!(!Path::new(&format!("/proc/{}", pids[0])).exists());
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Actor::start("atp", Path::new("/no/such/atp"), &[], None, directory.path());
        assert!(missing.err().unwrap().contains("/no/such/atp"));
    }
}
