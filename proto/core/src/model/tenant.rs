//! A tenant: who may call, with what share and what quality of service.

use super::Name;
use crate::identity::Identity;
use crate::units::TokenCount;

#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    pub name: Name,
    /// Share under contention, 1 to 1000.
    pub weight: u32,
    /// The best it may ask for.
    pub qos: Qos,
    /// Hashes of its keys; unique over the whole set. Empty is allowed for `public`, and beside identities.
    pub keys: Vec<KeyHash>,
    /// Names in certificates that call as it; unique over the whole set. `spiffe://…/tenant/NAME` with its
    /// own name need not be among them.
    pub identities: Vec<Identity>,
    pub window: Option<Window>,
    pub budget: Option<Budget>,
    /// A stream of its bronze requests that already answers may be cut for a gold one in need.
    pub preempt_streams: bool,
}

/// What may be in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub max_parallel: Option<u32>,
    pub max_tokens: Option<TokenCount>,
    pub max_usd_micros: Option<u64>,
}

/// What may be spent over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub usd_micros_per_day: Option<u64>,
    pub tokens_per_minute: Option<TokenCount>,
}

/// Quality of service, worst first so that `Gold > Silver > Bronze`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Qos {
    Bronze,
    #[default]
    Silver,
    Gold,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Bronze => "bronze",
            Qos::Silver => "silver",
            Qos::Gold => "gold",
        }
    }
}

/// SHA-256 of an API key. The key itself has 256 random bits, so a plain hash is enough and fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// From 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Result<KeyHash, &'static str> {
        const SHAPE: &str = "a key hash is 64 hexadecimal digits: SHA-256 of the key";
        let bytes = hex.as_bytes();
        if bytes.len() != 64 {
            return Err(SHAPE);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(SHAPE);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| SHAPE)?;
        }
        Ok(KeyHash(hash))
    }
}

/// The tenant of callers without a key.
pub const PUBLIC: &str = "public";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hash_is_64_hex_digits_and_nothing_else() {
        let hash = KeyHash::parse(&"aB".repeat(32)).unwrap();
        assert_eq!(hash.0, [0xab; 32]);
        assert!(KeyHash::parse(&"a".repeat(63)).is_err());
        assert!(KeyHash::parse(&"g".repeat(64)).is_err());
    }
}
