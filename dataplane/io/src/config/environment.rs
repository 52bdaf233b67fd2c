//! The variables a data plane reads: name, default, meaning, and where each goes. Settings and `atp config
//! env` read this one table.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dataplane_core::admit::often::{BURST_MAX, PER_SECOND_MAX};
use proto_core::model::Endpoint;
use proto_core::parse::Mistake;
use proto_core::parse::environment::{Row, Variable, flag, whole, without_effect};
use proto_core::units::Permille;

use super::{Env, HOSTS_MAX, PROMPT_CHARS, Read, WORKERS_MAX, adapters, host_name, memory, node, tracing};

/// All of them, for people.
pub fn rows() -> impl Iterator<Item = Row> {
    let own = VARIABLES.iter().map(|variable| variable.row);
    let memory = memory::VARIABLES.iter().map(|variable| variable.row);
    own.chain(memory).chain(tracing::VARIABLES.iter().map(|variable| variable.row))
}

/// Warnings about what is set and changes nothing.
pub fn unknown<'a>(set: impl Iterator<Item = &'a str>) -> Vec<Mistake> {
    without_effect(set, PREFIX, &rows().collect::<Vec<_>>(), ABSENT)
}

/// The same of this process.
pub fn unknown_here() -> Vec<Mistake> {
    let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    unknown(names.iter().map(String::as_str))
}

/// The folder for data: the first of two names that says one.
pub(super) fn data_dir(env: Env<'_>) -> Option<PathBuf> {
    let named = ["ATP_DATA_DIR", "ROUTER_DATA_DIR"].into_iter().filter_map(env);
    named.filter(|path| !path.is_empty()).map(PathBuf::from).next()
}

