//! TLS of the gRPC port: its files are read again when they change, for connections to come. Files that
//! cannot be used change nothing, and the log says why.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::config::Tls;
use crate::listen::{Bound, Connection};
use crate::shutdown::Stopping;

/// What handshakes are made with now.
#[derive(Debug)]
pub struct ServerSide {
    files: Tls,
    now: watch::Sender<Arc<ServerConfig>>,
    /// What that was made of.
    contents: Contents,
}

/// The files' bytes at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl ServerSide {
    /// Reads the files; says which of them cannot be used.
    pub fn open(files: Tls) -> Result<ServerSide, String> {
        let contents = read(&files)?;
        let now = watch::Sender::new(Arc::new(server(&files, &contents)?));
        Ok(ServerSide { files, now, contents })
    }

    /// The connections of a port, each once its handshake is done; ends with the stream.
    pub fn secure(&self, mut bound: Bound) -> ReceiverStream<std::io::Result<TlsStream<Connection>>> {
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
                let (acceptor, sender) = (TlsAcceptor::from(Arc::clone(&now.borrow())), sender.clone());
                tokio::spawn(async move {
                    match timeout(HANDSHAKE_MAX, acceptor.accept(connection)).await {
                        Ok(Ok(secured)) => drop(sender.send(Ok(secured)).await),
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
        let judged = found.and_then(|contents| Ok((server(&self.files, &contents)?, contents)));
        match judged {
            Ok((config, contents)) => {
                self.contents = contents;
                self.now.send_replace(Arc::new(config));
                tracing::info!(cert = %self.files.cert.display(), "new TLS files are in use");
            }
            Err(what) => tracing::error!(%what, "changed TLS files are not used; those before still are"),
        }
    }
}

fn read(files: &Tls) -> Result<Contents, String> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let client_ca = files.client_ca.as_deref().map(read).transpose()?;
    Ok(Contents { cert: read(&files.cert)?, key: read(&files.key)?, client_ca })
}

fn server(files: &Tls, contents: &Contents) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder();
    let builder = match (&contents.client_ca, &files.client_ca) {
        (Some(content), Some(path)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(content, path)? {
                let wrong = |error| format!("{} holds a certificate that is no CA: {error}", path.display());
                roots.add(certificate).map_err(wrong)?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            let wrong = |error| format!("{} cannot be used: {error}", path.display());
            builder.with_client_cert_verifier(verifier.map_err(wrong)?)
        }
        _ => builder.with_no_client_auth(),
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
    Ok(config)
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
