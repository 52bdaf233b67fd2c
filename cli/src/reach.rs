//! How a command reaches a data plane: where, over what, as whom.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use dataplane_io::config::default_data_dir;
use sdk_rust::{Encoding, Options, Tls};

/// The connection, and who is at this end of it.
#[derive(Debug, clap::Args)]
pub struct Reach {
    /// How frames are written
    #[arg(long, value_enum, default_value_t = Spelling::Bin, value_name = "ENCODING")]
    encoding: Spelling,
    #[command(flatten)]
    trust: Trust,
}

/// Who is at either end.
#[derive(Debug, clap::Args)]
pub struct Trust {
    /// The tenant's key
    #[arg(long, env = "ATP_API_KEY", hide_env_values = true, global = true)]
    pub key: Option<String>,
    /// The authority that signed the server's certificate (PEM); on this machine that of `atp up`, else the
    /// system's
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// A client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_key", global = true)]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    cert_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Spelling {
    Json,
    Cbor,
    Bin,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carriage {
    /// WebSocket
    Ws,
    /// HTTP/2
    H2,
    Quic,
}

impl Carriage {
    pub fn via(self) -> sdk_rust::Via {
        match self {
            Carriage::Ws => sdk_rust::Via::Ws,
            Carriage::H2 => sdk_rust::Via::H2,
            Carriage::Quic => sdk_rust::Via::Quic,
        }
    }

    /// Where `atp up` listens for it.
    pub fn default_url(self) -> &'static str {
        if self == Carriage::Quic { "https://127.0.0.1:7444" } else { "http://127.0.0.1:7443" }
    }
}

impl Reach {
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// For a session with the data plane at `url`.
    pub fn options(&self, carriage: Carriage, url: &str) -> Options {
        let encoding = match self.encoding {
            Spelling::Json => Encoding::Json,
            Spelling::Cbor => Encoding::Cbor,
            Spelling::Bin => Encoding::Bin,
        };
        let (key, tls) = (self.trust.key.clone(), self.trust.tls(url));
        Options { via: carriage.via(), encoding, key, tls, ..Options::default() }
    }
}

impl Trust {
    /// For a connection with the data plane at `url`.
    pub fn tls(&self, url: &str) -> Tls {
        let ca = self.ca.clone().or_else(|| if is_here(url) { own_authority() } else { None });
        Tls { ca, cert: self.cert.clone(), key: self.cert_key.clone() }
    }
}

/// Loopback, by any of its names.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What `atp up` made at its first start.
fn own_authority() -> Option<PathBuf> {
    let env = |name: &str| std::env::var(name).ok();
    Some(default_data_dir(&env).join(crate::up::CERTIFICATES).join(crate::cert::AUTHORITY))
        .filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for url in
            ["https://localhost:7444", "https://127.0.0.1", "https://[::1]:7444/base", "https://127.9.9.9"]
        {
            assert!(is_here(url), "{url}");
        }
        for url in
            ["https://localhost.example.com", "https://10.0.0.1:7444", "https://[fe80::1]:1", "https://"]
        {
            assert!(!is_here(url), "{url}");
        }
    }
}
