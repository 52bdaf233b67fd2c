//! Settings of the listener behind TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proto_core::parse::{Field, Fields, Mistake};

use super::{LOOPBACK, address, set};
use crate::tls::{ClientAuth, Files};

/// Where clients are served behind TLS, and with what. Never behind anything older than TLS 1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// TCP, and UDP where QUIC is served.
    pub listen: SocketAddr,
    /// Somebody asked for it: where the port is taken, nothing starts.
    pub is_asked_for: bool,
    /// `None`: those that `atp up` makes, and nobody else.
    pub files: Option<Files>,
}

/// What was said so far, by the file or the environment.
#[derive(Debug, Default)]
pub(super) struct Said {
    is_there: bool,
    listen: Option<SocketAddr>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    client_auth: Option<ClientAuth>,
    crls: Vec<PathBuf>,
}

impl Said {
    pub(super) fn file(&mut self, fields: &Fields<'_>, folder: &Path) {
        const KNOWN: &[&str] = &["listen", "cert", "key", "client_ca", "client_auth", "crl"];
        let Some(tls) = fields.optional("tls").and_then(|field| field.fields(KNOWN)) else { return };
        self.is_there = true;
        let path = |field: Field<'_>| field.text().map(|path| Some(folder.join(path)));
        set(&mut self.listen, tls.optional("listen"), |field| address(field).map(Some));
        set(&mut self.cert, tls.optional("cert"), path);
        set(&mut self.key, tls.optional("key"), path);
        set(&mut self.client_ca, tls.optional("client_ca"), path);
        set(&mut self.client_auth, tls.optional("client_auth"), |field| field.one_of(&AUTH).map(Some));
        let lists = tls.optional("crl").and_then(|field| field.list(0..=CRLS_MAX)).unwrap_or_default();
        self.crls = lists.into_iter().filter_map(path).flatten().collect();
    }

    /// A variable says where to listen, or with what: that asks for TLS.
    pub(super) fn on_listen(&mut self, listen: SocketAddr) {
        (self.is_there, self.listen) = (true, Some(listen));
    }

    pub(super) fn on_cert(&mut self, path: &str) {
        (self.is_there, self.cert) = (true, Some(path.into()));
    }

    pub(super) fn on_key(&mut self, path: &str) {
        (self.is_there, self.key) = (true, Some(path.into()));
    }

    pub(super) fn on_client_ca(&mut self, path: &str) {
        self.client_ca = Some(path.into());
    }

    pub(super) fn on_client_auth(&mut self, word: &str) -> Result<(), String> {
        let found = AUTH.iter().find(|(known, _)| *known == word);
        let (_, auth) = found.ok_or("is none of `off`, `optional`, `required`")?;
        self.client_auth = Some(*auth);
        Ok(())
    }

    /// Paths with commas between them, in place of the file's.
    pub(super) fn on_crls(&mut self, paths: &str) {
        self.crls = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    }

    /// The whole, where anything was said; for `atp up` (`is_local`) always, and there it may lack its files.
    pub(super) fn whole(self, is_local: bool, mistakes: &mut Vec<Mistake>) -> Option<Tls> {
        let is_asked_for = self.is_there;
        let listen = self.listen.unwrap_or(SocketAddr::new(LOOPBACK, TLS_PORT));
        let has_files = self.cert.is_some() || self.key.is_some() || self.client_ca.is_some();
        if is_local && !has_files && self.client_auth.is_none() && self.crls.is_empty() {
            return Some(Tls { listen, is_asked_for, files: None });
        }
        if !is_asked_for {
            return None;
        }
        let mut wrong = |path: &str, what: &str| {
            mistakes.push(Mistake { place: None, path: path.into(), what: what.into() });
        };
        // Whoever names who vouches for clients means it.
        let by_ca = if self.client_ca.is_some() { ClientAuth::Required } else { ClientAuth::Off };
        let client_auth = self.client_auth.unwrap_or(by_ca);
        if client_auth != ClientAuth::Off && self.client_ca.is_none() {
            wrong(
                "tls.client_ca",
                "is missing (ROUTER_TLS_CLIENT_CA), and clients are asked for certificates",
            );
        }
        if client_auth == ClientAuth::Off && !self.crls.is_empty() {
            wrong("tls.crl", "has no effect where clients are not asked for certificates; remove it");
        }
        if self.cert.is_none() {
            wrong("tls.cert", "is missing (ROUTER_TLS_CERT): the server's chain of certificates, PEM");
        }
        if self.key.is_none() {
            wrong("tls.key", "is missing (ROUTER_TLS_KEY): the server's private key, PEM");
        }
        let Said { client_ca, crls, .. } = self;
        let files = Files { cert: self.cert?, key: self.key?, client_auth, client_ca, crls };
        Some(Tls { listen, is_asked_for, files: Some(files) })
    }
}

