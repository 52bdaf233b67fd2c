//! A sealed CBOR value: what it is, the value, a checksum against accidents, a signature against people.
//!
//! ```text
//! "ATPC" | u16 length | header, JSON | u32 length | body, CBOR | u32 CRC-32 of body | HMAC-SHA256, 32 bytes
//! ```
//!
//! Numbers are big-endian; the signature covers header, body and checksum.

use bytes::Bytes;
use hmac::Mac;

use super::super::crc::crc32;
use super::super::malformed::{Malformed, What};
use super::super::sign::mac;
use super::super::text::RawJson;

pub fn seal(secret: &[u8], value: &RawJson) -> Bytes {
    let body = super::of_json(value);
    let crc = crc32(&body).to_be_bytes();
    let signature = mac(secret, HEADER).chain_update(&body).chain_update(crc).finalize().into_bytes();
    let mut out = Vec::with_capacity(FIXED_BYTES + HEADER.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(HEADER.len() as u16).to_be_bytes());
    out.extend_from_slice(HEADER);
    out.extend_from_slice(&u32::try_from(body.len()).expect("a value is far below 4 GiB").to_be_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&crc);
    out.extend_from_slice(&signature);
    Bytes::from(out)
}

/// The value, where the signature is good. Nothing else is looked at before that.
pub fn open(secret: &[u8], sealed: &Bytes) -> Result<RawJson, Malformed> {
    super::super::check_size(sealed.len())?;
    let mut rest = &sealed[..];
    let mut take = |length: usize| {
        let (taken, left) =
            rest.split_at_checked(length).ok_or(Malformed::at(What::Truncated, sealed.len()))?;
        rest = left;
        Ok::<_, Malformed>(taken)
    };
    if take(MAGIC.len())? != MAGIC {
        return Err(Malformed::at(What::Syntax, 0));
    }
    let header = length_of(take(2)?);
    let header = take(header)?;
    let body = length_of(take(4)?);
    let body = take(body)?;
    let (crc, signature) = (take(4)?, take(32)?);
    if !rest.is_empty() {
        return Err(Malformed::at(What::Trailing, sealed.len() - rest.len()));
    }
    let expected = mac(secret, header).chain_update(body).chain_update(crc);
    expected.verify_slice(signature).map_err(|_| Malformed::field(What::Forged, "envelope"))?;
    if header != HEADER {
        return Err(Malformed::field(What::Version, "envelope"));
    }
    if crc32(body).to_be_bytes() != crc {
        return Err(Malformed::field(What::Checksum, "envelope"));
    }
    super::to_json(&sealed.slice_ref(body))
}

fn length_of(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

const MAGIC: &[u8] = b"ATPC";

/// The only one there is.
const HEADER: &[u8] = br#"{"alg":"HS256","chk":"crc32","fmt":"cbor"}"#;

/// All but header and body.
const FIXED_BYTES: usize = MAGIC.len() + 2 + 4 + 4 + 32;
