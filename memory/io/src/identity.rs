//! Who calls. A tenant is known by its key and by nothing else: `x-tenant-id` is a claim that is compared,
//! never believed. Without declared tenants everyone is `public`, which is for loopback only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use proto_core::model::{Kind, PUBLIC};
use proto_core::parse::{self, Mistake, Source};
use sha2::{Digest, Sha256};

/// Those who may call.
#[derive(Debug, Clone)]
pub struct Callers(Arc<dyn Directory>);

/// Somebody who knows the tenants: a file read at the start, or another part of the process that is told of
/// changes.
pub trait Directory: fmt::Debug + Send + Sync {
    /// Who has a key with this SHA-256; `None`: who sent no key.
    fn find(&self, key: Option<&[u8; 32]>) -> Result<Found, Denied>;
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub tenant: Arc<str>,
    /// Somebody has a key. Else there is nobody but `public`, and what a caller claims says nothing.
    pub are_declared: bool,
}

/// Why a call is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("a key is needed: authorization: Bearer KEY, or x-api-key")]
    NoKey,
    #[error("this key is of no tenant")]
    UnknownKey,
    #[error("{why}")]
    OtherTenant { why: String },
    #[error("it is not known yet who the tenants are; try again soon")]
    NotReady,
}

/// Everyone is `public`.
#[derive(Debug)]
struct Nobody(Arc<str>);

impl Directory for Nobody {
    fn find(&self, _: Option<&[u8; 32]>) -> Result<Found, Denied> {
        // Nobody gave a key out, so one that is sent along says nothing.
        Ok(Found { tenant: Arc::clone(&self.0), are_declared: false })
    }
}

/// The Tenants of a file.
#[derive(Debug, Default)]
struct Declared {
    /// By the SHA-256 of a key.
    tenants: HashMap<[u8; 32], Arc<str>>,
    /// Takes those without a key.
    public: Option<Arc<str>>,
}

impl Directory for Declared {
    fn find(&self, key: Option<&[u8; 32]>) -> Result<Found, Denied> {
        let tenant = match key {
            None => self.public.as_ref().ok_or(Denied::NoKey)?,
            Some(hash) => self.tenants.get(hash).ok_or(Denied::UnknownKey)?,
        };
        Ok(Found { tenant: Arc::clone(tenant), are_declared: true })
    }
}

impl Callers {
    /// Everyone is `public`.
    pub fn undeclared() -> Callers {
        Callers(Arc::new(Nobody(PUBLIC.into())))
    }

    /// Those that somebody else knows.
    pub fn of(directory: Arc<dyn Directory>) -> Callers {
        Callers(directory)
    }

    /// The Tenants among the documents of a file; others are for the data plane.
    pub fn of_documents(source: &Source<'_>) -> Result<Callers, Vec<Mistake>> {
        let mut documents = parse::documents(std::slice::from_ref(source))?.documents;
        documents.retain(|document| document.kind == Kind::Tenant);
        if documents.is_empty() {
            let what = format!("{} declares no Tenant, so that nobody could call", source.file);
            return Err(vec![Mistake { place: None, path: String::new(), what }]);
        }
        let set = parse::set(&documents)?;
        let mut declared = Declared::default();
        for tenant in set.tenants() {
            let name: Arc<str> = tenant.name.as_str().into();
            declared.tenants.extend(tenant.keys.iter().map(|hash| (hash.0, Arc::clone(&name))));
            if &*name == PUBLIC {
                declared.public = Some(name);
            }
        }
        Ok(Callers(Arc::new(declared)))
    }

