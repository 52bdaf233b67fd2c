//! What operators declare: adapters, routes, tenants. Valid by construction: [`crate::parse`] is the only way
//! in, and [`Set::build`] the only way to a whole set, so nobody downstream checks again.

mod adapter;
mod route;
mod set;
mod tenant;

pub use adapter::{
    Adapter, AdapterKind, Auth, Concurrency, Discovery, EchoSpeed, Endpoint, Grade, Limits, Model,
    ModelStatus, Over, PERSONAS_DEEP_MAX, Persona, Price, Scheme, SecretRef, TlsFiles, URL_BYTES_MAX,
};
pub use route::{CANDIDATES_MAX, Candidate, Fallback, Match, Retry, Route, Strategy, Timeout};
pub use set::{Set, SetMistake};
pub use tenant::{Budget, KeyHash, PUBLIC, Qos, Tenant, Window};

use std::fmt;
use std::sync::Arc;

/// The name of a resource or a model. 1 to 128 bytes; resources use `[a-z0-9]` with `-`, `_`, `.` inside;
/// models may also carry upper case, `:`, `/`, `@`, `+` as their makers do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// A resource name, or why it is none.
    pub fn resource(text: &str) -> Result<Name, &'static str> {
        let inside = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err("a name has 1 to 128 characters");
        }
        if !text.bytes().all(inside) || !text.as_bytes().first().is_some_and(edge) {
            return Err("a name is made of a-z, 0-9, '-', '_' and '.', and starts with a letter or digit");
        }
        if text == AUTO {
            return Err("`auto` is reserved for automatic routing");
        }
        Ok(Name(text.into()))
    }

    /// A model name, or why it is none.
    pub fn model(text: &str) -> Result<Name, &'static str> {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+?=&".contains(&byte);
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err("a model name has 1 to 128 characters");
        }
        if !text.bytes().all(inside) {
            return Err("a model name is made of letters, digits and any of - _ . : / @ + ? = &");
        }
        if text == AUTO {
            return Err("`auto` is reserved for automatic routing");
        }
        Ok(Name(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One declared thing.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    Adapter(Adapter),
    Route(Route),
    Tenant(Tenant),
}

impl Resource {
    pub fn kind(&self) -> Kind {
        match self {
            Resource::Adapter(_) => Kind::Adapter,
            Resource::Route(_) => Kind::Route,
            Resource::Tenant(_) => Kind::Tenant,
        }
    }

    pub fn name(&self) -> &Name {
        match self {
            Resource::Adapter(adapter) => &adapter.name,
            Resource::Route(route) => &route.name,
            Resource::Tenant(tenant) => &tenant.name,
        }
    }
}

/// What kinds of resource there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Adapter,
    Route,
    Tenant,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Adapter, Kind::Route, Kind::Tenant];

    /// As written in documents: `Adapter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Adapter => "Adapter",
            Kind::Route => "Route",
            Kind::Tenant => "Tenant",
        }
    }

    /// From a document (`Adapter`) or a command line (`adapter`, `adapters`).
    pub fn parse(text: &str) -> Option<Kind> {
        let singular = text.strip_suffix('s').unwrap_or(text);
        Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(singular))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word a caller sends as `model` to be routed automatically.
pub const AUTO: &str = "auto";

/// Long enough for every public model id; short enough to sit in a header and a label.
pub const NAME_BYTES_MAX: usize = 128;
