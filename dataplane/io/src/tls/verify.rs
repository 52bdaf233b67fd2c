//! Is a client's certificate good, and whom does it name? Both are asked within the handshake, so that what
//! is no good never comes to a request; and again where a session is resumed, which proves only that the peer
//! was good once.

use std::sync::Arc;

use proto_core::identity::Identity;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::server::{Counts, ServerSide};

/// A client that showed a certificate, for as long as its connection lasts.
#[derive(Debug)]
pub struct Verified {
    pub identity: Identity,
    /// The same as text.
    pub name: Arc<str>,
    chain: Box<[CertificateDer<'static>]>,
    side: Arc<ServerSide>,
    /// Of the moment it was looked at.
    trust: u64,
}

impl Verified {
    pub fn new(
        identity: Identity,
        chain: &[CertificateDer<'static>],
        side: Arc<ServerSide>,
        trust: u64,
    ) -> Verified {
        let name = identity.to_string().into();
        Verified { identity, name, chain: chain.into(), side, trust }
    }

    /// Until the certificate is not trusted any more: revoked, or its authority gone. One that only grows old
    /// is not looked at again: it was good when its holder came.
    pub async fn retired(&self) {
        let mut changes = self.side.changes();
        let mut trust = self.trust;
        loop {
            let Ok(now) = changes.wait_for(|loaded| loaded.trust != trust).await.map(|now| now.trust) else {
                return std::future::pending().await;
            };
            trust = now;
            // Not all connections at once: each look is worth half a handshake.
            tokio::time::sleep(self.side.spread()).await;
            if self.side.is_lost(&self.chain) {
                return;
            }
        }
    }
}

/// Of what a handshake is refused for; the index is its counter's.
pub const REASONS: [&str; 10] = [
    "expired",
    "not_yet_valid",
    "unknown_issuer",
    "revoked",
    "purpose",
    "name",
    "missing",
    "slow",
    "crowded",
    "other",
];

/// Of an error of a handshake.
pub fn reason(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not_yet_valid",
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnknownRevocationStatus => "unknown_issuer",
            CertificateError::Revoked => "revoked",
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "purpose",
            CertificateError::ApplicationVerificationFailure => "name",
            _ => "other",
        },
        Error::NoCertificatesPresented => "missing",
        _ => "other",
    }
}

/// A certificate is good if its authority says so and it names somebody.
#[derive(Debug)]
pub struct Named {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub counts: Arc<Counts>,
}

impl Named {
    /// Whom a chain names, if it is good now.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<Identity, Error> {
        let (own, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.verify(own, between, UnixTime::now()).map(|(_, identity)| identity)
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(ClientCertVerified, Identity), Error> {
        let good = self.inner.verify_client_cert(own, between, now);
        let named = good.and_then(|good| match Identity::of_certificate(own) {
            Ok(identity) => Ok((good, identity)),
            Err(fault) => {
                tracing::debug!(%fault, "a client's certificate names nobody");
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        });
        named.inspect_err(|error| self.counts.on_refused(reason(error)))
    }
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(own, between, now).map(|(good, _)| good)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // This listener speaks TLS 1.3 only.
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