    /// The tenant of a call.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<str>, Denied> {
        let hash = key(headers).map(|key| <[u8; 32]>::from(Sha256::digest(key)));
        let Found { tenant, are_declared } = self.0.find(hash.as_ref())?;
        match headers.get(CLAIM).map(|claim| claim.as_bytes()) {
            Some(claim) if are_declared && claim != tenant.as_bytes() && claim != PUBLIC.as_bytes() => {
                let why = format!("x-tenant-id names another tenant than the key, which is of {tenant}");
                Err(Denied::OtherTenant { why })
            }
            // Where there are no tenants the answer says whose memory it was: `public`.
            _ => Ok(tenant),
        }
    }
}

fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()))
}

const BEARER: &[u8] = b"Bearer ";
/// What existing clients send.
pub const CLAIM: &str = "x-tenant-id";

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn declared(more: &str) -> Callers {
        let hash = |key: &str| {
            Sha256::digest(key).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
        };
        let tenant = |name: &str| {
            format!("kind: Tenant\nname: {name}\nspec: {{ keys: [{{ sha256: {} }}] }}\n---\n", hash(name))
        };
        let adapter = "kind: Adapter\nname: e\nspec: { kind: echo, models: [{ name: m }] }\n";
        let text = format!("{}{}{adapter}{more}", tenant("acme"), tenant("other"));
        Callers::of_documents(&Source { file: "t.yaml", content: text.as_bytes() }).unwrap()
    }

    fn identify(callers: &Callers, headers: &[(&'static str, &'static str)]) -> Result<String, Denied> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        callers.identify(&headers.collect()).map(|tenant| tenant.to_string())
    }

    #[test]
    fn a_key_says_who_calls_and_a_header_does_not() {
        let callers = declared("");
        assert_eq!(identify(&callers, &[("authorization", "Bearer acme")]), Ok("acme".into()));
        assert_eq!(identify(&callers, &[("authorization", "bearer acme")]), Ok("acme".into()));
        assert_eq!(identify(&callers, &[("x-api-key", "other")]), Ok("other".into()));
        assert_eq!(identify(&callers, &[("x-api-key", "wrong")]), Err(Denied::UnknownKey));
        assert_eq!(identify(&callers, &[("authorization", "Basic acme")]), Err(Denied::NoKey));
        assert_eq!(identify(&callers, &[("x-tenant-id", "acme")]), Err(Denied::NoKey));
        assert_eq!(identify(&callers, &[]), Err(Denied::NoKey));
    }

    #[test]
    fn a_claim_must_be_the_keys_own_tenant_or_public() {
        let callers = declared("");
        for claim in ["acme", "public"] {
            let headers = [("x-api-key", "acme"), ("x-tenant-id", claim)];
            assert_eq!(identify(&callers, &headers), Ok("acme".into()));
        }
        let denied = identify(&callers, &[("x-api-key", "acme"), ("x-tenant-id", "other")]);
        assert!(matches!(denied, Err(Denied::OtherTenant { .. })));
    }

    #[test]
    fn a_file_without_tenants_is_a_mistake() {
        let content = b"kind: Adapter\nname: e\nspec: { kind: echo, models: [{ name: m }] }\n";
        let told = Callers::of_documents(&Source { file: "t.yaml", content }).unwrap_err();
        assert!(told[0].to_string().contains("t.yaml declares no Tenant"), "{}", told[0]);
    }

    #[test]
    fn a_declared_public_takes_those_without_a_key_and_no_wrong_ones() {
        let callers = declared("---\nkind: Tenant\nname: public\nspec: {}\n");
        assert_eq!(identify(&callers, &[]), Ok("public".into()));
        assert_eq!(identify(&callers, &[("x-api-key", "wrong")]), Err(Denied::UnknownKey));
    }

    #[test]
    fn without_tenants_everyone_is_public_whatever_they_claim() {
        let callers = Callers::undeclared();
        assert_eq!(identify(&callers, &[]), Ok("public".into()));
        assert_eq!(identify(&callers, &[("x-api-key", "any")]), Ok("public".into()));
        assert_eq!(identify(&callers, &[("x-tenant-id", "acme")]), Ok("public".into()));
    }
}