pub(super) const VARIABLES: &[Variable<Read>] = &[
    Variable {
        row: Row::new("ROUTER_HOST", "127.0.0.1", "address of the clients' listener"),
        take: |read, text| address(text, "is no IP address").map(|ip: IpAddr| read.config.http[0].set_ip(ip)),
    },
    Variable {
        row: Row::new("ROUTER_PORT", "7443", "port of the clients' listener"),
        take: |read, text| {
            address(text, "is no port number from 0 to 65535").map(|port| read.config.http[0].set_port(port))
        },
    },
    Variable {
        row: Row::new("ROUTER_PROBES_LISTEN", "", "a listener with health and metrics only: listen.probes"),
        take: |read, text| {
            address(text, "is no address such as 0.0.0.0:7446").map(|at| read.config.probes = Some(at))
        },
    },
    Variable {
        row: Row::new(
            "ROUTER_ENABLE_METRICS",
            "1",
            "whether clients' listeners have /metrics: listen.metrics",
        ),
        take: |read, text| flag(text).map(|shows| read.config.shows_metrics = shows),
    },
    Variable {
        row: Row::new(
            "ROUTER_ENABLE_ADAPTERS_HEALTH",
            "1",
            "whether clients' listeners have /adapters/health: listen.adapters",
        ),
        take: |read, text| flag(text).map(|shows| read.config.shows_adapters = shows),
    },
    Variable {
        row: Row::new("ROUTER_HOSTS", "", "names it may be called by without a key: listen.hosts"),
        take: |read, text| {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            let hosts: Result<Vec<_>, _> = names.map(host_name).collect();
            read.config.hosts = hosts?;
            match read.config.hosts.len() > HOSTS_MAX {
                true => Err(format!("names more than {HOSTS_MAX} hosts")),
                false => Ok(()),
            }
        },
    },
    Variable {
        row: Row::new("ATP_CLEARTEXT", "loopback", "`allowed`: clients without TLS beyond this machine"),
        take: |read, text| match text {
            "allowed" => {
                read.cleartext = true;
                Ok(())
            }
            "loopback" => Ok(()),
            _ => Err("is neither `loopback` nor `allowed`".into()),
        },
    },
    Variable {
        row: Row::new("ROUTER_TLS_LISTEN", "127.0.0.1:7444", "clients behind TLS: tls.listen"),
        take: |read, text| {
            address(text, "is no address such as 127.0.0.1:7444").map(|at: SocketAddr| read.tls.on_listen(at))
        },
    },
    Variable {
        row: Row::new("ROUTER_TLS_CERT", "", "the server's chain of certificates, PEM: tls.cert"),
        take: |read, text| {
            read.tls.on_cert(text);
            Ok(())
        },
    },
    Variable {
        row: Row::new("ROUTER_TLS_KEY", "", "path of its private key, PEM: tls.key"),
        take: |read, text| {
            read.tls.on_key(text);
            Ok(())
        },
    },
    Variable {
        row: Row::new("ROUTER_TLS_CLIENT_CA", "", "who vouches for clients, PEM: tls.client_ca"),
        take: |read, text| {
            read.tls.on_client_ca(text);
            Ok(())
        },
    },
    Variable {
        row: Row::new(
            "ROUTER_TLS_CLIENT_AUTH",
            "off; required with a client CA",
            "off, optional or required",
        ),
        take: |read, text| read.tls.on_client_auth(text),
    },
    Variable {
        row: Row::new("ROUTER_TLS_CRL", "", "certificates taken back, PEM; commas between paths: tls.crl"),
        take: |read, text| {
            read.tls.on_crls(text);
            Ok(())
        },
    },
    Variable {
        row: Row::new("ATP_NODE", "local", "unique among the data planes of a control plane: node"),
        take: |read, text| {
            read.config.node = node(text)?;
            Ok(())
        },
    },
    Variable {
        row: Row::new("ROUTER_WORKERS", "one per core", "serving threads, 1 to 1024: workers"),
        take: |read, text| whole(text, 1..=WORKERS_MAX).map(|workers| read.config.workers = workers),
    },
    Variable {
        row: Row::new("ROUTER_MAX_PROMPT_CHARS", "6000", "of /v1/ask's prompt: limits.prompt_chars"),
        take: |read, text| whole(text, PROMPT_CHARS).map(|chars| read.config.limits.prompt_chars = chars),
    },
    Variable {
        row: Row::new(
            "ROUTER_RPS_LIMIT",
            "",
            "requests a second of a key, else of an address; unset: no limit",
        ),
        take: |read, text| {
            whole(text, 1..=PER_SECOND_MAX).map(|rate| read.config.limits.requests_per_second = Some(rate))
        },
    },
    Variable {
        row: Row::new("ROUTER_RPS_BURST", "as ROUTER_RPS_LIMIT", "how many of these at once"),
        take: |read, text| {
            whole(text, 1..=BURST_MAX).map(|burst| read.config.limits.requests_burst = Some(burst))
        },
    },
    Variable {
        row: Row::new("ROUTER_EXPLORE_P", "0.05", "share of 0 to 1 that explores: explore_permille"),
        take: |read, text| match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => {
                read.config.explore = Permille((share * 1000.0).round() as u16);
                Ok(())
            }
            _ => Err("is no number from 0 to 1".into()),
        },
    },
    Variable {
        row: Row::new("ADAPTER_ENDPOINTS", "[]", "JSON list of gRPC adapters, each called after its host"),
        take: |read, text| adapters::named(text).map(|named| read.config.named_adapters = named),
    },
    // Read where an adapter is built.
    Variable {
        row: Row::new("OLLAMA_BASE_URL", "http://127.0.0.1:11434", "ollama adapters without an endpoint"),
        take: |_, text| endpoint(text),
    },
    Variable {
        row: Row::new("PERSONA_MODEL_ENDPOINT", "", "OpenAI-compatible server of personas over no adapter"),
        take: |_, text| endpoint(text),
    },
    // Asked for before there are settings, see `data_dir` and `telemetry::logs`.
    Variable {
        row: Row::new("ATP_DATA_DIR", "the user's state folder", "where data is kept: data_dir"),
        take: |_, _| Ok(()),
    },
    Variable {
        row: Row::new("ROUTER_DATA_DIR", "", "the same, where ATP_DATA_DIR is not set"),
        take: |_, _| Ok(()),
    },
    Variable {
        row: Row::new("ATP_LOG_FORMAT", "text", "how logs are written: text or json"),
        take: |_, text| match text {
            "text" | "json" => Ok(()),
            _ => Err("is neither `text` nor `json`".into()),
        },
    },
    Variable { row: Row::new("RUST_LOG", "info", "which log lines are written"), take: |_, _| Ok(()) },
];

fn endpoint(text: &str) -> Result<(), String> {
    Endpoint::parse(text).map(drop).map_err(|what| format!("is no endpoint: {what}"))
}

fn address<A: std::str::FromStr>(text: &str, wrong: &str) -> Result<A, String> {
    text.parse().map_err(|_| wrong.to_owned())
}

