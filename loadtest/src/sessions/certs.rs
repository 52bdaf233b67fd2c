//! Certificates of one measurement: an authority, a server, and two clients of it.
//!
//! What it is for: mutual TLS on every leg without anything to prepare. What it never does: leave the
//! measurement's directory, or vouch for anybody longer than a day.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sdk_rust::Tls;
use std::sync::Arc;

/// Whose certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Server,
    Tenant,
    Adapter,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Whose::Server => "server",
            Whose::Tenant => "tenant",
            Whose::Adapter => "adapter",
        }
    }
}

/// The files in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Certs(pub(crate) PathBuf);

impl Certs {
    /// Makes all of them.
    pub(crate) fn make(directory: &Path) -> Result<Certs, String> {
        let certs = Certs(directory.to_owned());
        certs.write_all().map_err(|why| format!("certificates in {}: {why}", directory.display()))?;
        Ok(certs)
    }

    fn write_all(&self) -> Result<(), Box<dyn std::error::Error>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(self.ca(), params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        for whose in [Whose::Server, Whose::Tenant, Whose::Adapter] {
            let mut params = match whose {
                Whose::Server => CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?,
                Whose::Tenant | Whose::Adapter => CertificateParams::default(),
            };
            params.extended_key_usages = match whose {
                Whose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
                Whose::Tenant => client(&mut params, "spiffe://load.test/tenant/bench")?,
                Whose::Adapter => client(&mut params, "spiffe://load.test/adapter/dialed")?,
            };
            let now = SystemTime::now();
            (params.not_before, params.not_after) = ((now - DAY).into(), (now + DAY).into());
            let key = KeyPair::generate()?;
            std::fs::write(self.cert(whose), params.signed_by(&key, &issuer)?.pem())?;
            std::fs::write(self.key(whose), key.serialize_pem())?;
        }
        Ok(())
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(crate) fn cert(&self, whose: Whose) -> PathBuf {
        self.0.join(format!("{}.pem", whose.name()))
    }

    pub(crate) fn key(&self, whose: Whose) -> PathBuf {
        self.0.join(format!("{}.key", whose.name()))
    }

    pub(crate) fn of_client(&self, whose: Whose) -> Tls {
        Tls { ca: Some(self.ca()), cert: Some(self.cert(whose)), key: Some(self.key(whose)) }
    }

    /// TLS 1.3 as the tenant.
    pub(crate) fn client(&self, alpn: &[u8]) -> Result<Arc<ClientConfig>, String> {
        let (chain, key) = self.pair(Whose::Tenant)?;
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key);
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS 1.3 as the server, which wants a certificate of every client.
    pub(crate) fn server(&self, alpn: &[u8]) -> Result<Arc<ServerConfig>, String> {
        let (chain, key) = self.pair(Whose::Server)?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()?)).build();
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.ca()).map_err(|error| error.to_string())?;
        roots.add(ca).map_err(|error| error.to_string())?;
        Ok(roots)
    }

    fn pair(&self, whose: Whose) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let cert = CertificateDer::from_pem_file(self.cert(whose)).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_file(self.key(whose)).map_err(|error| error.to_string())?;
        Ok((vec![cert], key))
    }
}

fn client(params: &mut CertificateParams, uri: &str) -> Result<Vec<ExtendedKeyUsagePurpose>, rcgen::Error> {
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    Ok(vec![ExtendedKeyUsagePurpose::ClientAuth])
}

const DAY: Duration = Duration::from_secs(86_400);
