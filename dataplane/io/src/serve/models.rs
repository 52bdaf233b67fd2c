//! `GET /v1/models` and `GET /v1/models/{id}`: every name a caller may send.

use dataplane_core::dialect::models::{Listed, write_list, write_one};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::TenantId;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::answer::AnswerBody;
use super::headers::X_REQUEST_ID;
use super::http::{Arrived, held, identify, refused};
use crate::served::Hold;
use crate::words::{Dialect, Telling};

/// All of them.
pub fn list(arrived: &Arrived) -> Response<AnswerBody> {
    answer(arrived, "", |held, tenant, out| {
        write_list(held.table.listed(tenant).map(|(id, owned_by)| Listed { id, owned_by }), out);
        Ok(())
    })
}

/// One; `id` as it stands in the path, so that `adapter/model` may be written with a slash or `%2F`.
pub fn one(arrived: &Arrived, id: &str) -> Response<AnswerBody> {
    let id = decoded(id);
    answer(arrived, &id, |held, tenant, out| {
        let found = held.table.listed(tenant).find(|(name, _)| *name == id);
        let (id, owned_by) = found.ok_or(Fault::client(Kind::ModelUnknown))?;
        write_one(Listed { id, owned_by }, out);
        Ok(())
    })
}

fn answer(
    arrived: &Arrived,
    model: &str,
    write: impl FnOnce(&Hold, TenantId, &mut Vec<u8>) -> Result<(), Fault>,
) -> Response<AnswerBody> {
    let peer = &arrived.peer;
    let mut telling = Telling::new(Dialect::OpenAi, &arrived.request_id);
    telling.set_model(model);
    let mut out = Vec::new();
    let outcome = held(peer).and_then(|held| {
        let tenant = identify(&held.table, &arrived.headers, &arrived.peer)?;
        write(&held, tenant, &mut out).inspect_err(|fault| telling.on_fault(*fault, &held.table, tenant))
    });
    match outcome {
        Ok(()) => {
            let mut response = Response::new(AnswerBody::text(out));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(X_REQUEST_ID, arrived.request_id.clone());
            response
        }
        Err(fault) => refused(peer, &telling, fault),
    }
}

/// Percent-decoding (RFC 3986 §2.1) of ASCII; anything else stays as it is and names no model.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte =
            after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii_graphic);
        match byte {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_may_be_written_as_such_or_encoded() {
        assert_eq!(decoded("local%2Fecho"), "local/echo");
        assert_eq!(decoded("local/echo"), "local/echo");
        for odd in ["%", "%2", "%zz", "a%00b", "%é"] {
            assert_eq!(decoded(odd), odd);
        }
    }
}
