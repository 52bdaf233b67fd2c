//! More asked for than an upstream can do: what still gets through, and how soon the rest is told.
//!
//! What it is for: one command that starts a slow mock and atp, offers multiples of the mock's capacity in
//! open loop, and prints goodput, the latency of refusals and the processor time of the proxy. It never
//! counts a refusal as an answer.

pub mod command;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

use crate::compare::stage::{self, Actor, Core};
use crate::generate::plan::{AskFor, Load, Plan, Target};
use crate::generate::report::{Report, Spread};
use crate::generate::schedule::Arrivals;

/// How the adapter's limit is found, as its document says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Concurrency {
    Fixed,
    Aimd,
    Gradient,
}

/// What to try.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) atp: PathBuf,
    pub(crate) factors: Vec<f64>,
    pub(crate) permits: u32,
    pub(crate) queued: u32,
    pub(crate) concurrency: Concurrency,
    pub(crate) capacity: u32,
    pub(crate) at_ease: u32,
    pub(crate) retry_after: Option<u32>,
    pub(crate) measured: Duration,
    pub(crate) warmup: Duration,
    pub(crate) proxy_core: Core,
    pub(crate) load_core: Core,
    pub(crate) seed: u64,
}

/// What came of one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    factor: f64,
    offered_per_s: f64,
    /// Goodput, of the best of all loads.
    of_peak: f64,
    /// Processor time of the proxy, of one core.
    proxy_cpu: f64,
    shed_us: Spread,
    /// The limit by the second, from the first of the warm-up; empty where it does not move.
    limits: Vec<u32>,
    report: Report,
}

/// Runs the trial in `directory`; `say` gets each line as it comes.
pub(crate) async fn run(
    trial: &Trial,
    directory: &Path,
    say: impl Fn(String),
) -> Result<Vec<Outcome>, String> {
    stage::pin_self(trial.load_core)?;
    let (upstream, _mock) = start_mock(trial, directory).await?;
    let (proxy, admin, atp) = start_atp(trial, upstream, directory).await?;
    say(format!(
        "upstream: {:.0} answers/s of {:?} each; {}",
        trial.capacity_per_s(),
        SERVICE,
        trial.terms()
    ));
    say(HEADINGS.into());
    let mut outcomes: Vec<Outcome> = Vec::new();
    for &factor in &trial.factors {
        let plan = trial.plan(factor, proxy, &atp)?;
        let length = trial.warmup + trial.measured;
        let (report, limits) = tokio::join!(crate::generate::generate(&plan), trial.limits(admin, length));
        let report = report.map_err(|why| format!("{why}; {}", atp.log_end()))?;
        let outcome = Outcome::new(factor, trial.capacity_per_s() * factor, report, limits);
        say(outcome.line());
        outcomes.push(outcome);
    }
    let peak = outcomes.iter().map(|outcome| outcome.report.good_per_s).fold(f64::MIN_POSITIVE, f64::max);
    for outcome in &mut outcomes {
        outcome.of_peak = outcome.report.good_per_s / peak;
        say(format!("{:>5}×  {:.3} of the peak", outcome.factor, outcome.of_peak));
    }
    Ok(outcomes)
}

impl Trial {
    /// Answers that the upstream can give.
    fn capacity_per_s(&self) -> f64 {
        let bounds = [self.capacity, self.at_ease].into_iter().filter(|bound| *bound > 0);
        let at_once = bounds.min().unwrap_or(self.permits).min(self.permits);
        f64::from(at_once) / SERVICE.as_secs_f64()
    }

    fn terms(&self) -> String {
        let concurrency = format!("{:?}", self.concurrency).to_lowercase();
        let (permits, queued) = (self.permits, self.queued);
        let bounds = format!("bears {}, at ease with {} (0: any)", self.capacity, self.at_ease);
        format!("{bounds}; adapter {concurrency}, max_parallel {permits}, max_queued {queued}")
    }

    fn script(&self) -> String {
        let (first, tokens) = (FIRST_TOKEN.as_millis(), TOKENS);
        let paced = format!("tokens-{tokens}--first-token-ms-{first}--token-rate-{TOKEN_RATE}");
        let retry_after = self.retry_after.map(|seconds| format!("--retry-after-{seconds}"));
        let retry_after = retry_after.unwrap_or_default();
        format!("{paced}--capacity-{}--at-ease-{}{retry_after}", self.capacity, self.at_ease)
    }

