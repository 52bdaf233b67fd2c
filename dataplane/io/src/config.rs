//! The data plane's own settings: a file, environment variables over it, flags over both. Every mistake at
//! once.

mod adapters;
pub mod environment;
mod memory;
mod tls;
mod tracing;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use dataplane_core::admit::often::{BURST_MAX, PER_SECOND_MAX, Rate};
use proto_core::logline::Shape;
use proto_core::parse::environment::take_all;
use proto_core::parse::{Document, Field, Fields, Mistake, Source, config};
use proto_core::units::Permille;

pub use self::memory::Memory;
pub use self::tls::Tls;
pub use self::tracing::{Export, Tracing};
use crate::drain::Times;

/// How one data plane runs. What it serves is not here: that comes from a resources file or the control
/// plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Cleartext HTTP/1.1 and h2c for clients. The first must bind; the others are taken where the port is
    /// free.
    pub http: Vec<SocketAddr>,
    pub admin: SocketAddr,
    /// Health and metrics alone, for whoever watches from another machine.
    pub probes: Option<SocketAddr>,
    /// Whether the clients' listeners have `/metrics` too, which name tenants.
    pub shows_metrics: bool,
    /// Whether they have `/adapters/health`, which names adapters.
    pub shows_adapters: bool,
    /// Names this data plane is called by: who sends no key and calls another is refused. Empty: any.
    pub hosts: Vec<Box<str>>,
    /// Clients behind TLS.
    pub tls: Option<Tls>,
    /// Serving threads.
    pub workers: usize,
    /// Where the last known good set is kept.
    pub data_dir: PathBuf,
    pub origin: Origin,
    /// Unique among the data planes of a control plane.
    pub node: String,
    pub limits: Limits,
    pub drain: Times,
    /// How often `cheapest_acceptable` puts another candidate second.
    pub explore: Permille,
    /// Asked for the addresses of `dns://` and `srv://` endpoints; none: those the system asks.
    pub dns_servers: Vec<SocketAddr>,
    /// Adapters that the environment names; served beside those of the origin, which win.
    pub named_adapters: Vec<Document>,
    pub memory: Memory,
    pub tracing: Tracing,
    /// Of `atp up`: on loopback an adapter may attach without a certificate.
    pub is_local: bool,
    /// How logs are written, where the file says it.
    pub log_format: Option<Shape>,
}

/// Where the resources come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A file, read again when it changes.
    File(PathBuf),
    ControlPlane {
        url: String,
        /// Sent as a bearer token; read again at each connection.
        token_file: Option<PathBuf>,
        /// For `https`.
        tls: Option<ControlTls>,
    },
}

/// PEM files for the way to the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlTls {
    /// Roots in place of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What one client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients.
    pub connections: u32,
    /// Of a request's body.
    pub body_bytes: u64,
    /// Of `/v1/ask`'s prompt.
    pub prompt_chars: u32,
    /// Bytes of bodies and answers held at once, by all workers together.
    pub memory_bytes: u64,
    /// Requests a second of one key, else of one address; `None`: as many as it likes.
    pub requests_per_second: Option<u32>,
    /// How many of these at once; `None`: as many as a second's.
    pub requests_burst: Option<u32>,
}

impl Limits {
    /// How often a caller may ask, where that is bounded.
    pub fn often(&self) -> Option<Rate> {
        let per_second = self.requests_per_second?;
        Some(Rate::new(per_second, self.requests_burst.unwrap_or(per_second)))
    }

    fn check(&self, mistakes: &mut Vec<Mistake>) {
        if self.requests_burst.is_some() && self.requests_per_second.is_none() {
            let what = "has no effect without limits.requests_per_second (ROUTER_RPS_LIMIT)".into();
            mistakes.push(Mistake { place: None, path: "limits.requests_burst".into(), what });
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            body_bytes: 4 * 1024 * 1024,
            prompt_chars: 6000,
            memory_bytes: 1024 * 1024 * 1024,
            requests_per_second: None,
            requests_burst: None,
        }
    }
}

