//! TLS towards adapters: the system's roots or a given CA, with a client certificate where one is named.

use std::sync::Arc;

use proto_core::model::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::{ClientConfig, RootCertStore};

use super::Unusable;

/// The configuration for one adapter. Reads files; for the config path only.
pub fn client(files: Option<&TlsFiles>) -> Result<Arc<ClientConfig>, Unusable> {
    let roots = match files.and_then(|files| files.ca.as_deref()) {
        Some(path) => given_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match files.and_then(|files| files.client.as_ref()) {
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_file(&**key)
                .map_err(|error| Unusable(format!("the client key {key} cannot be read: {error}")))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key)
                .map_err(|error| Unusable(format!("the client certificate {chain} does not fit: {error}")))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn given_roots(path: &str) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| Unusable(format!("{path} holds a certificate that is no CA: {error}")))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Unusable> {
    Ok(RootCertStore { roots: system_anchors()? })
}

/// The roots this machine trusts.
pub fn system_anchors() -> Result<Vec<TrustAnchor<'static>>, Unusable> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        let what = "this machine has no CA certificates: install them (package ca-certificates) or name a CA";
        return Err(Unusable(what.into()));
    }
    Ok(roots.roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let unreadable = |error| Unusable(format!("{path} cannot be read as PEM certificates: {error}"));
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(Unusable(format!("{path} holds no certificate")));
    }
    Ok(found)
}
