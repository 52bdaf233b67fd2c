//! Signatures of frames: HMAC-SHA256 (RFC 2104) over all a frame says, with keys that have names, so that
//! they can be changed while frames are under way.
//!
//! What is covered is the frame without `sig`, as JSON in the spelling of Python's `json` module: keys sorted
//! at every level, no blanks, ASCII with `\u` escapes, floats by `repr`. Unknown keys and nulls are covered
//! as they were sent, `kid`, `nonce` and `checksum` too. So is `ttl`: who passes on a frame with one hop less
//! signs it again.

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::checksum::{self, hex, of_hex};
use super::code::Code;
use super::json::Reader;
use super::malformed::{Malformed, What};
use super::model::Frame;
use super::node::{Node, Style};
use super::text::Text;

/// Keys by their names. One of them signs; all of them verify, until they are retired.
#[derive(Clone, Default)]
pub struct Keys {
    keys: Vec<Key>,
    /// Of `keys`.
    current: usize,
}

#[derive(Clone)]
struct Key {
    kid: Text,
    secret: Bytes,
}

/// Why a frame is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverified {
    /// It has no `sig`.
    Unsigned,
    /// It does not say which key signed it.
    NoKeyId,
    UnknownKey,
    /// The signature is not that key's, or not of this frame.
    Mismatch,
    /// It cannot be read.
    Malformed(Malformed),
}

impl Unverified {
    pub fn code(self) -> Code {
        if let Unverified::Malformed(malformed) = self { malformed.code() } else { Code::Sec }
    }
}

impl Keys {
    /// The first becomes the one that signs. A name that is there takes the new secret; `false` where there
    /// are [`KEYS_MAX`] already, or name or secret is empty.
    pub fn add(&mut self, kid: impl Into<Text>, secret: impl Into<Bytes>) -> bool {
        let (kid, secret) = (kid.into(), secret.into());
        if kid.is_empty() || kid.len() > super::NAME_BYTES_MAX || secret.is_empty() {
            return false;
        }
        if let Some(own) = self.keys.iter_mut().find(|key| key.kid == kid) {
            own.secret = secret;
            return true;
        }
        let has_room = self.keys.len() < KEYS_MAX;
        if has_room {
            self.keys.push(Key { kid, secret });
        }
        has_room
    }

    /// From now on this one signs; `false` where there is none of that name.
    pub fn rotate(&mut self, kid: &str) -> bool {
        let at = self.keys.iter().position(|key| key.kid.as_str() == kid);
        self.current = at.unwrap_or(self.current);
        at.is_some()
    }

    /// From now on this one verifies nothing; `false` where there is none of that name, or it is the one that
    /// signs.
    pub fn retire(&mut self, kid: &str) -> bool {
        let Some(at) = self.keys.iter().position(|key| key.kid.as_str() == kid) else { return false };
        if at == self.current {
            return false;
        }
        self.keys.remove(at);
        self.current -= usize::from(at < self.current);
        true
    }

    /// `name=secret,name=secret`, as operators of existing routers write them; `None` where it is not that.
    pub fn of_text(text: &str) -> Option<Keys> {
        let mut keys = Keys::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (kid, secret) = pair.split_once('=')?;
            if !keys.add(kid.trim(), Bytes::copy_from_slice(secret.trim().as_bytes())) {
                return None;
            }
        }
        Some(keys)
    }

    /// Puts `kid` and `sig` in the frame; `false` where there is no key. A checksum covers `kid` and is
    /// covered by `sig`, so one that is there is made anew between the two.
    pub fn sign(&self, frame: &mut Frame) -> bool {
        let Some(key) = self.keys.get(self.current) else { return false };
        frame.ext.remove("kid");
        frame.ext.remove("sig");
        frame.kid = Some(key.kid.clone());
        if frame.checksum.is_some() {
            frame.checksum = Some(checksum::of_frame(frame).into());
        }
        frame.sig = Some(signature(&key.secret, frame).into());
        true
    }

    /// Whether the frame says what a holder of the key it names has said.
    pub fn verify(&self, frame: &Frame) -> Result<(), Unverified> {
        let (sig, kid) = (frame.sig.as_ref().map(Text::as_str), frame.kid.as_ref().map(Text::as_str));
        self.verify_text(sig, kid, || canonical(frame))
    }

    /// The same of a JSON message as it came, in whatever shape: fields it left out are not covered, and
    /// names in camel case are covered as such.
    pub fn verify_json(&self, message: &Bytes) -> Result<(), Unverified> {
        let mut node = message_node(message).map_err(Unverified::Malformed)?;
        let mut said = |key| match node.entry_mut(key) {
            Some(Node::Text(text)) => Some(text.clone().into_owned()),
            _ => None,
        };
        let (sig, kid) = (said("sig"), said("kid"));
        self.verify_text(sig.as_deref(), kid.as_deref(), || node.without(&["sig"]).text(Style::Python))
    }

    fn verify_text(
        &self,
        sig: Option<&str>,
        kid: Option<&str>,
        covered: impl FnOnce() -> String,
    ) -> Result<(), Unverified> {
        let sig = sig.ok_or(Unverified::Unsigned)?;
        let kid = kid.filter(|kid| !kid.is_empty()).ok_or(Unverified::NoKeyId)?;
        let key = self.keys.iter().find(|key| key.kid.as_str() == kid).ok_or(Unverified::UnknownKey)?;
        let sig: [u8; 32] = of_hex(sig).ok_or(Unverified::Mismatch)?;
        mac(&key.secret, covered().as_bytes()).verify_slice(&sig).map_err(|_| Unverified::Mismatch)
    }
}

impl fmt::Debug for Keys {
    /// Names only.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

/// What a signature covers.
pub fn canonical(frame: &Frame) -> String {
    frame.node().without(&["sig"]).text(Style::Python)
}

/// What a signature of a JSON message covers.
pub fn canonical_json(message: &Bytes) -> Result<String, Malformed> {
    Ok(message_node(message)?.without(&["sig"]).text(Style::Python))
}

/// The signature of the frame as it is, `kid` or none: 64 hexadecimal digits.
pub fn signature(secret: &[u8], frame: &Frame) -> String {
    hex(&mac(secret, canonical(frame).as_bytes()).finalize().into_bytes())
}

pub(super) fn mac(secret: &[u8], covered: &[u8]) -> Hmac<Sha256> {
    let mac: Hmac<Sha256> = KeyInit::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.chain_update(covered)
}

fn message_node(message: &Bytes) -> Result<Node<'_>, Malformed> {
    super::check_size(message.len())?;
    let mut reader = Reader::new(message)?;
    let node = reader.message()?;
    reader.end()?;
    if let Node::Map(_) = node { Ok(node) } else { Err(Malformed::at(What::WrongType, 0)) }
}

/// One that signs, one that comes, and those that frames under way may still name.
pub const KEYS_MAX: usize = 16;
