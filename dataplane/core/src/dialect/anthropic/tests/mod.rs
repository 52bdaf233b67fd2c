//! Streams and requests in both directions. Every stream is also read byte by byte and cut in two at every
//! byte, and has to end the same.

mod answers;
mod requests;
mod streams;

use bytes::Bytes;
use serde_json::Value;

use super::super::rope::Rope;

fn text(rope: &Rope) -> String {
    let bytes = rope.iter().flat_map(|piece| piece.to_vec()).collect();
    String::from_utf8(bytes).unwrap()
}

fn json(text: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(text.as_ref()).unwrap()
}

/// `stream` in all the ways it may come: whole, byte by byte, cut in two anywhere.
fn cuts(stream: &str) -> Vec<Vec<Bytes>> {
    let bytes = stream.as_bytes();
    let piece = |part: &[u8]| Bytes::copy_from_slice(part);
    let mut ways = vec![vec![piece(bytes)], bytes.chunks(1).map(piece).collect()];
    ways.extend((1..bytes.len()).map(|at| vec![piece(&bytes[..at]), piece(&bytes[at..])]));
    ways
}

/// The data of a stream's events, as trees; what is no JSON as a string.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap_or(Value::String(data.into()))).collect()
}