/// Environment variables, as a lookup so that tests need none.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// The settings of `atp up` before anything is changed: loopback, all cores.
    pub fn local(data_dir: PathBuf, origin: Origin) -> Config {
        Config {
            http: vec![SocketAddr::new(LOOPBACK, PORT)],
            admin: SocketAddr::new(LOOPBACK, ADMIN_PORT),
            probes: None,
            shows_metrics: true,
            shows_adapters: true,
            hosts: Vec::new(),
            tls: None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            data_dir,
            origin,
            node: "local".into(),
            limits: Limits::default(),
            drain: Times::default(),
            explore: Permille(50),
            dns_servers: Vec::new(),
            named_adapters: Vec::new(),
            memory: Memory::default(),
            tracing: Tracing::default(),
            is_local: true,
            log_format: None,
        }
    }

    /// From a file and the environment, with warnings. `folder`: what relative paths in the file start from.
    pub fn read(
        source: &Source<'_>,
        folder: &Path,
        env: Env<'_>,
    ) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        let read = Config::read_from(source, KNOWN, env, |fields| origin(fields, folder, env), folder);
        read.map(|(config, warnings)| (Config { is_local: false, ..config }, warnings))
    }

    /// The same for `atp up`, which brings its own control plane: the file names no origin.
    pub fn read_local(
        source: &Source<'_>,
        folder: &Path,
        env: Env<'_>,
        own: Origin,
    ) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        Config::read_from(source, KNOWN_LOCAL, env, |_| own, folder)
    }

    fn read_from(
        source: &Source<'_>,
        known: &'static [&'static str],
        env: Env<'_>,
        origin: impl FnOnce(&Fields<'_>) -> Origin,
        folder: &Path,
    ) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        let (mut read, warnings) = config(source, known, |fields| {
            let origin = origin(fields);
            Some(file(fields, folder, env, origin))
        })?;
        let mut mistakes = read.take(env);
        // Where no origin is named, it is brought along.
        let is_local = !known.contains(&"resources");
        let config = read.whole(is_local, &mut mistakes);
        if mistakes.is_empty() { Ok((config, warnings)) } else { Err(mistakes) }
    }

    /// For `atp up`, whose settings are flags and environment alone.
    pub fn with_environment(self, env: Env<'_>) -> Result<Config, Vec<Mistake>> {
        let mut read = Read { config: self, cleartext: false, tls: tls::Said::default() };
        let mut mistakes = read.take(env);
        let config = read.whole(true, &mut mistakes);
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
    }

    /// Where this data plane keeps what it served.
    pub fn kept_dir(&self) -> PathBuf {
        self.data_dir.join("sets").join(&self.node)
    }

    fn check_cleartext(&self, allowed: bool, mistakes: &mut Vec<Mistake>) {
        let mut open = |path: &str, address: SocketAddr| {
            if !allowed && !address.ip().is_loopback() {
                let what = format!(
                    "{address} is not loopback and would carry keys and prompts in cleartext; \
                     listen on 127.0.0.1, or set `listen.cleartext: allowed` (ATP_CLEARTEXT=allowed)"
                );
                mistakes.push(Mistake { place: None, path: path.into(), what });
            }
        };
        self.http.iter().for_each(|address| open("listen.http", *address));
        open("listen.admin", self.admin);
        self.memory.check_cleartext(allowed, mistakes);
    }
}

/// What was said so far, by the file and the environment.
struct Read {
    config: Config,
    cleartext: bool,
    tls: tls::Said,
}

impl Read {
    /// What the environment says; its mistakes.
    fn take(&mut self, env: Env<'_>) -> Vec<Mistake> {
        let mut mistakes = take_all(environment::VARIABLES, env, self);
        mistakes.extend(take_all(memory::VARIABLES, env, &mut self.config.memory));
        let mut said = tracing::Said::default();
        let mut wrong = take_all(tracing::VARIABLES, env, &mut said);
        // OpenTelemetry's own names are often set for every program of a platform, whether it traces or not.
        wrong.retain(|mistake| said.is_wanted() || !mistake.path.contains("OTEL_"));
        mistakes.extend(wrong);
        self.config.tracing = said.whole(&mut mistakes);
        mistakes
    }

    /// The settings, once everybody has spoken.
    fn whole(self, is_local: bool, mistakes: &mut Vec<Mistake>) -> Config {
        self.config.check_cleartext(self.cleartext, mistakes);
        self.config.limits.check(mistakes);
        Config { tls: self.tls.whole(is_local, mistakes), ..self.config }
    }
}

