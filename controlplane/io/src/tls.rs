//! TLS of the gRPC port: its files are read again when they change, for connections to come; connections
//! there are stay, but for those whose certificate is not trusted any more. Files that cannot be used change
//! nothing, and the log says why.

mod watched;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use self::watched::Watched;
use crate::config::Tls;
use crate::listen::Bound;
use crate::shutdown::Stopping;

/// What handshakes are made with now.
#[derive(Debug)]
pub struct ServerSide {
    files: Tls,
    now: watch::Sender<Arc<Loaded>>,
    /// What that was made of.
    contents: Contents,
}

/// The files of one moment, in use.
#[derive(Debug)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// `None` where clients show no certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Grows whenever who is trusted may have changed.
    trust: u64,
}

/// The files' bytes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

impl ServerSide {
    /// Reads the files; says which of them cannot be used.
    pub fn open(files: Tls) -> Result<ServerSide, String> {
        let contents = read(&files)?;
        let now = watch::Sender::new(Arc::new(server(&files, &contents, 0)?));
        Ok(ServerSide { files, now, contents })
    }

    /// The connections of a port, each once its handshake is done; ends with the stream. `retired` counts
    /// those that end because their certificate is trusted no more.
    pub fn secure(&self, mut bound: Bound, retired: IntCounter) -> ReceiverStream<std::io::Result<Watched>> {
        let now = self.now.subscribe();
        // One: accepted while the server takes the one before.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let connection = tokio::select! {
                    (connection, _) = bound.accept() => connection,
                    () = sender.closed() => return,
                };
                // A task for each, so that none waits for another's peer; its place bounds how many.
                let (loaded, changes) = (Arc::clone(&now.borrow()), now.clone());
                let (acceptor, trust) = (TlsAcceptor::from(Arc::clone(&loaded.config)), loaded.trust);
                let (sender, retired) = (sender.clone(), retired.clone());
                tokio::spawn(async move {
                    match timeout(HANDSHAKE_MAX, acceptor.accept(connection)).await {
                        Ok(Ok(secured)) => {
                            let watched = Watched::new(secured, trust, changes, retired);
                            drop(sender.send(Ok(watched)).await);
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                });
            }
        });
        ReceiverStream::new(receiver)
    }

    /// Looks at the files until the control plane stops.
    pub async fn follow(mut self, until: Stopping) {
        let looking = async {
            let mut ticks = interval(LOOK_EVERY);
            let mut last = None;
            loop {
                ticks.tick().await;
                let files = self.files.clone();
                let Ok(found) = tokio::task::spawn_blocking(move || read(&files)).await else { return };
                // Files are written piece by piece: what is new counts once two looks see the same.
                if found.as_ref() == Ok(&self.contents) {
                    last = None;
                } else if last.as_ref() == Some(&(found.clone(), false)) {
                    self.judge(found.clone());
                    last = Some((found, true));
                } else if last.as_ref().is_none_or(|(last, _)| *last != found) {
                    last = Some((found, false));
                }
            }
        };
        tokio::select! {
            () = looking => {}
            () = until.wait() => {}
        }
    }

    fn judge(&mut self, found: Result<Contents, String>) {
        let before = self.now.borrow().trust;
        let judged = found.and_then(|contents| {
            let Contents { client_ca, crls, .. } = &self.contents;
            let is_same = *client_ca == contents.client_ca && *crls == contents.crls;
            Ok((server(&self.files, &contents, before + u64::from(!is_same))?, contents))
        });
        match judged {
            Ok((loaded, contents)) => {
                self.contents = contents;
                self.now.send_replace(Arc::new(loaded));
                tracing::info!(cert = %self.files.cert.display(), "new TLS files are in use");
            }
            Err(what) => tracing::error!(%what, "changed TLS files are not used; those before still are"),
        }
    }
}

fn read(files: &Tls) -> Result<Contents, String> {
    let read = |path: &Path| {
        let wrong = |error| format!("{} cannot be read: {error}", path.display());
        let bytes = std::fs::metadata(path).map_err(wrong)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(format!("{} has {bytes} bytes, more than {FILE_BYTES_MAX}", path.display()));
        }
        std::fs::read(path).map_err(wrong)
    };
    Ok(Contents {
        cert: read(&files.cert)?,
        key: read(&files.key)?,
        client_ca: files.client_ca.as_deref().map(read).transpose()?,
        crls: files.crls.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
    })
}

fn server(files: &Tls, contents: &Contents, trust: u64) -> Result<Loaded, String> {
    let builder = ServerConfig::builder();
    let verifier = verifier(files, contents)?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|error| format!("{} cannot be read as a private key: {error}", files.key.display()))?;
    let (cert, of) = (files.cert.display(), files.key.display());
    let mut config = builder
        .with_single_cert(certificates(&contents.cert, &files.cert)?, key)
        .map_err(|error| format!("{cert} and {of} do not belong together: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Resuming asks nobody whether a certificate is still good, and data planes connect seldom.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), verifier, trust })
}

/// Who says whether a client's certificate is good; `None` where none is asked for.
fn verifier(files: &Tls, contents: &Contents) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let (Some(content), Some(path)) = (&contents.client_ca, &files.client_ca) else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(content, path)? {
        let wrong = |error| format!("{} holds a certificate that is no CA: {error}", path.display());
        roots.add(certificate).map_err(wrong)?;
    }
    let mut revoked = Vec::new();
    for (content, path) in contents.crls.iter().zip(&files.crls) {
        revoked.extend(revocations(content, path)?);
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).with_crls(revoked).build();
    let wrong = |error| format!("{} and its revocations cannot be used: {error}", path.display());
    verifier.map(Some).map_err(wrong)
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

fn certificates(content: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error| format!("{} cannot be read as PEM certificates: {error}", path.display());
    let found = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    match found.is_empty() {
        true => Err(format!("{} holds no certificate", path.display())),
        false => Ok(found),
    }
}

/// Three ways around the world are one second.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// A change is in use within three of these.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A list of revocations of a large authority.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
