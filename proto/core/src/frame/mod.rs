//! The ATP frame: one model, three encodings, and what makes it safe to believe.
//!
//! Rooms, in reading order: [`model`] (the frame), [`flags`], [`text`] and [`number`] (its parts); [`json`],
//! [`cbor`] and [`bin`] (the encodings); [`checksum`], [`sign`] and [`nonce`] (was it changed, who sent it,
//! is it new); [`code`] and [`malformed`] (what went wrong). `docs/protocol.md` has the layouts and vectors.
//!
//! Any encoding to any other and back gives an equal frame. Nothing here knows of sessions, streams or
//! windows beyond their fields.

use bytes::Bytes;

pub mod bin;
pub mod cbor;
pub mod checksum;
pub mod code;
mod crc;
mod draft;
mod fields;
pub mod flags;
pub mod json;
pub mod malformed;
pub mod model;
mod node;
pub mod nonce;
pub mod number;
mod read;
pub mod sign;
#[cfg(test)]
mod tests;
pub mod text;
mod tree;

pub use code::Code;
pub use draft::Shape;
pub use flags::{FlagSet, Flags};
pub use malformed::{Malformed, What};
pub use model::{CostEst, Ext, Frame, Meta, Payload, Qos, Window};
pub use number::Number;
pub use text::{RawJson, Text};

/// How frames are written on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Json,
    Cbor,
    Bin,
}

impl Encoding {
    pub const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Cbor, Encoding::Bin];

    pub fn encode(self, frame: &Frame) -> Result<Bytes, Malformed> {
        match self {
            Encoding::Json => json::encode(frame),
            Encoding::Cbor => cbor::encode(frame),
            Encoding::Bin => bin::encode(frame),
        }
    }

    pub fn decode(self, message: &Bytes) -> Result<Frame, Malformed> {
        match self {
            Encoding::Json => json::decode(message).map(|received| received.frame),
            Encoding::Cbor => cbor::decode(message),
            Encoding::Bin => bin::View::read(message.clone())?.frame(),
        }
    }

    /// The first byte of a QUIC stream.
    pub fn of_byte(byte: u8) -> Option<Encoding> {
        Encoding::ALL.get(usize::from(byte)).copied()
    }

    pub fn byte(self) -> u8 {
        match self {
            Encoding::Json => 0,
            Encoding::Cbor => 1,
            Encoding::Bin => 2,
        }
    }

    /// The WebSocket subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Encoding::Json => "atp.json.v1",
            Encoding::Cbor => "atp.cbor.v1",
            Encoding::Bin => "atp.bin.v1",
        }
    }

    /// The content type of a session over HTTP/2.
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/atp+json",
            Encoding::Cbor => "application/atp+cbor",
            Encoding::Bin => "application/atp+bin",
        }
    }
}

fn check_size(bytes: usize) -> Result<(), Malformed> {
    if bytes > FRAME_BYTES_MAX { Err(Malformed::field(What::FrameBytes, "")) } else { Ok(()) }
}

/// The version every frame names.
pub const VERSION: u64 = 1;

/// An encoded frame. What is longer goes in fragments: a frame holds its stream's place in a queue, and
/// memory of its reader, until it is whole.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Lists and objects around any value in JSON that is passed on. Tool schemas nest some ten deep; readers
/// that recurse, ours among them, stay far from the end of their stack.
pub const DEPTH_MAX: usize = 64;

/// Values in one piece of JSON. An embedding is a few thousand; as a tree this many are some 5 MiB.
pub const VALUES_MAX: usize = 1 << 16;

/// Keys of one object: bounds what looking for a key twice takes.
pub const KEYS_MAX: usize = 1024;

/// Keys without a field, in one object: all but what the fields may need.
pub const EXT_KEYS_MAX: usize = KEYS_MAX - 32;

/// Ids, names and digests. Existing peers have no limit and use UUIDs, 36 bytes, and addresses of adapters.
pub const NAME_BYTES_MAX: usize = 1024;

/// A payload's `type`: its length is one byte of the binary layout.
pub const TYPE_BYTES_MAX: usize = 255;

/// Flags of a frame: five times as many as there are.
pub const FLAGS_MAX: usize = 64;

/// One flag; the longest known has 11.
pub const FLAG_BYTES_MAX: usize = 64;

/// Elements of one list in `meta`: languages, scopes, permissions, groups.
pub const LIST_MAX: usize = 1024;
