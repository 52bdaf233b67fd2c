//! Who calls. A tenant is known by its key and by nothing else: `x-tenant-id` is a claim that is compared,
//! never believed. Without declared tenants everyone is `public`, which is for loopback only.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use proto_core::model::{Kind, PUBLIC};
use proto_core::parse::{self, Mistake, Source};
use sha2::{Digest, Sha256};

/// Those who may call.
#[derive(Debug, Clone)]
pub struct Callers {
    /// By the SHA-256 of a key.
    tenants: HashMap<[u8; 32], Arc<str>>,
    /// Takes those without a key.
    public: Option<Arc<str>>,
    are_declared: bool,
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
}

impl Callers {
    /// Everyone is `public`.
    pub fn undeclared() -> Callers {
        Callers { tenants: HashMap::new(), public: Some(PUBLIC.into()), are_declared: false }
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
        let mut callers = Callers { tenants: HashMap::new(), public: None, are_declared: true };
        for tenant in set.tenants() {
            let name: Arc<str> = tenant.name.as_str().into();
            callers.tenants.extend(tenant.keys.iter().map(|hash| (hash.0, Arc::clone(&name))));
            if &*name == PUBLIC {
                callers.public = Some(name);
            }
        }
        Ok(callers)
    }

    pub fn are_declared(&self) -> bool {
        self.are_declared
    }

    /// The tenant of a call.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<str>, Denied> {
        let tenant = match key(headers) {
            // Nobody gave one out, so one that is sent along says nothing.
            _ if !self.are_declared => self.public.as_ref().ok_or(Denied::NoKey)?,
            None => self.public.as_ref().ok_or(Denied::NoKey)?,
            Some(key) => {
                let hash: [u8; 32] = Sha256::digest(key).into();
                self.tenants.get(&hash).ok_or(Denied::UnknownKey)?
            }
        };
        match headers.get(CLAIM).map(|claim| claim.as_bytes()) {
            None => {}
            Some(claim) if claim == tenant.as_bytes() || claim == PUBLIC.as_bytes() => {}
            Some(_) => return Err(Denied::OtherTenant { why: self.why_not(tenant) }),
        }
        Ok(Arc::clone(tenant))
    }

    fn why_not(&self, tenant: &str) -> String {
        match self.are_declared {
            true => format!("x-tenant-id names another tenant than the key, which is of {tenant}"),
            false => "x-tenant-id names a tenant, and none is declared: everyone is `public`; start the \
                      gateway with --tenants FILE and send the tenant's key"
                .into(),
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
    fn without_tenants_everyone_is_public_and_nobody_somebody() {
        let callers = Callers::undeclared();
        assert_eq!(identify(&callers, &[("x-api-key", "any")]), Ok("public".into()));
        assert_eq!(identify(&callers, &[("x-tenant-id", "public")]), Ok("public".into()));
        let denied = identify(&callers, &[("x-tenant-id", "acme")]).unwrap_err();
        assert!(denied.to_string().contains("--tenants FILE"), "{denied}");
    }
}
