//! The files of a TLS listener: read together, judged together, used together or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::look::read;

/// Where a listener's keys are, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Chain and key of the server, PEM.
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_auth: ClientAuth,
    /// Roots of client certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// What those revoked, PEM. With any, every authority in a client's chain needs one.
    pub crls: Vec<PathBuf>,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// Whoever has one shows it; it must be good.
    Optional,
    /// Nobody is served without.
    Required,
}

/// The files' bytes at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
    crls: Vec<Vec<u8>>,
}

impl Files {
    /// Reads all of them; for the config path and the thread beside the workers only.
    pub fn read(&self) -> Result<Contents, String> {
        let none = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(Vec::new()), read);
        Ok(Contents {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            client_ca: none(&self.client_ca)?,
            crls: self.crls.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        })
    }

    /// The server's chain with its key, if they belong together.
    pub fn pair(&self, contents: &Contents) -> Result<Arc<CertifiedKey>, String> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain = certificates(&contents.cert, &self.cert)?;
        let private = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| format!("{key} cannot be read as a private key: {error}"))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(chain, private, &provider)
            .map_err(|error| format!("{cert} and {key} do not belong together: {error}"))?;
        Ok(Arc::new(pair))
    }

    /// Who says whether a client's certificate is good; `None` where none is asked for.
    pub fn verifier(&self, contents: &Contents) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let path = match (&self.client_ca, self.client_auth) {
            (_, ClientAuth::Off) => return Ok(None),
            (None, _) => return Err("client certificates are asked for, and no client CA is named".into()),
            (Some(path), _) => path,
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&contents.client_ca, path)? {
            let wrong = |error| format!("{} holds a certificate that is no CA: {error}", path.display());
            roots.add(certificate).map_err(wrong)?;
        }
        let mut revoked = Vec::new();
        for (content, path) in contents.crls.iter().zip(&self.crls) {
            revoked.extend(revocations(content, path)?);
        }
        let mut builder = WebPkiClientVerifier::builder(Arc::new(roots)).with_crls(revoked);
        if self.client_auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        let wrong = |error| format!("the client CA and its revocations cannot be used: {error}");
        builder.build().map(Some).map_err(wrong)
    }
}

impl Contents {
    /// Whom clients' certificates are trusted from, and which not, is the same.
    pub fn trusts_as(&self, other: &Contents) -> bool {
        self.client_ca == other.client_ca && self.crls == other.crls
    }
}

fn certificates(content: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error| format!("{} cannot be read as PEM certificates: {error}", path.display());
    let found = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    match found.is_empty() {
        true => Err(format!("{} holds no certificate", path.display())),
        false => Ok(found),
    }
}

fn revocations(content: &[u8], path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let wrong = |error| format!("{} cannot be read as a PEM list of revocations: {error}", path.display());
    let found = CertificateRevocationListDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(wrong)?;
    match found.is_empty() {
        // A file cut to nothing would let everybody in again.
        true => Err(format!("{} holds no list of revocations", path.display())),
        false => Ok(found),
    }
}
