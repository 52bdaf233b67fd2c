//! Who calls, and what they may do. By client certificate where there is one (the CA is configured, TLS
//! verified it), else by token. Health and reflection are open: they tell nothing of what is stored.

use std::sync::Arc;

use prometheus::IntCounter;
use proto_core::identity::{self, Identity};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::token::Token;

/// What somebody may do. An operator may do everything a data plane may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Be told the set.
    DataPlane,
    /// Change it.
    Operator,
}

/// The tokens.
#[derive(Debug)]
pub struct Tokens {
    pub operator: Token,
    pub dataplane: Token,
}

/// Stands before one service.
#[derive(Debug, Clone)]
pub struct Gate {
    tokens: Arc<Tokens>,
    needed: Role,
    refused: IntCounter,
}

impl Gate {
    pub fn new(tokens: Arc<Tokens>, needed: Role, refused: IntCounter) -> Gate {
        Gate { tokens, needed, refused }
    }

    fn judge(&self, request: &Request<()>) -> Result<(), Status> {
        let role = match request.peer_certs().as_deref().map(Vec::as_slice) {
            Some([own, ..]) => role_of(own)?,
            _ => self.role_by_token(request).map_err(Status::unauthenticated)?,
        };
        if role < self.needed {
            return Err(Status::permission_denied("this is for operators; the caller is a data plane"));
        }
        Ok(())
    }

    fn role_by_token(&self, request: &Request<()>) -> Result<Role, String> {
        let Tokens { operator, dataplane } = &*self.tokens;
        let right = match self.needed {
            Role::Operator => operator.path(),
            Role::DataPlane => dataplane.path(),
        };
        let file = right.display();
        let Some(given) = request.metadata().get("authorization") else {
            return Err(format!("no token: send `authorization: Bearer TOKEN` with the content of {file}"));
        };
        let token = given.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        // Both are compared, so that the time says nothing of which one was nearly right.
        match (operator.is(token), dataplane.is(token)) {
            (true, _) => Ok(Role::Operator),
            (_, true) => Ok(Role::DataPlane),
            _ => Err(format!("wrong token: the right one is the content of {file}")),
        }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.judge(&request).inspect_err(|_| self.refused.inc())?;
        Ok(request)
    }
}

/// What the holder of a verified certificate may do here. Whoever is known and has no say is told so.
fn role_of(certificate: &[u8]) -> Result<Role, Status> {
    let identity = Identity::of_certificate(certificate)
        .map_err(|fault| Status::unauthenticated(format!("{fault}; here it is {SAN_FORM}")))?;
    match identity.role() {
        Some(identity::Role::Operator) => Ok(Role::Operator),
        Some(identity::Role::DataPlane) => Ok(Role::DataPlane),
        Some(identity::Role::Adapter | identity::Role::Tenant) | None => {
            let what = format!("{identity} has no say here; whoever has is called {SAN_FORM}");
            Err(Status::permission_denied(what))
        }
    }
}

const SAN_FORM: &str = "spiffe://DOMAIN/{operator,dataplane}/NAME";

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(needed: Role) -> (tempfile::TempDir, Gate) {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Token::open(folder.path().join(name)).unwrap();
        let tokens = Tokens { operator: open("operator.token"), dataplane: open("dataplane.token") };
        let gate = Gate::new(Arc::new(tokens), needed, IntCounter::new("refused", "refused").unwrap());
        (folder, gate)
    }

    fn call(gate: &mut Gate, header: Option<String>) -> Result<(), (tonic::Code, String)> {
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        let refused = |status: Status| (status.code(), status.message().to_owned());
        gate.call(request).map(|_| ()).map_err(refused)
    }

    fn bearer(folder: &tempfile::TempDir, name: &str) -> Option<String> {
        Some(format!("Bearer {}", crate::token::read(&folder.path().join(name)).unwrap()))
    }

    #[test]
    fn an_operator_may_do_both_a_data_plane_only_its_own() {
        let (folder, mut gate) = gate(Role::DataPlane);
        assert!(call(&mut gate, bearer(&folder, "operator.token")).is_ok());
        assert!(call(&mut gate, bearer(&folder, "dataplane.token")).is_ok());
        gate.needed = Role::Operator;
        assert!(call(&mut gate, bearer(&folder, "operator.token")).is_ok());
        let (code, _) = call(&mut gate, bearer(&folder, "dataplane.token")).unwrap_err();
        assert_eq!(code, tonic::Code::PermissionDenied);
    }

    #[test]
    fn a_missing_or_wrong_token_is_refused_with_the_file_to_use_and_counted() {
        let (folder, mut gate) = gate(Role::Operator);
        let file = folder.path().join("operator.token").display().to_string();
        let wrong = format!("Bearer {}", "0".repeat(64));
        for header in [None, Some(wrong), Some("Basic x".into()), Some("Bearer ".into())] {
            let (code, told) = call(&mut gate, header).unwrap_err();
            assert_eq!(code, tonic::Code::Unauthenticated);
            assert!(told.contains(&file), "{told}");
        }
        assert_eq!(gate.refused.get(), 4);
        gate.needed = Role::DataPlane;
        assert!(call(&mut gate, None).unwrap_err().1.contains("dataplane.token"));
    }

    #[test]
    fn a_certificate_says_its_role_in_its_one_spiffe_name() {
        let role = |sans: &[&str]| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names =
                sans.iter().map(|san| rcgen::SanType::URI((*san).try_into().unwrap())).collect();
            role_of(params.self_signed(&key).unwrap().der()).map_err(|status| status.code())
        };
        assert_eq!(role(&["spiffe://atp.local/operator/ann"]), Ok(Role::Operator));
        assert_eq!(role(&["spiffe://atp.local/dataplane/edge-1"]), Ok(Role::DataPlane));
        for known in ["spiffe://atp.local/tenant/acme", "spiffe://atp.local/adapter/gpu"] {
            assert_eq!(role(&[known]), Err(tonic::Code::PermissionDenied), "{known}");
        }
        for sans in [
            &[][..],
            &["spiffe://atp.local/operator/ann", "spiffe://atp.local/operator/bob"],
            &["https://x/y", "spiffe://atp.local/dataplane/edge-1"],
            &["spiffe://atp.local/king/ann"],
            &["spiffe://atp.local/operator"],
            &["spiffe:///operator/ann"],
            &["spiffe://atp.local/operator/ann/more"],
            &["spiffe://atp.local/operator/"],
        ] {
            assert_eq!(role(sans), Err(tonic::Code::Unauthenticated), "{sans:?}");
        }
    }
}
