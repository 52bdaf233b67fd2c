//! How one control plane is set up: a file, the environment above it, the command line above both. Every
//! mistake at once, each with its place; an unknown field is a mistake.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proto_core::parse::{Field, Fields, Mistake, Source, config};

use crate::data_dir::Env;

/// A control plane's settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// gRPC: operators and data planes.
    pub grpc: SocketAddr,
    /// HTTP: health and metrics.
    pub http: SocketAddr,
    /// Where gRPC is spoken without TLS.
    pub cleartext: Cleartext,
    pub tls: Option<Tls>,
    pub data_dir: PathBuf,
    /// A file that is the whole truth: watched, and the API changes nothing.
    pub resources: Option<PathBuf>,
}

/// Whether a listener may do without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cleartext {
    /// Never: gRPC needs `tls`.
    #[default]
    Refused,
    /// On this machine only.
    Loopback,
    /// HTTP (health, metrics) everywhere; gRPC, which carries tokens, on this machine only.
    Allowed,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Roots of client certificates. With it every client needs one, and its SAN says what it may do.
    pub client_ca: Option<PathBuf>,
    /// What those took back. With any, every authority in a client's chain needs one.
    pub crls: Vec<PathBuf>,
}

impl Config {
    /// What a machine of one's own needs: both ports on loopback, no TLS.
    pub fn local(data_dir: PathBuf) -> Config {
        Config {
            grpc: GRPC_DEFAULT,
            http: HTTP_DEFAULT,
            cleartext: Cleartext::Loopback,
            tls: None,
            data_dir,
            resources: None,
        }
    }

    /// Reads a file of settings; its relative paths start from the file's own folder. `data_dir`: of the
    /// command line, over all else. Gives the warnings too.
    pub fn read(
        source: &Source<'_>,
        data_dir: Option<PathBuf>,
        env: &Env,
    ) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
        let folder = Path::new(source.file).parent().unwrap_or(Path::new("")).to_owned();
        config(source, &["listen", "tls", "data_dir", "resources"], |fields| {
            let of_file = fields.optional("data_dir").and_then(|field| path(&field, &folder));
            let data_dir = data_dir
                .or_else(|| env.data_dir.clone().map(PathBuf::from))
                .or(of_file)
                .or_else(|| env.state_dir());
            if data_dir.is_none() {
                fields.mistake("data_dir is missing, and neither ATP_DATA_DIR nor HOME is set");
            }
            let listen =
                fields.optional("listen").and_then(|field| field.fields(&["grpc", "http", "cleartext"]));
            let cleartext = read_cleartext(listen.as_ref());
            let config = Config {
                grpc: address(listen.as_ref(), "grpc", GRPC_DEFAULT),
                http: address(listen.as_ref(), "http", HTTP_DEFAULT),
                cleartext,
                tls: fields.optional("tls").and_then(|field| read_tls(&field, &folder)),
                data_dir: data_dir?,
                resources: fields.optional("resources").and_then(|field| path(&field, &folder)),
            };
            if let Err(why) = config.check() {
                fields.mistake(why);
            }
            Some(config)
        })
    }

    /// Whether the listeners may do what they are asked to; [`crate::start`] asks again, for those who fill
    /// the fields by hand.
    pub fn check(&self) -> Result<(), String> {
        let Config { grpc, http, .. } = self;
        if self.tls.is_none() {
            if self.cleartext == Cleartext::Refused {
                return Err("gRPC has no TLS: set tls.cert and tls.key, or, for this machine only, \
                            listen.cleartext: loopback"
                    .into());
            }
            if !grpc.ip().is_loopback() {
                return Err(format!(
                    "gRPC on {grpc} leaves this machine and so needs TLS: set tls.cert and tls.key"
                ));
            }
        }
        if self.cleartext != Cleartext::Allowed && !http.ip().is_loopback() {
            return Err(format!(
                "HTTP (health, metrics) on {http} leaves this machine in cleartext: listen on loopback, \
                 or set listen.cleartext: allowed"
            ));
        }
        Ok(())
    }
}

fn address(listen: Option<&Fields<'_>>, name: &str, default: SocketAddr) -> SocketAddr {
    let parse = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| "an address and a port are expected, such as 127.0.0.1:7440")
    };
    listen.and_then(|fields| fields.optional(name)).and_then(|field| field.parsed(parse)).unwrap_or(default)
}

fn read_cleartext(listen: Option<&Fields<'_>>) -> Cleartext {
    let words =
        [("refused", Cleartext::Refused), ("loopback", Cleartext::Loopback), ("allowed", Cleartext::Allowed)];
    let field = listen.and_then(|fields| fields.optional("cleartext"));
    field.and_then(|field| field.one_of(&words)).unwrap_or_default()
}

