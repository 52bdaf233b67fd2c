//! Who a certificate says its holder is: the one name it carries that counts here. Read from the
//! certificate's own bytes, so that a name with a zero byte in it, or a second one, cannot hide behind the
//! first.
//!
//! Never decides whether a certificate is to be trusted: whoever asks has verified it before. Never looks at
//! the common name, which says anything and is checked by nobody (RFC 6125 section 6.4.4, RFC 9525).

mod der;

use std::fmt;

/// A peer's verified name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// `spiffe://DOMAIN/ROLE/NAME`.
    Spiffe { domain: Box<str>, role: Role, name: Box<str> },
    /// A host's name, in lower case.
    Dns(Box<str>),
}

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May change what is declared.
    Operator,
    /// May be told what is declared.
    DataPlane,
    /// May answer in the name of a declared Adapter.
    Adapter,
    /// Calls as a declared Tenant.
    Tenant,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate has no subject alternative name that counts: one SPIFFE URI, or one DNS name")]
    Nameless,
    #[error("the certificate has more than one URI among its names; one says who it is")]
    TwoUris,
    #[error("the certificate has more than one DNS name and no SPIFFE URI; one says who it is")]
    TwoNames,
    #[error(
        "the certificate's name is not of the form spiffe://DOMAIN/{{operator,dataplane,adapter,tenant}}/NAME"
    )]
    NotSpiffe,
    #[error("the certificate's DNS name is no host's name; a wildcard names nobody")]
    NotHost,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Operator, Role::DataPlane, Role::Adapter, Role::Tenant];

    /// As written in a SPIFFE ID.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::DataPlane => "dataplane",
            Role::Adapter => "adapter",
            Role::Tenant => "tenant",
        }
    }

    fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl Identity {
    /// Of a certificate in DER. With a URI it is that one and DNS names do not count, as SPIFFE has it
    /// (X.509-SVID section 2); without, its one DNS name.
    pub fn of_certificate(certificate: &[u8]) -> Result<Identity, IdentityFault> {
        let names = der::alternative_names(certificate).ok_or(IdentityFault::Unreadable)?;
        let mut found = (None, None);
        for name in names.unwrap_or_default() {
            let (tag, value) = name.ok_or(IdentityFault::Unreadable)?;
            match tag {
                der::URI if found.0.replace(value).is_some() => return Err(IdentityFault::TwoUris),
                // Counted, so that the second of two is not the one that stays.
                der::DNS => {
                    let (count, first) = found.1.unwrap_or((0_u32, value));
                    found.1 = Some((count.saturating_add(1), first));
                }
                _ => {}
            }
        }
        match found {
            (Some(uri), _) => spiffe(uri).ok_or(IdentityFault::NotSpiffe),
            (None, Some((1, name))) => host(name).ok_or(IdentityFault::NotHost),
            (None, Some(_)) => Err(IdentityFault::TwoNames),
            (None, None) => Err(IdentityFault::Nameless),
        }
    }

    /// As written in documents: `spiffe://DOMAIN/ROLE/NAME` or `dns:NAME`.
    pub fn parse(text: &str) -> Result<Identity, &'static str> {
        let identity = match text.strip_prefix("dns:") {
            Some(name) => host(name.as_bytes()),
            None => spiffe(text.as_bytes()),
        };
        identity.ok_or(
            "an identity is written spiffe://DOMAIN/ROLE/NAME, with one of the roles operator, dataplane, \
             adapter, tenant, or dns:NAME",
        )
    }

    pub fn role(&self) -> Option<Role> {
        match self {
            Identity::Spiffe { role, .. } => Some(*role),
            Identity::Dns(_) => None,
        }
    }

    /// The Tenant it names by itself.
    pub fn tenant(&self) -> Option<&str> {
        self.named(Role::Tenant)
    }

    /// The Adapter it may answer for.
    pub fn adapter(&self) -> Option<&str> {
        self.named(Role::Adapter)
    }

    fn named(&self, wanted: Role) -> Option<&str> {
        match self {
            Identity::Spiffe { role, name, .. } if *role == wanted => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Spiffe { domain, role, name } => {
                write!(f, "spiffe://{domain}/{}/{name}", role.as_str())
            }
            Identity::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// SPIFFE-ID section 2: a trust domain in lower case, segments of a few characters, nothing encoded, no
/// query.
fn spiffe(uri: &[u8]) -> Option<Identity> {
    if uri.len() > SPIFFE_BYTES_MAX {
        return None;
    }
    let mut parts = std::str::from_utf8(uri).ok()?.strip_prefix("spiffe://")?.split('/');
    let (Some(domain), Some(role), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_domain = (1..=DOMAIN_BYTES_MAX).contains(&domain.len()) && domain.bytes().all(in_domain);
    let is_name = !matches!(name, "" | "." | "..") && name.bytes().all(in_name);
    let role = Role::parse(role).filter(|_| is_domain && is_name)?;
    Some(Identity::Spiffe { domain: domain.into(), role, name: name.into() })
}

/// A host's name as in RFC 1123 section 2.1: labels of letters, digits and inner hyphens.
fn host(name: &[u8]) -> Option<Identity> {
    let label = |label: &[u8]| {
        let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.iter().all(inside)
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    let is_host = name.len() <= HOST_BYTES_MAX && name.split(|byte| *byte == b'.').all(label);
    let name = std::str::from_utf8(name).ok().filter(|_| is_host)?;
    Some(Identity::Dns(name.to_ascii_lowercase().into()))
}

/// SPIFFE-ID section 2.3.
const SPIFFE_BYTES_MAX: usize = 2048;
const DOMAIN_BYTES_MAX: usize = 255;
/// RFC 1035 section 2.3.4, without the dot at the end.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests;