const AUTH: [(&str, ClientAuth); 3] =
    [("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
pub(super) const TLS_PORT: u16 = 7444;
/// Of the authorities of a large house, and of those before them.
const CRLS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proto_core::parse::Source;

    use super::super::{Config, Env};
    use super::*;

    fn read(text: &str, env: Env<'_>) -> Result<Option<Tls>, String> {
        let text = format!("resources: r.yaml\n{text}");
        let source = Source { file: "d.yaml", content: text.as_bytes() };
        let told =
            |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Config::read(&source, Path::new("/etc/atp"), env).map(|(config, _)| config.tls).map_err(told)
    }

    fn unset(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn without_a_word_of_it_there_is_no_tls() {
        assert_eq!(read("", &unset), Ok(None));
    }

    #[test]
    fn a_client_ca_makes_certificates_required_unless_another_word_is_said() {
        let auth = |more: &str| {
            let text = format!("tls: {{ cert: c.pem, key: /k.pem{more} }}");
            let tls = read(&text, &unset).unwrap().unwrap();
            assert_eq!((tls.listen.port(), tls.is_asked_for), (7444, true));
            tls.files.unwrap()
        };
        let plain = auth("");
        assert_eq!(plain.client_auth, ClientAuth::Off);
        assert_eq!((plain.cert, plain.key), ("/etc/atp/c.pem".into(), "/k.pem".into()));
        assert_eq!(auth(", client_ca: ca.pem").client_auth, ClientAuth::Required);
        let lists = auth(", client_ca: ca.pem, client_auth: optional, crl: [a.crl, /b.crl]");
        assert_eq!(lists.client_auth, ClientAuth::Optional);
        assert_eq!(lists.crls, [PathBuf::from("/etc/atp/a.crl"), "/b.crl".into()]);
    }

    #[test]
    fn atp_up_has_a_listener_whose_files_it_makes_unless_others_are_named() {
        let local = |text: &str| {
            let source = Source { file: "u.yaml", content: text.as_bytes() };
            let origin = crate::config::Origin::File(PathBuf::new());
            Config::read_local(&source, Path::new("/etc/atp"), &unset, origin).unwrap().0.tls.unwrap()
        };
        let plain = local("workers: 1");
        assert_eq!((plain.is_asked_for, plain.files), (false, None));
        let moved = local("tls: { listen: \"127.0.0.1:1\" }");
        assert_eq!((moved.is_asked_for, moved.files, moved.listen.port()), (true, None, 1));
        assert_eq!(local("tls: { cert: c, key: k }").files.unwrap().key, Path::new("/etc/atp/k"));
    }

    #[test]
    fn what_is_missing_is_told_with_its_variable() {
        let told = read("tls: { client_auth: required }", &unset).unwrap_err();
        for part in ["tls.cert", "ROUTER_TLS_KEY", "tls.client_ca"] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
        assert!(read("tls: { cert: c, key: k, crl: [a] }", &unset).unwrap_err().contains("tls.crl"));
        assert!(read("tls: { cert: c, key: k, client_auth: maybe }", &unset).is_err());
    }

    #[test]
    fn the_environment_alone_is_enough_and_stands_over_the_file() {
        let env = |name: &str| {
            let value = match name {
                "ROUTER_TLS_LISTEN" => "[::1]:9444",
                "ROUTER_TLS_CERT" => "/e/cert",
                "ROUTER_TLS_KEY" => "/e/key",
                "ROUTER_TLS_CLIENT_CA" => "/e/ca",
                "ROUTER_TLS_CLIENT_AUTH" => "optional",
                "ROUTER_TLS_CRL" => "/e/a,/e/b",
                _ => return None,
            };
            Some(value.to_owned())
        };
        for text in ["", "tls: { listen: \"127.0.0.1:1\", cert: c, key: k }"] {
            let tls = read(text, &env).unwrap().unwrap();
            assert_eq!(tls.listen, "[::1]:9444".parse().unwrap());
            let files = tls.files.unwrap();
            assert_eq!(files.cert, Path::new("/e/cert"));
            assert_eq!(files.client_auth, ClientAuth::Optional);
            assert_eq!(files.crls.len(), 2);
        }
    }
}