fn read_tls(field: &Field<'_>, folder: &Path) -> Option<Tls> {
    let fields = field.fields(&["cert", "key", "client_ca", "crl"])?;
    let cert = fields.required("cert").and_then(|field| path(&field, folder));
    let key = fields.required("key").and_then(|field| path(&field, folder));
    let client_ca = fields.optional("client_ca").and_then(|field| path(&field, folder));
    let crls = fields.optional("crl");
    if let Some(crls) = &crls
        && client_ca.is_none()
    {
        crls.mistake("means something only with tls.client_ca");
    }
    let crls = crls.and_then(|field| field.list(0..=CRLS_MAX)).unwrap_or_default();
    let crls = crls.iter().filter_map(|one| path(one, folder)).collect();
    Some(Tls { cert: cert?, key: key?, client_ca, crls })
}

fn path(field: &Field<'_>, folder: &Path) -> Option<PathBuf> {
    field.text().map(|text| folder.join(text))
}

/// Lists of revocations: one for each authority a fleet is signed by, and some to spare.
const CRLS_MAX: usize = 64;

const GRPC_DEFAULT: SocketAddr = loopback(7440);
const HTTP_DEFAULT: SocketAddr = loopback(7441);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let source = Source { file: "/etc/atp/controlplane.yaml", content: text.as_bytes() };
        let env = Env { home: Some(OsString::from("/home/a")), ..Env::default() };
        let told =
            |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Config::read(&source, None, &env).map(|(config, _)| config).map_err(told)
    }

    #[test]
    fn a_file_that_asks_for_loopback_gets_the_ports_of_the_contract() {
        let config = read("listen: { cleartext: loopback }").unwrap();
        assert_eq!(config, Config::local("/home/a/.local/state/atp".into()));
        assert_eq!((config.grpc.port(), config.http.port()), (7440, 7441));
    }

    #[test]
    fn relative_paths_start_from_the_folder_of_the_file() {
        let text = "listen: { cleartext: loopback }\ndata_dir: data\nresources: /srv/r.yaml\n\
                    tls: { cert: c, key: k }";
        let config = read(text).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/atp/data"));
        assert_eq!(config.resources.as_deref(), Some(Path::new("/srv/r.yaml")));
        assert_eq!(config.tls.unwrap().key, Path::new("/etc/atp/k"));
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let source =
            Source { file: "c.yaml", content: b"listen: { cleartext: loopback }\ndata_dir: of-file" };
        let mut env = Env { data_dir: Some("of-env".into()), ..Env::default() };
        let data_dir =
            |flag: Option<PathBuf>, env: &Env| Config::read(&source, flag, env).unwrap().0.data_dir;
        assert_eq!(data_dir(Some("of-flag".into()), &env), Path::new("of-flag"));
        assert_eq!(data_dir(None, &env), Path::new("of-env"));
        env.data_dir = None;
        assert_eq!(data_dir(None, &env), Path::new("of-file"));
    }

    #[test]
    fn grpc_without_tls_needs_a_word_for_it_and_never_leaves_the_machine() {
        let told = read("{}").unwrap_err();
        assert!(told.contains("gRPC has no TLS"), "{told}");
        for word in ["loopback", "allowed"] {
            let told = read(&format!("listen: {{ grpc: \"0.0.0.0:7440\", cleartext: {word} }}")).unwrap_err();
            assert!(told.contains("gRPC on 0.0.0.0:7440 leaves this machine"), "{told}");
        }
        assert!(read("listen: { grpc: \"0.0.0.0:7440\" }\ntls: { cert: c, key: k }").is_ok());
    }

    #[test]
    fn http_leaves_the_machine_only_where_cleartext_is_allowed() {
        let text = |word: &str| format!("listen: {{ http: \"0.0.0.0:7441\", cleartext: {word} }}");
        assert!(read(&text("allowed")).is_ok());
        assert!(read(&text("loopback")).unwrap_err().contains("HTTP (health, metrics) on 0.0.0.0:7441"));
    }

    #[test]
    fn every_mistake_of_a_file_is_told_at_once_with_its_place() {
        let told =
            read("listen: { grpc: here, cleartext: yes-please }\ntls: { cert: c }\nport: 1\n").unwrap_err();
        for part in [
            "controlplane.yaml:1:17: listen.grpc",
            "controlplane.yaml:1:34: listen.cleartext",
            "tls.key: is missing",
            "controlplane.yaml:3:1: port: there is no such field",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }
}
