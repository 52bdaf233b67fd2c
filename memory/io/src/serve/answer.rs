//! What is answered. Every refusal is `{"error": code, "message": what to do}`; the code is stable.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use memory_core::quota::QuotaFault;
use serde::Serialize;
use serde_json::{Value, json};

use super::route::Unknown;
use crate::identity::Denied;
use crate::store::StoreFault;
use crate::store::changes::Refused;

pub type Answer = Response<Full<Bytes>>;

/// Why a call was not done.
#[derive(Debug)]
pub enum Fault {
    Unknown(Unknown),
    Denied(Denied),
    /// The request says something that cannot be.
    Invalid(String),
    TooLarge(String),
    /// The body did not come in time.
    Slow,
    /// A page of somewhere else is behind the call.
    Foreign,
    Precondition(Option<u64>),
    Quota(QuotaFault),
    Store(StoreFault),
    /// An invariant of ours; the log says which.
    Internal,
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Fault {
        Fault::Store(fault)
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        match refused {
            Refused::Precondition(version) => Fault::Precondition(version),
            Refused::Quota(fault) => Fault::Quota(fault),
        }
    }
}

/// A body of JSON.
pub fn ok(body: &impl Serialize) -> Result<Answer, Fault> {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Fault::Internal
    })?;
    Ok(with_type(StatusCode::OK, JSON, bytes))
}

/// The same, of one version of an item.
pub fn versioned(body: &impl Serialize, version: u64) -> Result<Answer, Fault> {
    let mut answer = ok(body)?;
    let tag = HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes are a header");
    answer.headers_mut().insert(ETAG, tag);
    Ok(answer)
}

pub fn with_type(status: StatusCode, of: &'static str, bytes: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(of));
    answer
}

impl Fault {
    pub fn into_answer(self) -> Answer {
        let (status, code, message) = self.told();
        let mut body = json!({"error": code, "message": message});
        if let Fault::Precondition(version) = &self {
            body["version"] = version.map_or(Value::Null, Value::from);
        }
        let mut answer = with_type(status, JSON, body.to_string().into_bytes());
        let headers = answer.headers_mut();
        match self {
            Fault::Unknown(Unknown::Method(allowed)) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Fault::Denied(Denied::NoKey | Denied::UnknownKey) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Fault::Store(_) | Fault::Denied(Denied::NotReady) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            _ => {}
        }
        answer
    }

    fn told(&self) -> (StatusCode, &'static str, String) {
        match self {
            Fault::Unknown(Unknown::Path) => {
                (StatusCode::NOT_FOUND, "no_such_path", "there is no such path".into())
            }
            Fault::Unknown(Unknown::Method(allowed)) => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this path takes {allowed}"))
            }
            Fault::Unknown(Unknown::Wrong(why)) | Fault::Invalid(why) => {
                (StatusCode::BAD_REQUEST, "invalid_request", why.clone())
            }
            Fault::Denied(denied @ Denied::OtherTenant { .. }) => {
                (StatusCode::FORBIDDEN, "permission_denied", denied.to_string())
            }
            Fault::Denied(denied @ Denied::NotReady) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_ready", denied.to_string())
            }
            Fault::Denied(denied) => (StatusCode::UNAUTHORIZED, "authentication_failed", denied.to_string()),
            Fault::TooLarge(why) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", why.clone()),
            Fault::Slow => (StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time".into()),
            Fault::Foreign => {
                (StatusCode::FORBIDDEN, "permission_denied", "this port is for programs here".into())
            }
            Fault::Precondition(_) => {
                let why = "another version is stored than the request expects; read it and decide anew";
                (StatusCode::PRECONDITION_FAILED, "precondition_failed", why.into())
            }
            Fault::Quota(fault) => (StatusCode::INSUFFICIENT_STORAGE, "quota_exceeded", fault.to_string()),
            // Its path and cause are for the log.
            Fault::Store(StoreFault::Stopping) => {
                (StatusCode::SERVICE_UNAVAILABLE, "stopping", "the gateway is stopping".into())
            }
            Fault::Store(fault @ (StoreFault::Busy | StoreFault::Behind | StoreFault::Search)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", fault.to_string())
            }
            Fault::Store(StoreFault::Unreachable { .. }) => {
                let why = "the store cannot be reached, and this was not done; try again in a moment";
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", why.into())
            }
            Fault::Store(_) => {
                let why = "the store failed; whether a write happened is not known: read, then try again";
                (StatusCode::SERVICE_UNAVAILABLE, "store_failed", why.into())
            }
            Fault::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the log says what happened".into())
            }
        }
    }
}

const JSON: &str = "application/json";
/// A store that failed is opened anew by the next call.
const RETRY_AFTER_S: &str = "1";
