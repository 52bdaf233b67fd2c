//! JSON-RPC 2.0, as MCP narrows it: one object a message, an id that is a string or a whole number. Ids are
//! handed back as they were written; parameters are left unread for whoever knows the method.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// What a message is.
#[derive(Debug, Clone)]
pub enum Message<'m> {
    Request {
        id: Id<'m>,
        method: Cow<'m, str>,
        params: Option<&'m RawValue>,
    },
    Notification {
        method: Cow<'m, str>,
        params: Option<&'m RawValue>,
    },
    /// An answer to something this server never asks.
    Response,
}

/// A request's name among those of its sender, as it was written: quotes included, if it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<'m>(&'m str);

impl<'m> Id<'m> {
    pub fn as_json(self) -> &'m str {
        self.0
    }

    /// Of what [`Id::as_json`] gave.
    pub fn again(json: &'m str) -> Id<'m> {
        Id(json)
    }

    /// A string or a whole number of at most [`ID_BYTES_MAX`].
    pub fn of(raw: &'m RawValue) -> Option<Id<'m>> {
        let text = raw.get();
        let is_whole = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
        ((text.starts_with('"') || is_whole) && text.len() <= ID_BYTES_MAX).then_some(Id(text))
    }
}

/// Why a message is refused: the code of JSON-RPC or MCP, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// Codes of errors: those of JSON-RPC 2.0 section 5.1, and those MCP has of its own since 2026-07-28.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not JSON.
    Parse,
    /// JSON, and no message.
    Request,
    Method,
    Params,
    Internal,
    /// A header says something else than the body, or is missing.
    Header,
    /// A revision that is not served.
    Version,
    /// Refused for now, or for good, by this proxy: [`crate::fault::Fault::code`] is in `data`.
    Refused,
}

impl Code {
    pub fn number(self) -> i32 {
        match self {
            Code::Parse => -32700,
            Code::Request => -32600,
            Code::Method => -32601,
            Code::Params => -32602,
            Code::Internal => -32603,
            Code::Header => -32020,
            Code::Version => -32022,
            // Outside of what JSON-RPC and MCP keep for themselves.
            Code::Refused => -31000,
        }
    }
}

#[derive(Deserialize)]
struct Written<'m> {
    #[serde(borrow, default, deserialize_with = "there")]
    jsonrpc: Option<&'m RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    id: Option<&'m RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    method: Option<&'m RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    params: Option<&'m RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    result: Option<&'m RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    error: Option<&'m RawValue>,
}

/// A value that stands there, null included.
fn there<'m, D: Deserializer<'m>>(from: D) -> Result<Option<&'m RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads one message. The second of a refusal is the id of what is refused, where one could be read.
///
/// # Errors
/// What is no JSON, no object, no message of JSON-RPC 2.0, or several in an array.
pub fn read(body: &[u8]) -> Result<Message<'_>, (Refusal, Option<Id<'_>>)> {
    let refused = |code, message: &'static str| (Refusal::new(code, message), None);
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(refused(Code::Request, "Batches are not taken: send one message at a time."));
    }
    let written: Written<'_> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => {
            refused(Code::Request, "A message is a JSON object, each of whose keys stands once.")
        }
        Category::Io | Category::Syntax | Category::Eof => refused(Code::Parse, "The message is not JSON."),
    })?;
    let id = written.id.map(Id::of);
    let refused = |message: &'static str| (Refusal::new(Code::Request, message), id.flatten());
    if written.jsonrpc.is_none_or(|version| version.get() != r#""2.0""#) {
        return Err(refused("`jsonrpc` must be \"2.0\"."));
    }
    let Some(method) = written.method else {
        let is_response = written.result.is_some() != written.error.is_some();
        return if is_response { Ok(Message::Response) } else { Err(refused("`method` is missing.")) };
    };
    let Some(method) = text(method) else { return Err(refused("`method` must be a string.")) };
    let params = written.params;
    if params.is_some_and(|params| !params.get().starts_with('{')) {
        let wrong = Refusal::new(Code::Params, "`params` must be an object.");
        return Err((wrong, id.flatten()));
    }
    match id {
        None => Ok(Message::Notification { method, params }),
        Some(Some(id)) => Ok(Message::Request { id, method, params }),
        Some(None) => Err(refused("`id` must be a string or a whole number, of at most 128 bytes.")),
    }
}

/// A JSON string, borrowed where nothing in it is escaped.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// Kept while a call is under way, and written again in each notification of it.
pub const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &str) -> (i32, Option<&str>) {
        let (refusal, id) = read(body.as_bytes()).expect_err("it is no message");
        (refusal.code.number(), id.map(Id::as_json))
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_code_of_the_specification() {
        for (body, told) in [
            ("", (-32700, None)),
            ("{", (-32700, None)),
            ("{]", (-32700, None)),
            ("7", (-32600, None)),
            ("null", (-32600, None)),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, (-32600, None)),
            (r#" []"#, (-32600, None)),
            (r#"{"jsonrpc":"2.0","id":1}"#, (-32600, Some("1"))),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, (-32600, Some("1"))),
            (r#"{"id":"a","method":"ping"}"#, (-32600, Some("\"a\""))),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, (-32600, None)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, (-32600, None)),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, (-32600, None)),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, (-32600, None)),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, (-32600, Some("1"))),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#, (-32602, Some("1"))),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, (-32600, Some("1"))),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"} 2"#, (-32700, None)),
        ] {
            assert_eq!(refused(body), told, "{body}");
        }
    }

    #[test]
    fn an_id_may_be_as_long_as_the_limit_and_no_longer() {
        let body = |chars: usize| format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(chars));
        assert!(matches!(read(body(ID_BYTES_MAX - 2).as_bytes()), Ok(Message::Request { .. })));
        assert_eq!(refused(&body(ID_BYTES_MAX - 1)), (-32600, None));
    }

    #[test]
    fn requests_notifications_and_responses_are_told_apart() {
        let read = |body: &'static str| read(body.as_bytes()).expect("it is a message");
        let Message::Request { id, method, params } =
            read(r#"{"params":{"a":1},"method":"to\u006fls/list","id":-7,"jsonrpc":"2.0","more":[]}"#)
        else {
            panic!("it is a request")
        };
        assert_eq!(
            (id.as_json(), &*method, params.map(RawValue::get)),
            ("-7", "tools/list", Some(r#"{"a":1}"#))
        );
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
            Message::Notification { params: None, .. }
        ));
        for body in [r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","id":1,"error":{}}"#] {
            assert!(matches!(read(body), Message::Response));
        }
    }

    proptest! {
        #[test]
        fn any_text_as_id_and_method_comes_out_as_it_went_in(id in ".{0,20}", method in ".{0,20}") {
            let body = serde_json::json!({"jsonrpc": "2.0", "id": id, "method": method}).to_string();
            if serde_json::to_string(&id).expect("a string is JSON").len() <= ID_BYTES_MAX {
                match read(body.as_bytes()) {
                    Ok(Message::Request { id: read_id, method: read_method, params: None }) => {
                        prop_assert_eq!(serde_json::from_str::<String>(read_id.as_json()).unwrap(), id);
                        prop_assert_eq!(read_method, method);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
