//! An adapter: something that answers prompts, with the models it offers and what they cost.

use std::time::Duration;

use super::Name;
use crate::units::{Permille, Picodollars, TokenCount};

/// A model server or agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    pub name: Name,
    pub kind: AdapterKind,
    pub limits: Limits,
    pub concurrency: Concurrency,
    /// At least one; names are unique within the adapter.
    pub models: Vec<Model>,
}

/// How its work is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterKind {
    /// An OpenAI-compatible server.
    OpenAi { endpoint: Endpoint, auth: Option<Auth>, tls: Option<TlsFiles> },
    /// The same, which says itself at which of these places it is, and is asked there for as long as its word
    /// holds.
    Dialled { endpoints: Box<[Endpoint]>, lease: Duration, auth: Option<Auth>, tls: Option<TlsFiles> },
    /// A server of Anthropic's Messages.
    Anthropic { endpoint: Endpoint, auth: Option<Auth>, tls: Option<TlsFiles> },
    /// A server of Ollama's own API; without an endpoint the one its data plane's environment names.
    Ollama { endpoint: Option<Endpoint>, auth: Option<Auth>, tls: Option<TlsFiles> },
    /// A server of `atp.adapter.v1.AdapterService`.
    Grpc { endpoint: Endpoint, auth: Option<Auth>, tls: Option<TlsFiles> },
    /// Another adapter's model in a role.
    Persona(Persona),
    /// Built in, deterministic: answers with the prompt's own words.
    Echo(EchoSpeed),
    /// Dials in and takes work over the connection it opened.
    Attached,
}

impl AdapterKind {
    /// As written in documents.
    pub fn as_str(&self) -> &'static str {
        match self {
            AdapterKind::OpenAi { .. } | AdapterKind::Dialled { .. } => "openai",
            AdapterKind::Anthropic { .. } => "anthropic",
            AdapterKind::Ollama { .. } => "ollama",
            AdapterKind::Grpc { .. } => "grpc",
            AdapterKind::Persona(_) => "persona",
            AdapterKind::Echo(_) => "echo",
            AdapterKind::Attached => "attached",
        }
    }
}

/// A role that a model plays: what it is told first, and how it is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persona {
    /// Who plays it; `None`: the server that its data plane's environment names.
    pub over: Option<Over>,
    /// Put before the caller's own messages.
    pub system: Box<str>,
    /// In place of the caller's, 0 to 2000.
    pub temperature_permille: Option<u16>,
    /// In place of the caller's, 0 to 1000.
    pub top_p_permille: Option<u16>,
    /// Of an answer; the caller's where that is less.
    pub max_tokens: Option<u32>,
}

/// One model of another adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Over {
    pub adapter: Name,
    pub model: Name,
}

/// Personas of personas, one over the other.
pub const PERSONAS_DEEP_MAX: usize = 8;

/// How fast the built-in echo answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoSpeed {
    /// Wait before the first token. Zero: none.
    pub first_token: Duration,
    /// Tokens a second after the first. Zero: as fast as they are read.
    pub tokens_per_second: u32,
}

/// `http(s)://host:port/base`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub scheme: Scheme,
    pub discovery: Discovery,
    /// A DNS name or an address; IPv6 without brackets.
    pub host: Box<str>,
    /// Zero where an SRV record says.
    pub port: u16,
    /// Path put before the operation's, without a trailing slash: `/v1`, or empty.
    pub base_path: Box<str>,
}

