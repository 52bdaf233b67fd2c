//! This end of TLS: whom it believes, and who it says it is.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::Failure;
use crate::options::Tls;

/// TLS 1.3 with this protocol on top.
pub fn client(files: &Tls, alpn: &[u8]) -> Result<ClientConfig, Failure> {
    let roots = match &files.ca {
        Some(path) => given_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Failure::Tls(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let pair =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("the client key", key, &error))?;
            let chain = certificates(cert)?;
            let config = builder.with_client_auth_cert(chain, pair);
            config.map_err(|error| unusable("the client certificate", cert, &error))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(Failure::Tls("a client certificate and its key come together".into())),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

pub fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_| Failure::Tls(format!("{host} is neither a name nor an address")))
}

fn given_roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable("the CA", path, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(Failure::Tls("this machine has no CA certificates; name a CA".into()));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(|error| unusable("the certificates", path, &error))?;
    if found.is_empty() {
        return Err(Failure::Tls(format!("{} holds no certificate", path.display())));
    }
    Ok(found)
}

fn unusable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Tls(format!("{what} in {} cannot be used: {error}", path.display()))
}