fn file(fields: &Fields<'_>, folder: &Path, env: Env<'_>, origin: Origin) -> Read {
    let mut config = Config::local(data_dir(fields, folder, env), origin);
    let mut cleartext = false;
    if let Some(listen) = fields.optional("listen").and_then(|f| f.fields(LISTEN)) {
        set(&mut config.http[0], listen.optional("http"), address);
        let also = listen.optional("also").and_then(|field| field.list(0..=16)).unwrap_or_default();
        config.http.extend(also.into_iter().filter_map(address));
        set(&mut config.admin, listen.optional("admin"), address);
        let shown = [("shown", true), ("hidden", false)];
        set(&mut config.shows_metrics, listen.optional("metrics"), |field| field.one_of(&shown));
        set(&mut config.shows_adapters, listen.optional("adapters"), |field| field.one_of(&shown));
        let hosts = listen.optional("hosts").and_then(|field| field.list(0..=HOSTS_MAX)).unwrap_or_default();
        config.hosts = hosts.into_iter().filter_map(|host| host.parsed(host_name)).collect();
        set(&mut config.probes, listen.optional("probes"), |field| address(field).map(Some));
        let table = [("loopback", false), ("allowed", true)];
        set(&mut cleartext, listen.optional("cleartext"), |field| field.one_of(&table));
    }
    set(&mut config.workers, fields.optional("workers"), |field| {
        field.whole(1..=WORKERS_MAX as u64).and_then(|workers| usize::try_from(workers).ok())
    });
    set(&mut config.node, fields.optional("node"), |field| field.parsed(node));
    const LIMITS: &[&str] = &[
        "connections",
        "body_bytes",
        "prompt_chars",
        "memory_bytes",
        "requests_per_second",
        "requests_burst",
    ];
    if let Some(limits) = fields.optional("limits").and_then(|field| field.fields(LIMITS)) {
        set(&mut config.limits.connections, limits.optional("connections"), |f| f.whole(1..=1_000_000u32));
        set(&mut config.limits.body_bytes, limits.optional("body_bytes"), |f| f.whole(1024..=1u64 << 30));
        set(&mut config.limits.prompt_chars, limits.optional("prompt_chars"), |f| f.whole(PROMPT_CHARS));
        set(&mut config.limits.memory_bytes, limits.optional("memory_bytes"), |f| f.whole(MEMORY_BYTES));
        let often = &mut config.limits;
        set(&mut often.requests_per_second, limits.optional("requests_per_second"), |f| {
            f.whole(1..=PER_SECOND_MAX).map(Some)
        });
        set(&mut often.requests_burst, limits.optional("requests_burst"), |f| {
            f.whole(1..=BURST_MAX).map(Some)
        });
    }
    if let Some(drain) = fields.optional("drain").and_then(|field| field.fields(&["delay_ms", "grace_ms"])) {
        set(&mut config.drain.delay, drain.optional("delay_ms"), |field| field.millis(0..=600_000));
        set(&mut config.drain.grace, drain.optional("grace_ms"), |field| field.millis(0..=3_600_000));
    }
    set(&mut config.explore, fields.optional("explore_permille"), |field| {
        field.whole(0..=1000u16).map(Permille)
    });
    let servers = fields.optional("dns_servers").and_then(|field| field.list(0..=DNS_SERVERS_MAX));
    config.dns_servers = servers.unwrap_or_default().into_iter().filter_map(address).collect();
    if let Some(log) = fields.optional("log").and_then(|field| field.fields(&["format"])) {
        let shapes = [("text", Some(Shape::Text)), ("json", Some(Shape::Json))];
        set(&mut config.log_format, log.optional("format"), |field| field.one_of(&shapes));
    }
    config.memory.file(fields);
    let mut tls = tls::Said::default();
    tls.file(fields, folder);
    Read { config, cleartext, tls }
}

fn origin(fields: &Fields<'_>, folder: &Path, env: Env<'_>) -> Origin {
    let resources = fields.optional("resources");
    let control = fields.optional("control_plane");
    match (resources, control) {
        (Some(_), Some(control)) => {
            control.mistake("stands beside `resources`; name the file or the control plane, not both");
            Origin::File(PathBuf::new())
        }
        (Some(file), None) => Origin::File(file.text().map(|path| folder.join(path)).unwrap_or_default()),
        (None, Some(control)) => control_plane(&control, fields, folder, env),
        (None, None) => {
            fields.mistake(
                "names neither `resources: FILE` nor `control_plane: { url: … }`; one of them is needed",
            );
            Origin::File(PathBuf::new())
        }
    }
}