/// How the addresses behind a host are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// By the system, whenever a connection is made, which takes the first that answers.
    None,
    /// All its addresses (A and AAAA), looked for again and again.
    Addresses,
    /// All targets of its SRV record, with their ports.
    Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Endpoint {
    /// From a URL, or why it is none. User info, query and fragment are refused: secrets belong in `auth`.
    pub fn parse(url: &str) -> Result<Endpoint, &'static str> {
        let (scheme, discovery, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, Discovery::None, rest),
            Some(("https", rest)) => (Scheme::Https, Discovery::None, rest),
            Some(("dns", rest)) => (Scheme::Http, Discovery::Addresses, rest),
            Some(("dns+https", rest)) => (Scheme::Https, Discovery::Addresses, rest),
            Some(("srv", rest)) => (Scheme::Http, Discovery::Service, rest),
            Some(("srv+https", rest)) => (Scheme::Https, Discovery::Service, rest),
            _ => return Err("an endpoint starts with http:// or https://, or with dns:// or srv://"),
        };
        if url.len() > URL_BYTES_MAX || url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("an endpoint is at most 2048 visible ASCII characters");
        }
        if rest.contains(['@', '?', '#']) {
            return Err("an endpoint has no user info, query or fragment; keys go into `auth`");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err("an endpoint names a host");
        }
        if discovery != Discovery::None && host.parse::<std::net::IpAddr>().is_ok() {
            return Err("an address needs no looking for; write http:// or https://");
        }
        if discovery == Discovery::Service && port.is_some() {
            return Err("an SRV record says the port; remove it");
        }
        let trimmed = path.trim_end_matches('/');
        let base_path = if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") };
        let port = port.unwrap_or(match (discovery, scheme) {
            (Discovery::Service, _) => 0,
            (_, Scheme::Http) => 80,
            (_, Scheme::Https) => 443,
        });
        Ok(Endpoint { scheme, discovery, host: host.into(), port, base_path: base_path.into() })
    }

    /// The name that its certificate carries: of a service without what makes it one (`_http._tcp`).
    pub fn server_name(&self) -> &str {
        let mut name = &*self.host;
        while self.discovery == Discovery::Service
            && let Some((label, rest)) = name.split_once('.')
            && label.starts_with('_')
        {
            name = rest;
        }
        name
    }

    /// As written in documents.
    pub fn url(&self) -> String {
        let prefix = match (self.discovery, self.scheme) {
            (Discovery::None, Scheme::Http) => "http",
            (Discovery::None, Scheme::Https) => "https",
            (Discovery::Addresses, Scheme::Http) => "dns",
            (Discovery::Addresses, Scheme::Https) => "dns+https",
            (Discovery::Service, Scheme::Http) => "srv",
            (Discovery::Service, Scheme::Https) => "srv+https",
        };
        let host = if self.discovery == Discovery::Service { &*self.host } else { &self.authority() };
        format!("{prefix}://{host}{}", self.base_path)
    }

    /// What goes into the `host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = self.server_name();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) | (_, 0) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    const BAD_PORT: &str = "the port is a number from 1 to 65535";
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
        match after {
            "" => (host, None),
            _ => (host, Some(after.strip_prefix(':').ok_or(BAD_PORT)?)),
        }
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    match port {
        None => Ok((host, None)),
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err(BAD_PORT),
        },
    }
}

/// The credential this proxy shows to the adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Auth {
    /// `authorization: Bearer …`
    Bearer(SecretRef),
    /// A header of the adapter's choice, such as `x-api-key`.
    Header { name: Box<str>, value: SecretRef },
}

/// Where a secret is found; the set never carries its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// `${NAME}`: an environment variable of the data plane.
    Env(Box<str>),
    /// `file:PATH`: a file on the data plane's machine, without its trailing newline.
    File(Box<str>),
}

/// TLS beyond the system's roots. Paths on the data plane's machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsFiles {
    /// PEM roots that replace the system's.
    pub ca: Option<Box<str>>,
    /// PEM client certificate chain and its key; both or neither.
    pub client: Option<(Box<str>, Box<str>)>,
}

/// What the adapter is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight, 1 to 1,000,000.
    pub max_parallel: u32,
    /// Tokens in flight; `None`: not limited.
    pub max_tokens_in_flight: Option<TokenCount>,
    /// Requests that wait for a permit, of each model. Zero: none waits, what has no permit is refused.
    pub max_queued: u32,
}

