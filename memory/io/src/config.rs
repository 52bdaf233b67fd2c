//! How the gateway is set up: the command line, and the environment that deployments already set. Every
//! mistake at once.

pub mod environment;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use memory_core::anomaly::ACCESSES_MAX;
use memory_core::audit::Secret;
use memory_core::quota::Quota;
use proto_core::parse::Source;
use proto_core::parse::environment::take_all;

use crate::backend::redis::server::{Password, Server};
use crate::identity::{Callers, Directory};

/// Settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub callers: Callers,
    /// Of each tenant.
    pub quota: Quota,
    /// Of an item whose writer says nothing; `None`: for ever.
    pub lifetime: Option<Duration>,
    /// Whether personal data and secrets are taken out of what is stored.
    pub redact: bool,
    /// Accesses a minute past which many namespaces are an anomaly.
    pub accesses_max: u64,
    /// Seals audit events.
    pub secret: Option<Secret>,
    pub keeper: Keeper,
}

/// Who keeps items.
#[derive(Debug, Clone)]
pub enum Keeper {
    /// A file in the data folder.
    File,
    Redis(Box<Server>),
}

/// What the environment said, or what holds where it said nothing.
pub(crate) struct Said {
    quota_mb: u64,
    ttl_seconds: u64,
    redact: bool,
    secret: Option<Secret>,
    accesses_max: u64,
    /// `None`: a file. `redis`, or its address.
    store: Option<String>,
    redis_url: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl Default for Said {
    fn default() -> Said {
        Said {
            quota_mb: QUOTA_MB_DEFAULT,
            ttl_seconds: TTL_SECONDS_DEFAULT,
            redact: false,
            secret: None,
            accesses_max: ACCESSES_MAX,
            store: None,
            redis_url: None,
            password: None,
            password_file: None,
            ca_file: None,
        }
    }
}

/// Where the tenants are known from.
pub enum Tenants<'a> {
    /// There are none: everyone on this machine is `public`.
    Undeclared,
    /// A file of documents.
    Of(&'a Source<'a>),
    /// Somebody who knows them.
    Known(Arc<dyn Directory>),
}

/// A variable of the environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    pub fn read(
        listen: SocketAddr,
        data_dir: PathBuf,
        tenants: Tenants<'_>,
        env: Env<'_>,
    ) -> Result<Config, Vec<String>> {
        let mut mistakes = Vec::new();
        let is_open = matches!(tenants, Tenants::Undeclared);
        let callers = match tenants {
            Tenants::Undeclared => Callers::undeclared(),
            Tenants::Known(directory) => Callers::of(directory),
            Tenants::Of(source) => Callers::of_documents(source).unwrap_or_else(|wrong| {
                mistakes.extend(wrong.iter().map(ToString::to_string));
                Callers::undeclared()
            }),
        };
        if !listen.ip().is_loopback() {
            if env("ATP_CLEARTEXT").as_deref() != Some("allowed") {
                mistakes.push(format!(
                    "{listen} leaves this machine in cleartext: listen on 127.0.0.1, or set \
                     ATP_CLEARTEXT=allowed where a TLS terminator is in front"
                ));
            }
            if is_open {
                mistakes.push(format!(
                    "{listen} leaves this machine and no tenant is declared, so that everyone could read \
                     everything: pass --tenants FILE"
                ));
            }
        }
        let mut said = Said::default();
        let wrong = take_all(environment::VARIABLES, env, &mut said);
        mistakes.extend(wrong.iter().map(ToString::to_string));
        let is_allowed = env("ATP_CLEARTEXT").as_deref() == Some("allowed");
        let keeper = said.keeper(is_allowed).unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Keeper::File
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let Said { quota_mb, ttl_seconds, redact, secret, accesses_max, .. } = said;
        let quota = Quota { items_max: ITEMS_MAX, bytes_max: quota_mb * 1024 * 1024 };
        let lifetime = (ttl_seconds > 0).then(|| Duration::from_secs(ttl_seconds));
        Ok(Config { listen, data_dir, callers, quota, lifetime, redact, accesses_max, secret, keeper })
    }
}

