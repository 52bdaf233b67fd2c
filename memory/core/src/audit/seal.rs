//! Seals: what only the holder of a secret can put to an event. A chain of hashes alone can be written anew
//! by whoever can write the file; a sealed one cannot.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Hash;

/// HMAC-SHA-256 (RFC 2104) over an event's hash.
pub type Seal = [u8; 32];

/// The key of seals. Never shown.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// Too few bytes for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {SECRET_BYTES_MIN} bytes")]
pub struct SecretFault;

impl Secret {
    pub fn new(bytes: &[u8]) -> Result<Secret, SecretFault> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretFault);
        }
        Ok(Secret(Hmac::new_from_slice(bytes).expect("a key of HMAC has any length")))
    }

    pub fn seal(&self, hash: &Hash) -> Seal {
        self.0.clone().chain_update(hash).finalize().into_bytes().into()
    }

    /// In a time that does not depend on where they differ.
    pub fn is_seal(&self, seal: &Seal, hash: &Hash) -> bool {
        self.0.clone().chain_update(hash).verify_slice(seal).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Shorter ones are guessed.
const SECRET_BYTES_MIN: usize = 16;
