//! Which Redis, and how one gets in.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::store::StoreFault;

/// An address of Redis, and its secrets, which are never shown.
#[derive(Clone)]
pub struct Server {
    info: ConnectionInfo,
    /// `redis://host:port/db`, without user and password.
    shown: String,
    password: Password,
    /// Trusted instead of what the system trusts.
    ca_file: Option<PathBuf>,
}

/// Where the password is, if not in the address.
#[derive(Clone, Default)]
pub enum Password {
    #[default]
    None,
    Text(String),
    /// Read anew for each connection, so that it may be changed.
    File(PathBuf),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown).finish()
    }
}

impl Server {
    /// From `redis://[user[:password]@]host[:port][/db]`, or the same with `rediss`. The text of an error
    /// repeats nothing of it.
    pub fn parse(url: &str, password: Password, ca_file: Option<PathBuf>) -> Result<Server, &'static str> {
        let why = "is no redis://host:port/db or rediss://host:port/db";
        let (scheme, rest) = url.split_once("://").ok_or(why)?;
        if !matches!(scheme, "redis" | "rediss") || rest.contains(['?', '#']) {
            return Err(why);
        }
        let info = url.into_connection_info().map_err(|_| why)?;
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => return Err(why),
        };
        let has_password = info.redis_settings().password().is_some();
        if has_password && !matches!(password, Password::None) {
            return Err(
                "has a password, and so have REDIS_PASSWORD or REDIS_PASSWORD_FILE; keep one of them",
            );
        }
        if ca_file.is_some() && scheme == "redis" {
            return Err("is in cleartext, so that REDIS_CA_FILE has no effect; write rediss://");
        }
        let shown = format!("{scheme}://{host}:{port}/{}", info.redis_settings().db());
        Ok(Server { info, shown, password, ca_file })
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether what is stored crosses a network that others may read.
    pub fn leaves_in_cleartext(&self) -> bool {
        let ConnectionAddr::Tcp(host, _) = self.info.addr() else { return false };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !is_loopback && !host.eq_ignore_ascii_case("localhost")
    }

    /// With the password as it is now.
    pub fn client(&self) -> Result<Client, StoreFault> {
        let unusable = |why: String| StoreFault::Unusable { path: self.shown.clone(), why };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| unusable(format!("{}: {error}", path.display())))
        };
        let mut settings = self.info.redis_settings().clone();
        match &self.password {
            Password::None => {}
            Password::Text(text) => settings = settings.set_password(text),
            Password::File(path) => {
                let text = String::from_utf8(read(path)?)
                    .map_err(|_| unusable(format!("{} is no text", path.display())))?;
                settings = settings.set_password(text.trim_end_matches(['\r', '\n']));
            }
        }
        let info = self.info.clone().set_redis_settings(settings);
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let client = if is_tls {
            // An error says that there is one already, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let root_cert = self.ca_file.as_ref().map(read).transpose()?;
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        } else {
            Client::open(info)
        };
        client.map_err(|error| unusable(error.category().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, &'static str> {
        Server::parse(url, Password::None, None)
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = |url: &str| {
            let server = server(url).unwrap();
            assert!(!format!("{server:?}").contains("hunter2"));
            server.shown().to_owned()
        };
        assert_eq!(shown("redis://localhost"), "redis://localhost:6379/0");
        assert_eq!(shown("rediss://me:hunter2@cache.example:7000/3"), "rediss://cache.example:7000/3");
        assert_eq!(shown("redis://:hunter2@[::1]:7000"), "redis://::1:7000/0");
    }

    #[test]
    fn what_is_no_address_of_redis_is_refused_without_being_repeated() {
        for url in [
            "",
            "redis",
            "redis://",
            "http://localhost",
            "redis+unix:///tmp/s",
            "unix:///tmp/s",
            "valkey://localhost",
            "rediss://localhost/#insecure",
            "redis://localhost/?protocol=resp3",
            "redis://localhost:port",
            "redis://localhost/x",
        ] {
            let told = server(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert!(told.contains("is no redis://"), "{told}");
        }
    }

    #[test]
    fn one_password_is_enough_and_a_certificate_wants_tls() {
        let given = || Password::Text("x".into());
        assert!(Server::parse("redis://:a@localhost", given(), None).is_err());
        assert!(Server::parse("redis://me@localhost", given(), None).is_ok());
        assert!(Server::parse("redis://localhost", given(), Some("ca.pem".into())).is_err());
        assert!(Server::parse("rediss://localhost", given(), Some("ca.pem".into())).is_ok());
    }

    #[test]
    fn only_cleartext_to_another_machine_is_cleartext_that_leaves() {
        for (url, leaves) in [
            ("redis://localhost", false),
            ("redis://127.0.0.1", false),
            ("redis://[::1]", false),
            ("redis://cache.example", true),
            ("redis://10.0.0.1", true),
            ("rediss://10.0.0.1", false),
        ] {
            assert_eq!(server(url).unwrap().leaves_in_cleartext(), leaves, "{url}");
        }
    }
}
