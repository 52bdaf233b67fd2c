//! What a request asks for: its method and the parameters that count here. Others are passed over, as the
//! specification wants it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Revision;
use super::rpc::{Code, Id, Refusal, text};
use crate::trace::Context;

/// A request or notification, understood.
#[derive(Debug, Clone)]
pub enum Asked<'m> {
    /// The revision it wants, as it was written.
    Initialize {
        revision: Cow<'m, str>,
    },
    Discover,
    Ping,
    ListTools {
        cursor: Option<Cow<'m, str>>,
    },
    CallTool(ToolCall<'m>),
    /// A stream of changes; of tools, or of nothing that there is here.
    Listen {
        tools: bool,
    },
    /// A call of before is wanted no more.
    Cancelled {
        request: Id<'m>,
    },
    /// A notification that needs nothing done.
    Noted,
}

/// `tools/call`.
#[derive(Debug, Clone)]
pub struct ToolCall<'m> {
    pub name: Cow<'m, str>,
    /// An object, where there is one.
    pub arguments: Option<&'m RawValue>,
    /// Wants to hear how it goes on, under this name.
    pub progress: Option<Id<'m>>,
    /// The span it belongs to.
    pub parent: Option<Context>,
}

/// What `_meta` of a request says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Meta<'m> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub revision: Option<Cow<'m, str>>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/clientCapabilities")]
    pub capabilities: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "progressToken")]
    progress: Option<&'m RawValue>,
    #[serde(borrow, default)]
    traceparent: Option<&'m RawValue>,
}

impl<'m> Meta<'m> {
    /// Of a request's parameters; empty where they have none.
    ///
    /// # Errors
    /// `_meta` is no object, or a field of it is not what it should be.
    pub fn of(params: Option<&'m RawValue>) -> Result<Meta<'m>, Refusal> {
        #[derive(Deserialize)]
        struct Params<'m> {
            #[serde(borrow, default, rename = "_meta")]
            meta: Option<Meta<'m>>,
        }
        let Some(params) = params else { return Ok(Meta::default()) };
        let params: Params<'_> = serde_json::from_str(params.get()).map_err(|_| {
            invalid("`_meta` must be an object whose protocolVersion is a string, if it stands there.")
        })?;
        Ok(params.meta.unwrap_or_default())
    }

    /// # Errors
    /// It is neither a string nor a whole number.
    fn progress(&self) -> Result<Option<Id<'m>>, Refusal> {
        let wrong = "`_meta.progressToken` must be a string or a whole number, of at most 128 bytes.";
        self.progress.map(|token| Id::of(token).ok_or(invalid(wrong))).transpose()
    }
}

impl<'m> Asked<'m> {
    /// Reads a request of `revision`.
    ///
    /// # Errors
    /// There is no such method in that revision, or its parameters are not what they should be.
    pub fn read(
        revision: Revision,
        method: &str,
        params: Option<&'m RawValue>,
        meta: &Meta<'m>,
    ) -> Result<Asked<'m>, Refusal> {
        match (method, revision.is_stateless()) {
            ("tools/list", _) => list_tools(params),
            ("tools/call", _) => call_tool(params, meta),
            ("initialize", false) => initialize(params),
            ("ping", false) => Ok(Asked::Ping),
            ("server/discover", true) => Ok(Asked::Discover),
            ("subscriptions/listen", true) => listen(params),
            _ => Err(Refusal::new(
                Code::Method,
                "There is no such method here; there are tools/list and tools/call.",
            )),
        }
    }

    /// Reads a notification: one that is not understood is as good as none.
    pub fn noted(method: &str, params: Option<&'m RawValue>) -> Asked<'m> {
        #[derive(Deserialize)]
        struct Params<'m> {
            #[serde(borrow, rename = "requestId")]
            request: &'m RawValue,
        }
        let request = (method == "notifications/cancelled").then_some(params).flatten();
        let request = request.and_then(|params| serde_json::from_str::<Params<'_>>(params.get()).ok());
        match request.and_then(|params| Id::of(params.request)) {
            Some(request) => Asked::Cancelled { request },
            None => Asked::Noted,
        }
    }
}

fn list_tools(params: Option<&RawValue>) -> Result<Asked<'_>, Refusal> {
    #[derive(Deserialize)]
    struct Params<'m> {
        #[serde(borrow, default)]
        cursor: Option<Cow<'m, str>>,
    }
    let Some(params) = params else { return Ok(Asked::ListTools { cursor: None }) };
    let params: Params<'_> =
        serde_json::from_str(params.get()).map_err(|_| invalid("`cursor` must be a string."))?;
    Ok(Asked::ListTools { cursor: params.cursor })
}

fn call_tool<'m>(params: Option<&'m RawValue>, meta: &Meta<'m>) -> Result<Asked<'m>, Refusal> {
    #[derive(Deserialize)]
    struct Params<'m> {
        #[serde(borrow, default)]
        name: Option<&'m RawValue>,
        #[serde(borrow, default)]
        arguments: Option<&'m RawValue>,
    }
    let params: Params<'_> = params
        .and_then(|params| serde_json::from_str(params.get()).ok())
        .ok_or(invalid("`name` is missing: say which tool to call."))?;
    let name = params.name.and_then(text).ok_or(invalid("`name` must be a string: the name of a tool."))?;
    if params.arguments.is_some_and(|arguments| !arguments.get().starts_with('{')) {
        return Err(invalid("`arguments` must be an object."));
    }
    let progress = meta.progress()?;
    // Whoever says it wrong begins a trace, as with a header.
    let parent = meta.traceparent.and_then(|said| Context::of_json(said.get()));
    Ok(Asked::CallTool(ToolCall { name, arguments: params.arguments, progress, parent }))
}

