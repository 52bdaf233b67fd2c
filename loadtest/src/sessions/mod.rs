//! What a token costs the data plane over a session, beside the same stream over HTTP, and beside a relay
//! that is nothing but quinn.
//!
//! What it is for: the CPU time of the process in the middle for each token that reached the client, measured
//! in interleaved rounds. It never compares figures of different runs, and never takes a figure from a round
//! in which anything failed.

mod certs;
mod clients;
pub mod command;
mod pace;
mod relay;
pub mod report;
mod stage;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sdk_rust::{Encoding, Via};
use serde::Serialize;

use self::certs::Certs;
use self::clients::{Asking, Count};
use self::pace::Pace;
use self::report::{Found, Measurement};
use self::stage::{DIALED_MODEL, DataPlane, KEY, MODEL, Stage};
use crate::compare::stage::{Actor, Core, pin_self};
use crate::generate::process::CpuTime;

/// How tokens reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// HTTP/1.1, a connection for each stream.
    Sse,
    Ws,
    H2,
    Quic,
    /// From an adapter that dialed in over QUIC, to a client over QUIC.
    Dialed,
    /// Frames from one QUIC connection to another, and nothing else.
    Bare,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Sse => "sse",
            Way::Ws => "ws",
            Way::H2 => "h2",
            Way::Quic => "quic",
            Way::Dialed => "dialed",
            Way::Bare => "bare quinn",
        }
    }

    /// What others are compared with, where it is among them.
    fn base(ways: &[Way]) -> Way {
        let bases = [Way::Bare, Way::Sse];
        bases.into_iter().find(|base| ways.contains(base)).unwrap_or(ways[0])
    }
}

/// What to measure, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) ways: Vec<Way>,
    pub(crate) encoding: Encoding,
    /// Without TLS; QUIC always has it.
    pub(crate) is_plain: bool,
    pub(crate) streams: usize,
    pub(crate) pace: Pace,
    pub(crate) rounds: usize,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    pub(crate) program: PathBuf,
    /// With `{config}` still in place.
    pub(crate) arguments: Vec<String>,
    pub(crate) proxy_core: Core,
    pub(crate) load_core: Core,
    pub(crate) seed: u64,
}

/// All that runs meanwhile.
struct Running {
    data_plane: DataPlane,
    _mock: Actor,
    certs: Certs,
    _adapter: Option<Actor>,
    bare: Option<Bare>,
}

struct Bare {
    at: SocketAddr,
    relay: Actor,
    _far: Actor,
}

/// Measures in `directory`; `on_measured` sees each measurement as it comes.
pub(crate) async fn measure(
    contest: &Contest,
    directory: &Path,
    on_measured: impl Fn(&Measurement),
) -> Result<Found, String> {
    pin_self(contest.load_core)?;
    let running = start(contest, directory).await?;
    let mut measurements = Vec::new();
    for round in 0..contest.rounds {
        let mut ways = contest.ways.clone();
        // Being first, and following whom, falls on all of them.
        ways.rotate_left(round % contest.ways.len());
        for way in ways {
            let measured = running.one(contest, round, way).await;
            let log = || running.data_plane.actor.log_end();
            let measured =
                measured.map_err(|why| format!("round {round}, {}: {why}; {}", way.name(), log()))?;
            on_measured(&measured);
            measurements.push(measured);
        }
    }
    Ok(Found::new(measurements, Way::base(&contest.ways), contest.seed))
}

async fn start(contest: &Contest, directory: &Path) -> Result<Running, String> {
    let certs = Certs::make(directory)?;
    let Contest { pace, proxy_core, load_core, .. } = *contest;
    let stage = Stage { directory, certs: certs.clone(), pace, proxy_core, load_core };
    let (upstream, mock) = stage.mock().await?;
    let data_plane = stage.data_plane(&contest.program, &contest.arguments, upstream).await?;
    let adapter = match contest.ways.contains(&Way::Dialed) {
        true => {
            let url = format!("https://localhost:{}", data_plane.tls.port());
            let adapter = stage.part("adapter", load_core, &["--url".into(), url]).await?;
            let asking = asking(&data_plane, &certs, DIALED_MODEL);
            until_answered(asking).await.map_err(|why| format!("{why}; {}", adapter.log_end()))?;
            Some(adapter)
        }
        false => None,
    };
    let bare = match contest.ways.contains(&Way::Bare) {
        true => {
            let any = || Ok::<_, String>(SocketAddr::from((Ipv4Addr::LOCALHOST, stage::free_udp_port()?)));
            let (at, behind) = (any()?, any()?);
            let far = stage.part("far", load_core, &["--listen".into(), behind.to_string()]).await?;
            let more = ["--listen".into(), at.to_string(), "--upstream".into(), behind.to_string()];
            Some(Bare { at, relay: stage.part("relay", proxy_core, &more).await?, _far: far })
        }
        false => None,
    };
    Ok(Running { data_plane, _mock: mock, certs, _adapter: adapter, bare })
}

