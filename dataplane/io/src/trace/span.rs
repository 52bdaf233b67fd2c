//! What happened between two moments. Names are the convention's where it has one, else those that existing
//! deployments look for; values never hold a prompt, an answer or a key.

use std::borrow::Cow;

use proto_core::units::Moment;

/// One span that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    /// 0: none.
    pub parent: u64,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub began: Moment,
    pub ended: Moment,
    pub attributes: Vec<(&'static str, Value)>,
    /// A fault's code; `None`: it went well.
    pub error: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Box<str>),
    Count(u64),
    Change(i64),
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}