    fn resources(&self, upstream: u16) -> String {
        let concurrency = format!("{:?}", self.concurrency).to_lowercase();
        format!(
            "kind: Adapter\nname: slow\nspec:\n  kind: openai\n  endpoint: http://127.0.0.1:{upstream}/v1\n  \
             concurrency: {concurrency}\n  limits: {{ max_parallel: {}, max_queued: {} }}\n  \
             models: [ {{ name: {MODEL}, price: {{ in: 0.15, out: 0.60 }} }} ]\n",
            self.permits, self.queued
        )
    }

    fn plan(&self, factor: f64, proxy: u16, atp: &Actor) -> Result<Plan, String> {
        let path = "/v1/chat/completions";
        let ask = AskFor { path, model: MODEL, stream: true, tokens: 0, prompt_bytes: 100 };
        Ok(Plan {
            target: Target::new(&format!("http://127.0.0.1:{proxy}"), path, false)?,
            ask: vec![ask.body()],
            headers: vec![(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))],
            stream: true,
            load: Load::Open { rate: self.capacity_per_s() * factor, arrivals: Arrivals::Poisson },
            duration: Some(self.measured),
            requests: None,
            warmup: self.warmup,
            timeout: TIMEOUT,
            in_flight_max: IN_FLIGHT_MAX,
            seed: self.seed,
            pids: atp.pids(),
        })
    }

    /// The limit each second.
    async fn limits(&self, admin: SocketAddr, length: Duration) -> Vec<u32> {
        let mut limits = Vec::new();
        let (started, mut ticks) = (Instant::now(), interval(Duration::from_secs(1)));
        while self.concurrency != Concurrency::Fixed && started.elapsed() < length {
            ticks.tick().await;
            // A page that does not come is a second without a figure.
            limits.extend(limit_of(admin).await);
        }
        limits
    }
}

impl Outcome {
    fn new(factor: f64, offered_per_s: f64, report: Report, limits: Vec<u32>) -> Outcome {
        let busy_us: f64 = report.cpu.iter().map(|cpu| cpu.user_us + cpu.system_us).sum();
        let proxy_cpu = busy_us / 1e6 / report.elapsed_s;
        let shed_us = report.failure_latency_us.get(SHED).cloned().unwrap_or_default();
        Outcome { factor, offered_per_s, of_peak: 0.0, proxy_cpu, shed_us, limits, report }
    }

    fn line(&self) -> String {
        let Report { good_per_s, latency_us, failures, send_lag_us, .. } = &self.report;
        let ms = |us: f64| us / 1e3;
        let mut line = format!(
            "{:>5}× {:>11.1} {good_per_s:>8.1} {:>9.1}% {:>13.2} {:>7.2} {:>13.1} {:>7.1} {:>17.2}",
            self.factor,
            self.offered_per_s,
            self.proxy_cpu * 100.0,
            ms(self.shed_us.p50),
            ms(self.shed_us.p99),
            ms(latency_us.p50),
            ms(latency_us.p99),
            ms(send_lag_us.p99),
        );
        for (failure, count) in failures {
            line += &format!("  {failure}: {count}");
        }
        if !self.limits.is_empty() {
            line += &format!("\n       limit by the second: {:?}", self.limits);
        }
        line
    }
}

async fn start_mock(trial: &Trial, directory: &Path) -> Result<(u16, Actor), String> {
    let program =
        std::env::current_exe().map_err(|e| format!("finding this program, to start its mock: {e}"))?;
    let script = trial.script();
    let arguments = ["mock", "--no-record", "--fault", &script].map(str::to_owned);
    let mut mock = Actor::start("mock", &program, &arguments, trial.load_core, directory)?;
    let said = mock.wait_for_line("mock listening on http://").await?;
    let address: SocketAddr = said.parse().map_err(|e| format!("the mock said it listens on {said}: {e}"))?;
    Ok((address.port(), mock))
}

