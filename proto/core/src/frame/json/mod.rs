//! Frames as JSON: what existing clients speak. Takes every shape they write, gives one: the documented
//! names, fields without a value left away, nulls that were sent still there. What is only carried keeps its
//! place in the message and its spelling.

mod keys;
mod reader;
mod scan;
mod skip;
mod token;
mod writer;

use bytes::Bytes;

pub(super) use reader::Reader;
pub(super) use writer::Writer;

use super::draft::{Draft, Shape};
use super::malformed::Malformed;
use super::model::Frame;

/// A frame, and how its sender writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub frame: Frame,
    pub shape: Shape,
}

/// All of the message is checked, what is only carried too.
pub fn decode(message: &Bytes) -> Result<Received, Malformed> {
    super::check_size(message.len())?;
    let mut reader = Reader::new(message)?;
    let mut draft = Draft::new(true);
    draft.read(&mut reader)?;
    reader.end()?;
    let shape = draft.finish()?;
    Ok(Received { frame: draft.frame, shape })
}

pub fn encode(frame: &Frame) -> Result<Bytes, Malformed> {
    frame.check()?;
    let mut out = Vec::with_capacity(FIELDS_BYTES + frame.payload.content.as_bytes().len());
    out.push(b'{');
    frame.put(&mut Writer::new(&mut out));
    out.push(b'}');
    super::check_size(out.len())?;
    Ok(Bytes::from(out))
}

/// Names and values of most frames without their content.
const FIELDS_BYTES: usize = 512;
