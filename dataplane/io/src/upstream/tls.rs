//! TLS towards adapters: the system's roots or a given CA, with a client certificate where one is named. The
//! files are read again when they change; what is new is for connections to come, and those there are take no
//! further request.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proto_core::model::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;

use super::Unusable;
use crate::tls::{Look, read};

/// What connections to one adapter are secured with.
#[derive(Debug)]
pub struct ClientSide {
    files: TlsFiles,
    now: watch::Sender<Arc<ClientConfig>>,
    /// Changes of files since the start.
    age: AtomicU64,
    /// What is in use, and what was seen since. One thread looks; the lock only makes sharing legal.
    seen: Mutex<(Contents, Look<Contents>)>,
}

/// The files' bytes at one moment; empty where one is not named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    ca: Vec<u8>,
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl ClientSide {
    /// For one adapter. Reads files; for the config path only.
    pub fn open(files: Option<&TlsFiles>) -> Result<ClientSide, Unusable> {
        let files = files.cloned().unwrap_or_default();
        let contents = contents(&files).map_err(Unusable)?;
        let config = client(&files, &contents)?;
        let seen = Mutex::new((contents, Look::default()));
        Ok(ClientSide { files, now: watch::Sender::new(Arc::new(config)), age: AtomicU64::new(0), seen })
    }

    /// For a connection that begins.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.now.borrow())
    }

    /// Which files a connection that begins now is made with, at least; from 0, grows with each change. Asked
    /// before [`ClientSide::config`].
    pub fn age(&self) -> u64 {
        // Order: acquire, paired with `look`: whoever sees an age connects with its files or newer ones.
        self.age.load(Ordering::Acquire)
    }

    /// Takes changed files into use, or says why not; whether it did, where there was a change. `adapter`:
    /// its name.
    pub async fn look(&self, adapter: &str) -> Option<bool> {
        if self.files == TlsFiles::default() {
            return None;
        }
        let files = self.files.clone();
        let found = tokio::task::spawn_blocking(move || contents(&files)).await.ok()?;
        let mut seen = self.seen.lock().expect("who looks does not panic");
        let (in_use, look) = &mut *seen;
        let found = look.on_found(found, in_use)?;
        let judged = found.and_then(|contents| {
            let config = client(&self.files, &contents).map_err(|Unusable(what)| what)?;
            Ok((contents, config))
        });
        match judged {
            Ok((contents, config)) => {
                *in_use = contents;
                self.now.send_replace(Arc::new(config));
                // Order: release, see `age`.
                self.age.fetch_add(1, Ordering::Release);
                tracing::info!(adapter, "new TLS files are in use");
                Some(true)
            }
            Err(what) => {
                tracing::error!(adapter, %what, "changed TLS files are not used; those before still are");
                Some(false)
            }
        }
    }
}

fn contents(files: &TlsFiles) -> Result<Contents, String> {
    let of = |path: Option<&str>| path.map_or(Ok(Vec::new()), |path| read(Path::new(path)));
    let (chain, key) = match &files.client {
        Some((chain, key)) => (of(Some(chain))?, of(Some(key))?),
        None => Default::default(),
    };
    Ok(Contents { ca: of(files.ca.as_deref())?, chain, key })
}

fn client(files: &TlsFiles, contents: &Contents) -> Result<ClientConfig, Unusable> {
    let roots = match files.ca.as_deref() {
        Some(path) => given_roots(path, &contents.ca)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match files.client.as_ref() {
        Some((chain, key)) => {
            let private = PrivateKeyDer::from_pem_slice(&contents.key)
                .map_err(|error| Unusable(format!("the client key {key} cannot be read: {error}")))?;
            builder
                .with_client_auth_cert(certificates(chain, &contents.chain)?, private)
                .map_err(|error| Unusable(format!("the client certificate {chain} does not fit: {error}")))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn given_roots(path: &str, content: &[u8]) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, content)? {
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

fn certificates(path: &str, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let unreadable = |error| Unusable(format!("{path} cannot be read as PEM certificates: {error}"));
    let found = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(Unusable(format!("{path} holds no certificate")));
    }
    Ok(found)
}