impl Limits {
    /// Requests in flight where the document names none: far above what a model server batches, and bounded.
    pub const MAX_PARALLEL_DEFAULT: u32 = 1024;
    /// As many as may be in flight: a queue longer than that is mostly one of callers who have given up.
    pub const MAX_QUEUED_DEFAULT: u32 = 1024;
}

/// How the limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    #[default]
    Fixed,
    Aimd,
    Gradient,
}

/// One model of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub name: Name,
    /// What the adapter calls it; the same as `name` unless `upstream_name` says otherwise.
    pub upstream_name: Name,
    /// Longest prompt plus answer; `None`: not stated, not checked.
    pub context_tokens: Option<TokenCount>,
    pub price: Price,
    /// 0 to 1000. 500 where not stated.
    pub quality: Permille,
    /// Expected 95th percentile of the first token, milliseconds; `None`: not stated.
    pub latency_p95_ms: Option<u32>,
    pub status: ModelStatus,
    pub safety_grade: Grade,
}

/// Picodollars a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    pub input: Picodollars,
    pub output: Picodollars,
    pub cached_input: Picodollars,
    pub cache_write: Picodollars,
    pub reasoning: Picodollars,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModelStatus {
    /// Takes traffic.
    #[default]
    Active,
    /// Never chosen for an answer.
    Shadow,
    /// Chosen only when nothing active is left.
    Fallback,
}

impl ModelStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ModelStatus::Active => "active",
            ModelStatus::Shadow => "shadow",
            ModelStatus::Fallback => "fallback",
        }
    }
}

/// Safety grade; `A` is the best. Ordered so that `A > B > C > D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Grade {
    D = 1,
    C = 2,
    B = 3,
    #[default]
    A = 4,
}

pub const URL_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_scheme_host_port_and_base() {
        let endpoint = Endpoint::parse("http://127.0.0.1:11434/v1/").unwrap();
        assert_eq!((&*endpoint.host, endpoint.port, &*endpoint.base_path), ("127.0.0.1", 11434, "/v1"));
        assert_eq!(endpoint.authority(), "127.0.0.1:11434");
        let endpoint = Endpoint::parse("https://api.example.com").unwrap();
        assert_eq!((endpoint.port, endpoint.authority().as_str()), (443, "api.example.com"));
        let endpoint = Endpoint::parse("http://[::1]:80/a/b").unwrap();
        assert_eq!((&*endpoint.host, endpoint.authority().as_str()), ("::1", "[::1]"));
    }

    #[test]
    fn an_endpoint_says_how_its_addresses_are_found() {
        let of = |url: &str| {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(endpoint.url(), url.trim_end_matches('/'));
            (endpoint.discovery, endpoint.scheme, endpoint.port, endpoint.authority())
        };
        let expected = (Discovery::Addresses, Scheme::Http, 8000, "models:8000".to_owned());
        assert_eq!(of("dns://models:8000/v1"), expected);
        assert_eq!(of("dns+https://models").1, Scheme::Https);
        let service = (Discovery::Service, Scheme::Http, 0, "models.svc.local".to_owned());
        assert_eq!(of("srv://_http._tcp.models.svc.local"), service);
        assert_eq!(of("srv+https://_x._tcp.models/v1").1, Scheme::Https);
        assert_eq!(of("https://h:8443/v1").0, Discovery::None);
    }

    #[test]
    fn an_endpoint_with_a_secret_or_a_bad_port_is_refused() {
        for url in [
            "ftp://x",
            "http://",
            "dns://127.0.0.1:80",
            "srv://_http._tcp.x:80",
            "dns://",
            "http://u:p@x",
            "http://x?k=1",
            "http://x:0",
            "http://x:70000",
            "x:1",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn grades_order_from_d_to_a() {
        assert!(Grade::A > Grade::B && Grade::B > Grade::C && Grade::C > Grade::D);
    }
}
