//! Checksums inside frames: of a whole frame, of one fragment, of a message's fragments together. They find
//! accidents; who did it is for [`super::sign`] to say.
//!
//! Peers write them with `sha256:` before and without; both are taken, what is given is without.

use sha2::{Digest, Sha256};

use super::malformed::{Malformed, What};
use super::model::Frame;
use super::node::{Node, Style};
use super::number::Number;

/// What a whole frame's `checksum` says: SHA-256, in 64 hexadecimal digits, of the frame without `checksum`
/// and `sig`, as JSON in UTF-8 with sorted keys and no blanks. `confidence` counts with the 32 bits that
/// existing peers keep of it.
pub fn of_frame(frame: &Frame) -> String {
    hex(&Sha256::digest(covered(frame, true)))
}

/// Whether what the frame says of itself is true; a frame that says nothing is no mistake. `confidence` may
/// count with 32 bits or with all of its own.
pub fn check_frame(frame: &Frame) -> Result<(), Malformed> {
    let Some(said) = &frame.checksum else { return Ok(()) };
    let said: Option<[u8; 32]> = digest_of_hex(said.as_str());
    let is_true = |is_narrow| Some(Sha256::digest(covered(frame, is_narrow)).into()) == said;
    let is_sound =
        said.is_some() && (is_true(true) || (frame.payload.confidence.is_some() && is_true(false)));
    if is_sound { Ok(()) } else { Err(Malformed::field(What::Checksum, "frame")) }
}

fn covered(frame: &Frame, is_narrow: bool) -> String {
    let mut node = frame.node().without(&["checksum", "sig"]);
    if let (true, Some(confidence)) = (is_narrow, frame.payload.confidence) {
        let narrow = f64::from(confidence.as_f64() as f32);
        let place = node.entry_mut("payload").and_then(|payload| payload.entry_mut("confidence"));
        *place.expect("a frame with a confidence has it in its tree") = Node::Number(Number::Float(narrow));
    }
    node.text(Style::Plain)
}

/// What a fragment's `payload.checksum` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The first half of a SHA-256 over this fragment's text.
    Fragment([u8; 8]),
    /// The root over all fragments of the message: the same in each of them.
    Root([u8; 32]),
}

impl Said {
    /// `None` where it is neither.
    pub fn of_text(text: &str) -> Option<Said> {
        digest_of_hex(text).map(Said::Fragment).or_else(|| digest_of_hex(text).map(Said::Root))
    }

    /// Whether it is true of this fragment; `None` where only the whole message can tell.
    pub fn is_true_of(self, fragment: &[u8]) -> Option<bool> {
        let Said::Fragment(said) = self else { return None };
        Some(Sha256::digest(fragment).starts_with(&said))
    }
}

/// 16 hexadecimal digits for one fragment.
pub fn of_fragment(fragment: &[u8]) -> String {
    hex(&Sha256::digest(fragment)[..8])
}

/// 64 hexadecimal digits for the fragments of a message. A leaf is the SHA-256 of its fragment, a parent that
/// of its children's digits one after the other, and the odd one out is its own sibling (R. Merkle, "A
/// digital signature based on a conventional encryption function", CRYPTO 1987).
pub fn merkle_root<'a>(fragments: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut level: Vec<String> =
        fragments.into_iter().map(|fragment| hex(&Sha256::digest(fragment))).collect();
    if level.is_empty() {
        return hex(&Sha256::digest(b""));
    }
    while level.len() > 1 {
        let parent = |pair: &[String]| {
            let (one, other) = (&pair[0], pair.last().expect("a chunk has an element"));
            hex(&Sha256::new().chain_update(one).chain_update(other).finalize())
        };
        level = level.chunks(2).map(parent).collect();
    }
    level.swap_remove(0)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// As many bytes as asked for, no more and no fewer, with or without `sha256:`.
fn digest_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    of_hex(text.strip_prefix(PREFIX).unwrap_or(text))
}

pub(super) fn of_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(out)
}

const PREFIX: &str = "sha256:";
