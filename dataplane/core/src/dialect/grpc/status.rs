//! gRPC's status codes (the code list of gRPC's `statuscodes.md`) in the words of faults.

use crate::fault::{Fault, Kind, Retry};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub const OK: Status = Status(0);
    /// As the value of `grpc-status`; what is no number is `UNKNOWN`.
    pub fn parse(value: &[u8]) -> Status {
        let code = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        Status(code.unwrap_or(UNKNOWN))
    }
}

/// The HTTP status that says the same; `None` for success. Unknown codes are the server's own trouble.
pub fn http_status(status: Status) -> Option<u16> {
    Some(match status.0 {
        0 => return None,
        // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
        3 | 9 | 11 => 400,
        // UNAUTHENTICATED, PERMISSION_DENIED
        16 => 401,
        7 => 403,
        // NOT_FOUND
        5 => 404,
        // ALREADY_EXISTS, ABORTED
        6 | 10 => 409,
        // RESOURCE_EXHAUSTED
        8 => 429,
        // UNIMPLEMENTED
        12 => 501,
        // UNAVAILABLE
        14 => 503,
        // DEADLINE_EXCEEDED
        4 => 504,
        // CANCELLED, UNKNOWN, INTERNAL, DATA_LOSS
        _ => 500,
    })
}

/// `None` for success. A call that was cancelled by the other side broke off.
pub fn fault(status: Status) -> Option<Fault> {
    let code = http_status(status)?;
    if status.0 == CANCELLED {
        return Some(Fault::upstream(Kind::Reset, Retry::ElsewhereAtCost));
    }
    let refusal = Fault::upstream(Kind::Status { code, retry_after_s: None }, Retry::Never);
    Some(Fault::of_status(code, None).unwrap_or(refusal))
}

/// The value of `grpc-message`, which is percent-encoded UTF-8; at most 4 KiB of it.
pub fn message(value: &[u8]) -> String {
    let value = &value[..value.len().min(MESSAGE_BYTES_MAX)];
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, more)) = rest.split_first() {
        let digit = |at: usize| more.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                rest = &more[2..];
            }
            _ => {
                plain.push(byte);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Of a message that is told on.
const MESSAGE_BYTES_MAX: usize = 4096;
const CANCELLED: u32 = 1;
const UNKNOWN: u32 = 2;