fn initialize(params: Option<&RawValue>) -> Result<Asked<'_>, Refusal> {
    #[derive(Deserialize)]
    struct Params<'m> {
        #[serde(borrow, rename = "protocolVersion")]
        revision: Cow<'m, str>,
    }
    let params: Params<'_> = params
        .and_then(|params| serde_json::from_str(params.get()).ok())
        .ok_or(invalid("`protocolVersion` must be a string."))?;
    Ok(Asked::Initialize { revision: params.revision })
}

fn listen(params: Option<&RawValue>) -> Result<Asked<'_>, Refusal> {
    #[derive(Deserialize)]
    struct Params {
        notifications: Filter,
    }
    #[derive(Deserialize)]
    struct Filter {
        #[serde(default, rename = "toolsListChanged")]
        tools: Option<bool>,
    }
    let params: Params = params
        .and_then(|params| serde_json::from_str(params.get()).ok())
        .ok_or(invalid("`notifications` must be an object that says which are wanted."))?;
    Ok(Asked::Listen { tools: params.notifications.tools == Some(true) })
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(Code::Params, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Revision = Revision::V2025June;
    const NEW: Revision = Revision::V2026July;

    /// In a word, or the code.
    fn read(revision: Revision, method: &str, params: &str) -> String {
        let params: Option<&RawValue> =
            (!params.is_empty()).then(|| serde_json::from_str(params).expect("it is JSON"));
        let asked = Meta::of(params).and_then(|meta| Asked::read(revision, method, params, &meta));
        match asked {
            Ok(Asked::CallTool(call)) => {
                let arguments = call.arguments.map_or("-", RawValue::get);
                format!("{} {arguments} {}", call.name, call.progress.map_or("-", Id::as_json))
            }
            Ok(Asked::Initialize { revision }) => revision.into(),
            Ok(Asked::ListTools { cursor }) => format!("{cursor:?}"),
            Ok(Asked::Listen { tools }) => format!("{tools}"),
            Ok(other) => format!("{other:?}"),
            Err(refusal) => refusal.code.number().to_string(),
        }
    }

    #[test]
    fn each_method_reads_its_parameters_in_the_revisions_that_have_it() {
        let call = r#"{"name":"a\u002eb","arguments":{"x":1},"_meta":{"progressToken":7},"task":{}}"#;
        for (revision, method, params, told) in [
            (OLD, "initialize", r#"{"protocolVersion":"2025-06-18","capabilities":{}}"#, "2025-06-18"),
            (OLD, "initialize", "{}", "-32602"),
            (OLD, "initialize", "", "-32602"),
            (NEW, "initialize", r#"{"protocolVersion":"2025-06-18"}"#, "-32601"),
            (OLD, "ping", "", "Ping"),
            (NEW, "ping", "", "-32601"),
            (OLD, "server/discover", "", "-32601"),
            (NEW, "server/discover", "", "Discover"),
            (OLD, "tools/list", "", "None"),
            (NEW, "tools/list", r#"{"cursor":"5"}"#, r#"Some("5")"#),
            (OLD, "tools/list", r#"{"cursor":5}"#, "-32602"),
            (OLD, "tools/call", call, r#"a.b {"x":1} 7"#),
            (NEW, "tools/call", r#"{"name":"a"}"#, "a - -"),
            (OLD, "tools/call", r#"{"name":7}"#, "-32602"),
            (OLD, "tools/call", r#"{"name":"a","arguments":[]}"#, "-32602"),
            (OLD, "tools/call", r#"{"name":"a","_meta":{"progressToken":1.5}}"#, "-32602"),
            (OLD, "tools/call", r#"{"name":"a","_meta":7}"#, "-32602"),
            (OLD, "tools/call", "", "-32602"),
            (NEW, "subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#, "true"),
            (NEW, "subscriptions/listen", r#"{"notifications":{"promptsListChanged":true}}"#, "false"),
            (NEW, "subscriptions/listen", "{}", "-32602"),
            (OLD, "subscriptions/listen", r#"{"notifications":{}}"#, "-32601"),
            (OLD, "resources/list", "", "-32601"),
            (OLD, "notifications/cancelled", "", "-32601"),
        ] {
            assert_eq!(read(revision, method, params), told, "{method} {params}");
        }
    }

    #[test]
    fn what_is_wanted_no_more_is_named_and_other_notifications_need_nothing() {
        let noted = |method, params: &'static str| {
            let params = (!params.is_empty()).then(|| serde_json::from_str(params).expect("it is JSON"));
            Asked::noted(method, params)
        };
        let cancelled = noted("notifications/cancelled", r#"{"requestId":"a","reason":"enough"}"#);
        assert!(matches!(cancelled, Asked::Cancelled { request } if request.as_json() == "\"a\""));
        for (method, params) in [
            ("notifications/cancelled", ""),
            ("notifications/cancelled", r#"{"requestId":{}}"#),
            ("notifications/initialized", ""),
            ("anything", r#"{"requestId":1}"#),
        ] {
            assert!(matches!(noted(method, params), Asked::Noted), "{method} {params}");
        }
    }
}
