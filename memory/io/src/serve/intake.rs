//! Bodies, read within their bounds of bytes and time.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value};
use tokio::time::timeout;

use super::answer::Fault;

/// The whole body.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Fault> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Fault::Invalid("a body is sent as it is, without content-encoding".into()));
    }
    match timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Err(_) => Err(Fault::Slow),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Fault::Invalid(format!("the body broke off: {error}"))),
    }
}

fn too_large() -> Fault {
    Fault::TooLarge(format!("an object has at most {OBJECT_BYTES_MAX} bytes"))
}

/// An object to be stored: as it was written, and as it was understood.
pub struct Stored {
    pub json: Vec<u8>,
    pub value: Value,
    /// `None`: the writer says nothing of it.
    pub ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct PutBody<'a> {
    #[serde(borrow)]
    object: &'a RawValue,
    ttl_seconds: Option<Number>,
}

/// `{"object": {…}, "ttl_seconds": 60}`; other fields are for others.
pub fn stored(body: &[u8]) -> Result<Stored, Fault> {
    let invalid =
        |error: serde_json::Error| Fault::Invalid(format!("the body is not what it should be: {error}"));
    let PutBody { object, ttl_seconds } = serde_json::from_slice(body).map_err(invalid)?;
    if object.get().len() > OBJECT_BYTES_MAX {
        return Err(too_large());
    }
    let value: Value = serde_json::from_str(object.get()).map_err(invalid)?;
    if !value.is_object() {
        return Err(Fault::Invalid("object is a JSON object: {\"object\": {…}}".into()));
    }
    let ttl_seconds = match ttl_seconds {
        None => None,
        Some(number) => match number.as_u64() {
            Some(seconds) => Some(seconds),
            None => return Err(Fault::Invalid("ttl_seconds is a whole number, 0 for ever".into())),
        },
    };
    Ok(Stored { json: object.get().as_bytes().to_vec(), value, ttl_seconds })
}

/// A question.
#[derive(Debug, Deserialize)]
pub struct SearchBody {
    pub q: String,
    pub namespace: Option<String>,
    pub limit: Option<u64>,
    /// Of the answer before.
    pub cursor: Option<String>,
}

/// Text, or a whole value, to be looked through.
#[derive(Debug, Deserialize)]
pub struct PiiBody {
    pub text: Option<String>,
    pub object: Option<Value>,
}

pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::Invalid(format!("the body is not what it should be: {error}")))
}

/// Of one item.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// Room for what stands around an object.
const BODY_BYTES_MAX: usize = OBJECT_BYTES_MAX + 4096;
/// A megabyte at 35 KB a second.
const BODY_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_as_it_was_written() {
        let body = br#"{"ttl_seconds": 60, "object": {"a":  1.50, "b":1e2}, "other": 1}"#;
        let found = stored(body).ok().unwrap();
        assert_eq!(found.json, br#"{"a":  1.50, "b":1e2}"#);
        assert_eq!(found.ttl_seconds, Some(60));
    }

    #[test]
    fn what_is_no_object_is_refused_with_a_reason() {
        let deep = format!("{{\"object\":{{\"a\":{}1{}}}}}", "[".repeat(200), "]".repeat(200));
        for body in ["", "{}", "[]", "{\"object\":1}", "{\"object\":[]}", "{\"object\":{}", &deep] {
            assert!(matches!(stored(body.as_bytes()), Err(Fault::Invalid(_))), "{body}");
        }
        for ttl in ["-1", "1.5", "\"1\""] {
            let body = format!("{{\"object\":{{}},\"ttl_seconds\":{ttl}}}");
            assert!(matches!(stored(body.as_bytes()), Err(Fault::Invalid(_))), "{ttl}");
        }
    }

    #[test]
    fn an_object_may_have_a_megabyte_and_not_a_byte_more() {
        let of = |bytes: usize| format!("{{\"object\":{{\"a\":\"{}\"}}}}", "x".repeat(bytes - 8));
        assert!(stored(of(OBJECT_BYTES_MAX).as_bytes()).is_ok());
        assert!(matches!(stored(of(OBJECT_BYTES_MAX + 1).as_bytes()), Err(Fault::TooLarge(_))));
    }
}
