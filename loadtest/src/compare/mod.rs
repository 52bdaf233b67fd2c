//! atp next to nginx: the CPU time that each spends on a request and on a chunk.
//!
//! What it is for: the one number that says what the proxy costs beyond moving bytes, in a form that anyone
//! can repeat. One command starts the mock, both proxies and the generator, measures in interleaved rounds
//! and ends them all. It never compares numbers of different runs, and never reads a clock for cost: only CPU
//! time counts, for wall time on a shared machine measures the neighbours.

pub mod command;
mod configs;
pub mod report;
pub mod rounds;
pub(crate) mod stage;
pub mod statistics;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use configs::Ports;
use report::Comparison;
use rounds::{Case, Measurement, Proxy, Times, measure, order, plan};
use stage::{Actor, Core};

/// What to compare, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) times: Times,
    pub(crate) nginx: PathBuf,
    pub(crate) atp: PathBuf,
    /// With `{config}` and `{directory}` still in place.
    pub(crate) atp_arguments: Vec<String>,
    pub(crate) key: String,
    pub(crate) proxy_core: Core,
    pub(crate) load_core: Core,
    pub(crate) seed: u64,
}

/// A proxy that runs and answers.
struct Contender {
    proxy: Proxy,
    port: u16,
    actor: Actor,
}

/// Runs the contest in `directory`; `on_measured` sees each measurement as it comes.
pub(crate) async fn compare(
    contest: &Contest,
    directory: &Path,
    on_measured: impl Fn(&Measurement),
) -> Result<Comparison, String> {
    stage::pin_self(contest.load_core)?;
    let (upstream, mock) = start_mock(contest, directory).await?;
    let mut contenders = Vec::with_capacity(contest.proxies.len());
    for &proxy in &contest.proxies {
        contenders.push(start(contest, proxy, upstream, directory).await?);
    }
    let mut measurements = Vec::new();
    for round in 0..contest.rounds {
        for &case in &contest.cases {
            for proxy in order(round, &contest.proxies) {
                let contender = contenders.iter().find(|contender| contender.proxy == proxy);
                let contender = contender.expect("every proxy of the order has been started");
                let plan = plan(case, contender.port, &contest.key, contest.times, contender.actor.pids())?;
                let measured = measure(round, case, proxy, &plan).await;
                let measured = measured.map_err(|why| format!("{why}; {}", contender.actor.log_end()))?;
                on_measured(&measured);
                measurements.push(measured);
            }
        }
    }
    drop(contenders);
    drop(mock);
    Ok(Comparison::new(setting(contest), measurements, contest.seed))
}

async fn start_mock(contest: &Contest, directory: &Path) -> Result<(u16, Actor), String> {
    let program =
        std::env::current_exe().map_err(|e| format!("finding this program, to start its mock: {e}"))?;
    let arguments =
        ["mock", "--no-record", "--tokens", CHUNKS, "--answer-bytes", ANSWER_BYTES].map(str::to_owned);
    let mut mock = Actor::start("mock", &program, &arguments, contest.load_core, directory)?;
    let said = mock.wait_for_line("mock listening on http://").await?;
    let address: SocketAddr = said.parse().map_err(|e| format!("the mock said it listens on {said}: {e}"))?;
    Ok((address.port(), mock))
}

async fn start(
    contest: &Contest,
    proxy: Proxy,
    upstream: u16,
    directory: &Path,
) -> Result<Contender, String> {
    let ports = Ports { upstream, proxy: stage::free_port()?, admin: stage::free_port()? };
    let (name, program, arguments) = match proxy {
        Proxy::Nginx => {
            let config = directory.join("nginx.conf");
            write(&config, &configs::nginx(directory, ports))?;
            let at = |path: &Path| path.display().to_string();
            let log = directory.join("nginx-error.log");
            let arguments = ["-e".into(), at(&log), "-p".into(), at(directory), "-c".into(), at(&config)];
            ("nginx", &contest.nginx, arguments.to_vec())
        }
        Proxy::Atp => {
            let (config, resources) = (directory.join("atp.yaml"), directory.join("resources.yaml"));
            let data = directory.join("atp-data");
            std::fs::create_dir_all(&data).map_err(|e| format!("{}: {e}", data.display()))?;
            write(&resources, &configs::resources(upstream, &contest.key))?;
            write(&config, &configs::atp(&data, &resources, ports))?;
            ("atp", &contest.atp, atp_arguments(contest, &config, directory))
        }
    };
    let mut actor = Actor::start(name, program, &arguments, contest.proxy_core, directory)?;
    actor.wait_for(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.proxy))).await?;
    Ok(Contender { proxy, port: ports.proxy, actor })
}

fn atp_arguments(contest: &Contest, config: &Path, directory: &Path) -> Vec<String> {
    let (config, directory) = (config.display().to_string(), directory.display().to_string());
    let filled = contest.atp_arguments.iter();
    filled.map(|word| word.replace("{config}", &config).replace("{directory}", &directory)).collect()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("writing {}: {e}", path.display()))
}

fn setting(contest: &Contest) -> Vec<String> {
    let core = |core: Core| core.map_or("any core".to_owned(), |core| format!("core {core}"));
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let processor =
        processor.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let version = std::process::Command::new(&contest.nginx).arg("-v").output();
    let version =
        version.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned()).unwrap_or_default();
    vec![
        format!("proxies on {}, mock and generator on {}", core(contest.proxy_core), core(contest.load_core)),
        format!(
            "{} rounds of {:?} each, behind {:?} of warm-up",
            contest.rounds, contest.times.measured, contest.times.warmup
        ),
        format!(
            "requests: 32 connections, {ANSWER_BYTES} bytes of text each; \
             streams, paced: 64 of {CHUNKS} tokens"
        ),
        format!("processor {processor}, kernel {}", read("/proc/sys/kernel/osrelease").trim()),
        version,
        format!("atp: {} {}", contest.atp.display(), contest.atp_arguments.join(" ")),
    ]
}

/// Tokens of a streamed answer.
const CHUNKS: &str = "200";
/// Text of an answer, streamed or not.
const ANSWER_BYTES: &str = "500";