/// Over TLS, one stream.
fn asking(data_plane: &DataPlane, certs: &Certs, model: &str) -> Asking {
    Asking {
        address: data_plane.tls,
        certs: Some(certs.clone()),
        key: None,
        model: model.to_owned(),
        streams: 1,
        count: Count::default(),
    }
}

/// An adapter that dials is there some time after its process.
async fn until_answered(asking: Asking) -> Result<(), String> {
    let deadline = Instant::now() + ATTACH_WAIT;
    loop {
        let count = Count::default();
        let once = Asking { count: count.clone(), ..asking.clone() };
        let asked = tokio::spawn(once.session(Via::Quic, Encoding::Bin));
        // What is under way is answered to its end.
        while count.so_far() == 0 && !asked.is_finished() {
            tokio::time::sleep(POLL).await;
        }
        count.end();
        match asked.await.map_err(|error| error.to_string())? {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

impl Running {
    async fn one(&self, contest: &Contest, round: usize, way: Way) -> Result<Measurement, String> {
        let count = Count::default();
        let pids = match (way, &self.bare) {
            (Way::Bare, Some(bare)) => bare.relay.pids(),
            _ => self.data_plane.actor.pids(),
        };
        let mut asking = tokio::spawn(self.ask(contest, way, count.clone()));
        let watched = async {
            tokio::time::sleep(contest.warmup).await;
            let sample = || Ok::<_, String>((CpuTime::of_all(&pids)?, CpuTime::of(std::process::id())?));
            let ((before, client_before), tokens, begun) = (sample()?, count.so_far(), Instant::now());
            tokio::time::sleep(contest.measured).await;
            let ((after, client_after), elapsed) = (sample()?, begun.elapsed().as_secs_f64());
            Ok((after.since(before), client_after.since(client_before), count.so_far() - tokens, elapsed))
        };
        let watched: Result<_, String> = tokio::select! {
            watched = watched => watched,
            asked = &mut asking => Err(match asked {
                Ok(Ok(())) => "it ended too soon".into(),
                Ok(Err(why)) => why,
                Err(error) => error.to_string(),
            }),
        };
        let (cpu, client, tokens, elapsed) = watched?;
        count.end();
        let ended = tokio::time::timeout(END_WAIT, asking).await.map_err(|_| "it does not end")?;
        ended.map_err(|error| error.to_string())??;
        if tokens == 0 || cpu == CpuTime::default() {
            return Err("nothing was measured; give more --seconds".into());
        }
        Ok(Measurement {
            round,
            way,
            cpu_us: cpu.total_us() / tokens as f64,
            system_share: cpu.system.as_secs_f64() * 1e6 / cpu.total_us(),
            tokens_per_s: tokens as f64 / elapsed,
            client_share: client.total_us() / 1e6 / elapsed,
        })
    }

    fn ask(
        &self,
        contest: &Contest,
        way: Way,
        count: Count,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let is_plain = contest.is_plain && way != Way::Quic && way != Way::Dialed;
        let model = if way == Way::Dialed { DIALED_MODEL } else { MODEL };
        let asking = asking(&self.data_plane, &self.certs, model);
        let mut asking = Asking { streams: contest.streams, count: count.clone(), ..asking };
        if is_plain {
            (asking.address, asking.certs) = (self.data_plane.http, None);
            asking.key = Some(KEY.to_owned());
        }
        let (encoding, certs, streams) = (contest.encoding, self.certs.clone(), contest.streams);
        let bare = self.bare.as_ref().map(|bare| bare.at);
        async move {
            match way {
                Way::Sse => asking.http().await,
                Way::Ws => asking.session(Via::Ws, encoding).await,
                Way::H2 => asking.session(Via::H2, encoding).await,
                Way::Quic | Way::Dialed => asking.session(Via::Quic, encoding).await,
                Way::Bare => {
                    let at = bare.expect("started where it is measured");
                    relay::near(&certs, at, streams, count).await
                }
            }
        }
    }
}

/// From a process to its first answer.
const ATTACH_WAIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// For answers under way.
const END_WAIT: Duration = Duration::from_secs(20);
