//! What handshakes are made with now, and what is counted of them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto_core::identity::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, ServerConfig};
use tokio::sync::{Semaphore, watch};

use super::files::{Contents, Files};
use super::look::Look;
use super::verify::{Named, REASONS, Verified};

/// TLS of the listeners, TCP and UDP.
#[derive(Debug)]
pub struct ServerSide {
    files: Files,
    now: watch::Sender<Arc<Loaded>>,
    pub counts: Arc<Counts>,
    /// Handshakes over TCP that may be under way.
    pub(super) places: Semaphore,
}

/// The files of one moment, in use.
#[derive(Debug)]
pub struct Loaded {
    contents: Contents,
    /// Without protocols.
    base: ServerConfig,
    tcp: Arc<ServerConfig>,
    verifier: Option<Arc<Named>>,
    /// Grows whenever who is trusted may have changed.
    pub trust: u64,
}

/// Since the start.
#[derive(Debug, Default)]
pub struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    retired: AtomicU64,
}

impl ServerSide {
    /// Reads the files; says which of them cannot be used.
    pub fn open(files: Files) -> Result<Arc<ServerSide>, String> {
        let counts = Arc::<Counts>::default();
        let loaded = Loaded::new(&files, files.read()?, 0, &counts)?;
        let now = watch::Sender::new(Arc::new(loaded));
        Ok(Arc::new(ServerSide { files, now, counts, places: Semaphore::new(HANDSHAKES_MAX) }))
    }

    /// For a handshake over TCP: HTTP/2 and HTTP/1.1.
    pub fn tcp(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now.borrow().tcp)
    }

    /// For handshakes over QUIC, with these protocols. Sessions are of this configuration alone: a change
    /// makes the next one forget them.
    pub fn quic(&self, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = self.now.borrow().base.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Arc::new(config)
    }

    /// Of the moment: who is trusted, see [`Loaded::trust`].
    pub(super) fn trust(&self) -> u64 {
        self.now.borrow().trust
    }

    /// Told with every change of what handshakes are made with.
    pub fn changes(&self) -> watch::Receiver<Arc<Loaded>> {
        self.now.subscribe()
    }

    /// Whom a peer's chain names, after its handshake; `None` for a peer that showed none. `may_be_resumed`:
    /// the handshake may be one that did not look at the certificate, so it is looked at here; `Err` where it
    /// has become bad meanwhile.
    pub fn verify(
        self: &Arc<ServerSide>,
        chain: Option<&[CertificateDer<'static>]>,
        may_be_resumed: bool,
    ) -> Result<Option<Arc<Verified>>, Error> {
        let Some(chain @ [own, ..]) = chain else { return Ok(None) };
        let loaded = Arc::clone(&self.now.borrow());
        let Some(verifier) = &loaded.verifier else { return Ok(None) };
        let identity = match may_be_resumed {
            true => verifier.judge(chain)?,
            false => Identity::of_certificate(own).expect("the handshake has read it"),
        };
        Ok(Some(Arc::new(Verified::new(identity, chain, Arc::clone(self), loaded.trust))))
    }

    /// Whether a chain that was good is trusted no more. Age does not count.
    pub(super) fn is_lost(&self, chain: &[CertificateDer<'static>]) -> bool {
        let loaded = Arc::clone(&self.now.borrow());
        let (Some(verifier), Some((own, between))) = (&loaded.verifier, chain.split_first()) else {
            return false;
        };
        let lost = match verifier.inner.verify_client_cert(own, between, UnixTime::now()) {
            Ok(_) => false,
            Err(Error::InvalidCertificate(error)) => {
                !matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })
            }
            Err(_) => true,
        };
        if lost {
            Counts::one(&self.counts.retired);
        }
        lost
    }

    /// One of several seconds, so that not everybody does the same at once.
    pub(super) fn spread(&self) -> Duration {
        SPREAD.mul_f64(RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64)
    }

    /// Uses what was read from now on, or says why not.
    fn replace(&self, contents: Contents) -> Result<(), String> {
        let before = Arc::clone(&self.now.borrow());
        let trust = before.trust + u64::from(!contents.trusts_as(&before.contents));
        let loaded = Loaded::new(&self.files, contents, trust, &self.counts)?;
        self.now.send_replace(Arc::new(loaded));
        Ok(())
    }
}

impl Loaded {
    fn new(files: &Files, contents: Contents, trust: u64, counts: &Arc<Counts>) -> Result<Loaded, String> {
        let pair = files.pair(&contents)?;
        let verifier = files.verifier(&contents)?;
        let verifier = verifier.map(|inner| Arc::new(Named { inner, counts: Arc::clone(counts) }));
        let base = base(pair, verifier.clone());
        let mut tcp = base.clone();
        tcp.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tcp.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Loaded { contents, base, tcp: Arc::new(tcp), verifier, trust })
    }
}

/// Every configuration has sessions of its own: what was agreed on under other keys, or with an authority
/// that is not trusted any more, begins anew.
fn base(pair: Arc<CertifiedKey>, verifier: Option<Arc<Named>>) -> ServerConfig {
    let verifier =
        verifier.map_or_else(WebPkiClientVerifier::no_client_auth, |own| own as Arc<dyn ClientCertVerifier>);
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    // What comes with the first flight could be sent again by anybody who saw it.
    config.max_early_data_size = 0;
    config
}

/// Takes changed files into use, or says why not.
pub(super) async fn look(side: &Arc<ServerSide>, look: &mut Look<Contents>) {
    let files = side.files.clone();
    let Ok(found) = tokio::task::spawn_blocking(move || files.read()).await else { return };
    let loaded = Arc::clone(&side.now.borrow());
    let Some(found) = look.on_found(found, &loaded.contents) else { return };
    match found.and_then(|contents| side.replace(contents)) {
        Ok(()) => {
            Counts::one(&side.counts.reloads);
            tracing::info!(cert = %side.files.cert.display(), "new TLS files are in use");
        }
        Err(what) => {
            Counts::one(&side.counts.reloads_refused);
            tracing::error!(%what, "changed TLS files are not used; those before still are");
        }
    }
}

impl Counts {
    fn one(count: &AtomicU64) {
        // Order: relaxed, a count for people.
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_handshake(&self, is_resumed: bool) {
        Counts::one(if is_resumed { &self.resumed } else { &self.full });
    }

    pub(super) fn on_refused(&self, reason: &str) {
        let at = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
        Counts::one(&self.refused[at]);
    }

    /// Handshakes that came to their end, by kind.
    pub fn handshakes(&self) -> [(&'static str, u64); 2] {
        [("full", value(&self.full)), ("resumed", value(&self.resumed))]
    }

    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(&self.refused).map(|(reason, count)| (reason, value(count)))
    }

    /// Changes of files taken, and refused.
    pub fn reloads(&self) -> (u64, u64) {
        (value(&self.reloads), value(&self.reloads_refused))
    }

    /// Connections ended because their certificate is trusted no more.
    pub fn retired(&self) -> u64 {
        value(&self.retired)
    }
}

fn value(count: &AtomicU64) -> u64 {
    // Order: relaxed, a count for people.
    count.load(Ordering::Relaxed)
}

/// Handshakes at once: 32 KiB each at most, and a second of work for two cores.
const HANDSHAKES_MAX: usize = 1024;
/// Sessions that may be resumed: a fleet of agents that come back, two tickets each, some 2 KiB a ticket.
const SESSIONS_MAX: usize = 4096;
/// Within which connections look whether they are still trusted.
const SPREAD: Duration = Duration::from_secs(5);