async fn start_atp(
    trial: &Trial,
    upstream: u16,
    directory: &Path,
) -> Result<(u16, SocketAddr, Actor), String> {
    let (http, admin) = (stage::free_port()?, stage::free_port()?);
    let at = |name: &str| directory.join(name).display().to_string();
    let config = format!(
        "listen: {{ http: 127.0.0.1:{http}, admin: 127.0.0.1:{admin} }}\nworkers: 1\ndata_dir: {}\n\
         resources: {}\n",
        at("data"),
        at("resources.yaml")
    );
    for (name, text) in [("atp.yaml", config), ("resources.yaml", trial.resources(upstream))] {
        std::fs::write(directory.join(name), text).map_err(|e| format!("writing {}: {e}", at(name)))?;
    }
    let arguments = ["dataplane".into(), "--config".into(), at("atp.yaml")];
    let mut actor = Actor::start("atp", &trial.atp, &arguments, trial.proxy_core, directory)?;
    let [clients, admin] = [http, admin].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    actor.wait_for(clients).await?;
    let deadline = Instant::now() + READY_MAX;
    while !fetched(clients, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        if Instant::now() > deadline {
            return Err(format!("atp serves nothing: {}", actor.log_end()));
        }
        tokio::time::sleep(READY_LOOK).await;
    }
    Ok((http, admin, actor))
}

/// As the metrics say it now.
async fn limit_of(admin: SocketAddr) -> Option<u32> {
    let page = fetched(admin, "/metrics").await.ok()?;
    let line = page.lines().find(|line| line.starts_with("atp_upstream_limit{"))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// A whole answer, head and all.
async fn fetched(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const HEADINGS: &str = "  load   offered/s   good/s  proxy cpu  shed: p50 ms  p99 ms  \
                        good: p50 ms  p99 ms  sent late: p99 ms";
const MODEL: &str = "mock-model";
/// What a proxy with too much to do answers.
const SHED: &str = "status 429";
/// One answer: 20 ms to its first token, then 19 more at 100 a second. Long beside what a proxy takes, short
/// enough for many in a run.
const SERVICE: Duration = Duration::from_millis(210);
const FIRST_TOKEN: Duration = Duration::from_millis(20);
const TOKENS: u32 = 20;
const TOKEN_RATE: u32 = 100;
/// It reads one small file.
const READY_MAX: Duration = Duration::from_secs(10);
const READY_LOOK: Duration = Duration::from_millis(10);
/// Beyond any wait in a queue that a trial asks for.
const TIMEOUT: Duration = Duration::from_secs(60);
const IN_FLIGHT_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Script;

    fn trial(permits: u32, capacity: u32, at_ease: u32) -> Trial {
        Trial {
            atp: PathBuf::new(),
            factors: Vec::new(),
            permits,
            queued: 0,
            concurrency: Concurrency::Aimd,
            capacity,
            at_ease,
            retry_after: Some(3),
            measured: Duration::ZERO,
            warmup: Duration::ZERO,
            proxy_core: None,
            load_core: None,
            seed: 1,
        }
    }

    #[test]
    fn an_answer_of_the_mock_takes_as_long_as_is_said() {
        let mut script = Script::default();
        script.apply(&trial(8, 5, 4).script()).unwrap();
        let rest = Duration::from_secs(1) * (script.tokens - 1) / script.token_rate;
        assert_eq!(script.first_token + rest, SERVICE);
        assert_eq!((script.capacity, script.at_ease, script.retry_after_s), (5, 4, Some(3)));
    }

    #[test]
    fn the_narrowest_bound_is_what_the_upstream_can_do_and_none_is_no_bound() {
        let per_s = |permits, capacity, at_ease| {
            (trial(permits, capacity, at_ease).capacity_per_s() * SERVICE.as_secs_f64()).round()
        };
        assert_eq!(
            [per_s(16, 0, 0), per_s(16, 40, 0), per_s(400, 40, 0), per_s(400, 40, 30)],
            [16.0, 16.0, 40.0, 30.0]
        );
    }

    #[test]
    fn the_adapter_is_declared_as_the_trial_says() {
        let text = trial(8, 0, 0).resources(99);
        assert!(text.contains("127.0.0.1:99/v1") && text.contains("concurrency: aimd"), "{text}");
        assert!(text.contains("max_parallel: 8, max_queued: 0"), "{text}");
    }
}