/// Whose names are ours alone, so that an unknown one is a mistake.
const PREFIX: &str = "ROUTER_";
/// Known to deployments, and not to this version.
const ABSENT: &[&str] = &[
    "ROUTER_ADMIN_API_KEY",
    "ROUTER_ADMIN_KEYS",
    "ROUTER_ADMIN_RPS",
    "ROUTER_ADMIN_RPS_BURST",
    "ROUTER_DISABLE_PERSIST_THREAD",
    "ROUTER_ENABLE_LAT_HIST",
    "ROUTER_MAX_CONCURRENT",
    "ROUTER_MODEL_REGISTRY_WATCH",
    "ROUTER_PERSIST_INTERVAL_SEC",
    "ROUTER_PII_SCRUB",
    "ROUTER_QUALITY_EVAL",
    "ROUTER_REDIS_URL",
    "ROUTER_SAMPLING_QOS",
    "ROUTER_SERVICE_VERSION",
    "ROUTER_STATE_BACKEND",
    "ROUTER_TENANT_SAMPLING_CONFIG",
    "ROUTER_TEST_TRACING_MODE",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dataplane_core::admit::often::Rate;
    use proto_core::parse::Source;

    use super::super::Config;
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let env = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let source = Source { file: "d.yaml", content: b"resources: r.yaml\nworkers: 3\n" };
        let told = |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect();
        Config::read(&source, Path::new("/etc/atp"), &env).map(|(config, _)| config).map_err(told)
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let set = [
            ("ROUTER_HOST", "::1"),
            ("ROUTER_PORT", "0"),
            ("ROUTER_WORKERS", "2"),
            ("ROUTER_MAX_PROMPT_CHARS", "100000"),
            ("ROUTER_EXPLORE_P", "0.25"),
            ("ROUTER_PROBES_LISTEN", "0.0.0.0:7446"),
            ("ROUTER_ENABLE_METRICS", "false"),
            ("ROUTER_ENABLE_ADAPTERS_HEALTH", "0"),
            ("ROUTER_HOSTS", "router, router.example.com"),
            ("ROUTER_DATA_DIR", "/var/lib/atp"),
        ];
        let config = read(&set).unwrap();
        assert_eq!(config.http[0], "[::1]:0".parse().unwrap());
        assert_eq!((config.workers, config.limits.prompt_chars, config.explore), (2, 100_000, Permille(250)));
        assert_eq!(config.probes, Some("0.0.0.0:7446".parse().unwrap()));
        assert_eq!(config.data_dir, Path::new("/var/lib/atp"));
        assert!(!config.shows_metrics && read(&[]).unwrap().shows_metrics);
        assert!(!config.shows_adapters && read(&[]).unwrap().shows_adapters);
        assert_eq!(config.hosts, ["router".into(), "router.example.com".into()]);
        assert_eq!(config.limits.often(), None);
        let often = [("ROUTER_RPS_LIMIT", "100000"), ("ROUTER_RPS_BURST", "1000000")];
        assert_eq!(read(&often).unwrap().limits.often(), Some(Rate::new(100_000, 1_000_000)));
        assert_eq!(read(&often[..1]).unwrap().limits.often(), Some(Rate::new(100_000, 100_000)));
        assert!(read(&often[1..]).unwrap_err()[0].contains("has no effect without"));
        let both = [("ROUTER_DATA_DIR", "/a"), ("ATP_DATA_DIR", "/b")];
        assert_eq!(read(&both).unwrap().data_dir, Path::new("/b"));
        assert_eq!(read(&[("ROUTER_WORKERS", "")]).unwrap().workers, 3, "nothing is as if unset");
    }

    #[test]
    fn every_variable_refuses_what_it_cannot_be_and_says_its_name() {
        let set = [
            ("ROUTER_HOST", "here"),
            ("ROUTER_PORT", "70000"),
            ("ROUTER_PROBES_LISTEN", "7446"),
            ("ROUTER_ENABLE_METRICS", "2"),
            ("ROUTER_ENABLE_ADAPTERS_HEALTH", "hidden"),
            ("ROUTER_HOSTS", "router:7443"),
            ("ATP_CLEARTEXT", "yes"),
            ("ROUTER_TLS_LISTEN", "here"),
            ("ROUTER_TLS_CLIENT_AUTH", "maybe"),
            ("ROUTER_WORKERS", "1025"),
            ("ROUTER_MAX_PROMPT_CHARS", "100001"),
            ("ROUTER_EXPLORE_P", "1.1"),
            ("ROUTER_RPS_LIMIT", "0"),
            ("ROUTER_RPS_BURST", "1000001"),
            ("ATP_NODE", ".x"),
            ("ATP_LOG_FORMAT", "xml"),
            ("ADAPTER_ENDPOINTS", "http://a:1"),
            ("OLLAMA_BASE_URL", "localhost:11434"),
            ("PERSONA_MODEL_ENDPOINT", "here"),
        ];
        let told = read(&set).unwrap_err();
        for (name, value) in set {
            let start = format!("{name}: {value:?} ");
            assert!(told.iter().any(|line| line.starts_with(&start)), "{start} in {told:?}");
        }
    }

    #[test]
    fn names_are_there_once_and_an_unknown_one_is_told_with_the_nearest() {
        let mut names: Vec<&str> = rows().map(|row| row.name).chain(ABSENT.iter().copied()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        let told = unknown(["ROUTER_WORKER", "ROUTER_PII_SCRUB", "ROUTER_PORT", "PATH"].into_iter());
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "ROUTER_PII_SCRUB: has no effect in this version",
                "ROUTER_WORKER: there is no such variable; did you mean ROUTER_WORKERS?",
            ]
        );
    }
}
