//! Frames as deterministic CBOR (RFC 8949, a subset of section 4.2): the map that JSON has, with one
//! spelling for each value. Integers and lengths are the shortest, floats have 64 bits, lengths are definite,
//! keys are text in the order of their bytes. What is spelled otherwise is refused, never put right.
//!
//! Byte strings are refused in frames: JSON could not carry them on.

pub mod envelope;
mod reader;
mod writer;

use bytes::Bytes;

use reader::Reader;

use super::draft::Draft;
use super::malformed::Malformed;
use super::model::Frame;
use super::read::Read;
use super::text::RawJson;

pub fn decode(message: &Bytes) -> Result<Frame, Malformed> {
    super::check_size(message.len())?;
    let mut reader = Reader::new(message);
    let mut draft = Draft::new(false);
    draft.read(&mut reader)?;
    reader.end()?;
    draft.finish()?;
    Ok(draft.frame)
}

pub fn encode(frame: &Frame) -> Result<Bytes, Malformed> {
    frame.check()?;
    let out = writer::write(&frame.node());
    super::check_size(out.len())?;
    Ok(Bytes::from(out))
}

/// Any value.
pub fn of_json(json: &RawJson) -> Bytes {
    Bytes::from(writer::write(&json.node()))
}

/// Any value, and nothing behind it.
pub fn to_json(cbor: &Bytes) -> Result<RawJson, Malformed> {
    let mut reader = Reader::new(cbor);
    let json = reader.raw()?;
    reader.end()?;
    Ok(json)
}