impl Said {
    /// `is_cleartext_allowed`: what is stored may cross a network as it is.
    fn keeper(&mut self, is_cleartext_allowed: bool) -> Result<Keeper, String> {
        let Some(store) = self.store.take() else { return Ok(Keeper::File) };
        let password = match (self.password.take(), self.password_file.take()) {
            (Some(_), Some(_)) => {
                return Err("REDIS_PASSWORD and REDIS_PASSWORD_FILE: keep one of them".into());
            }
            (Some(text), None) => Password::Text(text),
            (None, Some(path)) => Password::File(path),
            (None, None) => Password::None,
        };
        let (name, url) = match &self.redis_url {
            _ if store != "redis" => ("MEMORY_STORE", store.as_str()),
            Some(url) => ("REDIS_URL", url.as_str()),
            None => ("REDIS_URL", REDIS_URL_DEFAULT),
        };
        let server = Server::parse(url, password, self.ca_file.take());
        let server = server.map_err(|what| format!("{name}: {what}"))?;
        if server.leaves_in_cleartext() && !is_cleartext_allowed {
            return Err(format!(
                "{name}: {} leaves this machine in cleartext: write rediss://, or set ATP_CLEARTEXT=allowed \
                 where the network is one's own",
                server.shown()
            ));
        }
        Ok(Keeper::Redis(Box::new(server)))
    }
}

/// Of `MEMORY_STORE=redis` alone.
pub(crate) const REDIS_URL_DEFAULT: &str = "redis://localhost:6379/0";

const QUOTA_MB_DEFAULT: u64 = 1024;
/// A terabyte: more is a typing error.
const QUOTA_MB_MAX: u64 = 1024 * 1024;
const TTL_SECONDS_DEFAULT: u64 = 3600;
/// Items of a tenant: many small ones take more of the file than their bytes say.
pub const ITEMS_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(listen: &str, tenants: Option<&str>, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let source = tenants.map(|text| Source { file: "t.yaml", content: text.as_bytes() });
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let tenants = source.as_ref().map_or(Tenants::Undeclared, Tenants::Of);
        Config::read(listen.parse().unwrap(), "data".into(), tenants, &env)
    }

    #[test]
    fn the_environment_says_quota_and_lifetime_else_the_defaults_hold() {
        let config = read("127.0.0.1:0", None, &[]).unwrap();
        assert_eq!(config.quota.bytes_max, 1024 * 1024 * 1024);
        assert_eq!((config.lifetime, config.redact), (Some(Duration::from_secs(3600)), false));
        let set = [("MEMORY_QUOTA_MB", "2"), ("MEMORY_TTL_SECONDS", "0"), ("MEMORY_PII", "redact")];
        let config = read("127.0.0.1:0", None, &set).unwrap();
        assert_eq!(config.quota.bytes_max, 2 * 1024 * 1024);
        assert_eq!((config.lifetime, config.redact), (None, true));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let set = [
            ("MEMORY_QUOTA_MB", "0"),
            ("MEMORY_TTL_SECONDS", "-1"),
            ("MEMORY_PII", "maybe"),
            ("AUDIT_SECRET", "x"),
        ];
        let told =
            read("127.0.0.1:0", Some("kind: Tenant\nname: a\nspec: { kees: [] }\n"), &set).unwrap_err();
        let told = told.join("\n");
        for part in [
            "MEMORY_QUOTA_MB: \"0\" is ",
            "MEMORY_TTL_SECONDS: \"-1\" is ",
            "MEMORY_PII: \"maybe\" is ",
            "AUDIT_SECRET: a secret has at least",
            "kees",
        ] {
            assert!(told.contains(part), "{part} in\n{told}");
        }
    }

    #[test]
    fn beyond_this_machine_it_wants_tenants_and_a_word_about_cleartext() {
        let told = read("0.0.0.0:0", None, &[]).unwrap_err().join("\n");
        assert!(told.contains("ATP_CLEARTEXT=allowed") && told.contains("--tenants FILE"), "{told}");
        let key = "a".repeat(64);
        let tenant = format!("kind: Tenant\nname: acme\nspec: {{ keys: [{{ sha256: {key} }}] }}\n");
        assert!(read("0.0.0.0:0", Some(&tenant), &[("ATP_CLEARTEXT", "allowed")]).is_ok());
        assert!(read("0.0.0.0:0", Some(&tenant), &[]).is_err());
    }
}