fn control_plane(control: &Field<'_>, fields: &Fields<'_>, folder: &Path, env: Env<'_>) -> Origin {
    let read = control.fields(&["url", "token_file", "ca", "cert", "key"]);
    let read = read.as_ref();
    let path = |name| read.and_then(|read| read.optional(name)?.text()).map(|path| folder.join(path));
    let url = read.and_then(|read| read.required("url")?.parsed(control_url)).unwrap_or_default();
    let client = match (path("cert"), path("key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            control.mistake("names one of `cert` and `key`; a client certificate needs both");
            None
        }
    };
    let tls = ControlTls { ca: path("ca"), client };
    let is_https = url.starts_with("https://");
    if tls != ControlTls::default() && !is_https && !url.is_empty() {
        control.mistake("names certificates, which only https:// uses");
    }
    // With a client certificate the control plane knows who asks; a token is sent where one is named.
    let default = || data_dir(fields, folder, env).join(TOKEN_FILE);
    let token_file = path("token_file").or_else(|| tls.client.is_none().then(default));
    Origin::ControlPlane { url, token_file, tls: is_https.then_some(tls) }
}

/// `$ATP_DATA_DIR` or `$ROUTER_DATA_DIR`, else the file's, else the user's folder for state.
fn data_dir(fields: &Fields<'_>, folder: &Path, env: Env<'_>) -> PathBuf {
    let of_file = fields.optional("data_dir").and_then(|field| field.text().map(|path| folder.join(path)));
    environment::data_dir(env).or(of_file).unwrap_or_else(|| default_data_dir(env))
}

/// It names a folder too.
fn node(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match text.bytes().all(is_plain) && !text.starts_with('.') && text.len() <= NODE_BYTES_MAX {
        true => Ok(text.into()),
        false => {
            Err("a node's name is at most 128 letters, digits, '-', '_' and '.', and starts with no '.'")
        }
    }
}

fn set<'r, T>(place: &mut T, field: Option<Field<'r>>, read: impl FnOnce(Field<'r>) -> Option<T>) {
    if let Some(value) = field.and_then(read) {
        *place = value;
    }
}

fn address(field: Field<'_>) -> Option<SocketAddr> {
    field.parsed(|text| text.parse().map_err(|_| "an address is written 127.0.0.1:7443 or [::1]:7443"))
}

/// As the `host` header has it, without a port.
fn host_name(text: &str) -> Result<Box<str>, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.into()),
        false => Err("is no name such as router.example.com, without a port"),
    }
}

/// Whether an address in `http://` or `https://` leads to this machine: by its whole host, since
/// `127.0.0.1.example.com` is somebody's name.
fn is_of_this_machine(url: &str) -> bool {
    let url = url.parse::<http::Uri>();
    let host = url.as_ref().ok().and_then(http::Uri::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn control_url(url: &str) -> Result<String, &'static str> {
    match url.starts_with("http://") {
        _ if url.starts_with("https://") => Ok(url.into()),
        true if is_of_this_machine(url) => Ok(url.into()),
        true => Err("cleartext to the control plane is only for loopback; use https://"),
        false => Err("a control plane's address is written https://HOST:7440 or http://127.0.0.1:7440"),
    }
}

/// `$ATP_DATA_DIR` or `$ROUTER_DATA_DIR`, else `atp` in the user's folder for state.
pub fn default_data_dir(env: Env<'_>) -> PathBuf {
    let state = || env("XDG_STATE_HOME").filter(|path| path.starts_with('/')).map(PathBuf::from);
    let home = || env("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = || state().or_else(home).unwrap_or_else(std::env::temp_dir).join("atp");
    environment::data_dir(env).unwrap_or_else(state)
}

/// In the data folder: what a data plane shows its control plane.
pub const TOKEN_FILE: &str = "dataplane.token";
/// As many as the system's own settings may name.
const DNS_SERVERS_MAX: usize = 3;
const NODE_BYTES_MAX: usize = 128;
/// Names of one data plane: each service, namespace and cluster gives it some.
const HOSTS_MAX: usize = 64;
/// Of a name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Of bodies and answers: less than the first does not hold one of each, more than the last is no machine.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 16 * 1024 * 1024..=1 << 44;
/// Of `/v1/ask`.
const PROMPT_CHARS: std::ops::RangeInclusive<u32> = 1..=100_000;
/// More threads than this are a typing error.
const WORKERS_MAX: usize = 1024;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PORT: u16 = 7443;
const ADMIN_PORT: u16 = 7445;
const LISTEN: &[&str] = &["http", "also", "admin", "probes", "metrics", "adapters", "hosts", "cleartext"];
const KNOWN_LOCAL: &[&str] = &[
    "listen",
    "tls",
    "workers",
    "node",
    "data_dir",
    "limits",
    "drain",
    "explore_permille",
    "dns_servers",
    "memory",
    "log",
];
const KNOWN: &[&str] = &[
    "listen",
    "tls",
    "workers",
    "node",
    "data_dir",
    "resources",
    "control_plane",
    "limits",
    "drain",
    "explore_permille",
    "dns_servers",
    "memory",
    "log",
];
