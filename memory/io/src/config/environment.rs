//! The variables a memory gateway reads: name, default, meaning, and where each goes. Settings and
//! `atp config env` read this one table.

use memory_core::audit::Secret;
use memory_core::entry::TTL_SECONDS_MAX;
use proto_core::parse::Mistake;
use proto_core::parse::environment::{Row, Variable, take_all, whole};

use super::{Env, QUOTA_MB_MAX, REDIS_URL_DEFAULT, Said};
use crate::backend::redis::server::{Password, Server};

/// All of them, for people.
pub fn rows() -> impl Iterator<Item = Row> {
    VARIABLES.iter().map(|variable| variable.row)
}

/// What is wrong with those that are set.
pub fn mistakes(env: Env<'_>) -> Vec<Mistake> {
    take_all(VARIABLES, env, &mut Said::default())
}

pub(super) const VARIABLES: &[Variable<Said>] = &[
    Variable {
        row: Row::new("MEMORY_QUOTA_MB", "1024", "megabytes a tenant may store"),
        take: |said, text| whole(text, 1..=QUOTA_MB_MAX).map(|megabytes| said.quota_mb = megabytes),
    },
    Variable {
        row: Row::new("MEMORY_TTL_SECONDS", "3600", "lifetime of items that name none, 0 for ever"),
        take: |said, text| whole(text, 0..=TTL_SECONDS_MAX).map(|seconds| said.ttl_seconds = seconds),
    },
    Variable {
        row: Row::new(
            "MEMORY_PII",
            "keep",
            "`redact`: personal data and secrets are taken out of what is put",
        ),
        take: |said, text| match text {
            "keep" => {
                said.redact = false;
                Ok(())
            }
            "redact" => {
                said.redact = true;
                Ok(())
            }
            _ => Err("is neither `keep` nor `redact`".into()),
        },
    },
    Variable {
        row: Row::new("AUDIT_SECRET", "", "16 bytes or more that seal audit events").secret(),
        take: |said, text| {
            let secret = Secret::new(text.as_bytes()).map_err(|fault| fault.to_string())?;
            said.secret = Some(secret);
            Ok(())
        },
    },
    Variable {
        row: Row::new(
            "ANOMALY_THRESHOLD",
            "10",
            "accesses a minute past which many namespaces are an anomaly",
        ),
        take: |said, text| whole(text, 1..=u64::MAX).map(|accesses| said.accesses_max = accesses),
    },
    Variable {
        row: Row::new("MEMORY_STORE", "file", "who keeps items: `file`, `redis`, or an address of Redis")
            .secret(),
        take: |said, text| match text {
            "file" => {
                said.store = None;
                Ok(())
            }
            "redis" => {
                said.store = Some(text.to_owned());
                Ok(())
            }
            url => {
                checked(url)?;
                said.store = Some(url.to_owned());
                Ok(())
            }
        },
    },
    Variable {
        row: Row::new("REDIS_URL", REDIS_URL_DEFAULT, "the Redis of MEMORY_STORE=redis").secret(),
        take: |said, text| {
            checked(text)?;
            said.redis_url = Some(text.to_owned());
            Ok(())
        },
    },
    Variable {
        row: Row::new("REDIS_PASSWORD", "", "its password").secret(),
        take: |said, text| {
            said.password = Some(text.to_owned());
            Ok(())
        },
    },
    Variable {
        row: Row::new("REDIS_PASSWORD_FILE", "", "a file with its password, read for each connection"),
        take: |said, text| {
            said.password_file = Some(text.into());
            Ok(())
        },
    },
    Variable {
        row: Row::new("REDIS_CA_FILE", "", "certificates trusted for rediss:// instead of the system's"),
        take: |said, text| {
            said.ca_file = Some(text.into());
            Ok(())
        },
    },
];

/// Whether it is an address of Redis; it may have a password, so it is not repeated.
fn checked(url: &str) -> Result<(), String> {
    Server::parse(url, Password::None, None).map(drop).map_err(str::to_owned)
}
