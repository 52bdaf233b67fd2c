//! Requests, from either side's words to the other's. What is not known on the other side is left out;
//! what would change the answer is refused with the field it stands in.

mod from_chat;
mod to_chat;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::from_chat::{MAX_TOKENS_DEFAULT, from_chat};
pub use self::to_chat::to_chat;
use super::write::inside;
use crate::fault::{Fault, Kind};

/// A part of a content that is a list, in either dialect's words.
#[derive(Deserialize)]
struct Part<'p> {
    #[serde(rename = "type")]
    what: String,
    #[serde(borrow)]
    text: Option<&'p RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'p RawValue>,
    // OpenAI's.
    #[serde(borrow)]
    refusal: Option<&'p RawValue>,
    image_url: Option<ImageUrl>,
    #[serde(borrow)]
    file: Option<File<'p>>,
    // Anthropic's.
    #[serde(borrow)]
    source: Option<Source<'p>>,
    #[serde(borrow)]
    title: Option<&'p RawValue>,
    #[serde(borrow)]
    id: Option<&'p RawValue>,
    #[serde(borrow)]
    name: Option<&'p RawValue>,
    #[serde(borrow)]
    input: Option<&'p RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<&'p RawValue>,
    #[serde(borrow)]
    content: Option<&'p RawValue>,
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

#[derive(Deserialize)]
struct File<'p> {
    file_data: Option<String>,
    #[serde(borrow)]
    filename: Option<&'p RawValue>,
}

#[derive(Deserialize)]
struct Source<'p> {
    #[serde(rename = "type")]
    what: String,
    #[serde(borrow)]
    media_type: Option<&'p RawValue>,
    #[serde(borrow)]
    data: Option<&'p RawValue>,
    #[serde(borrow)]
    url: Option<&'p RawValue>,
}

/// A content: text, quotes included, or a list.
enum Content<'c> {
    Nothing,
    Text(&'c RawValue),
    Parts(Vec<Part<'c>>),
}

impl<'c> Content<'c> {
    fn read(raw: Option<&'c RawValue>) -> Result<Content<'c>, Fault> {
        match raw {
            None => Ok(Content::Nothing),
            Some(raw) if inside(raw) == Some(b"") => Ok(Content::Nothing),
            Some(raw) if inside(raw).is_some() => Ok(Content::Text(raw)),
            Some(raw) => serde_json::from_str(raw.get()).map(Content::Parts).map_err(|_| WRONG_CONTENT),
        }
    }
}

/// The arguments of a call, a string that holds an object, as that object.
pub(super) fn input(arguments: &RawValue) -> Result<String, Fault> {
    let text: String = serde_json::from_str(arguments.get()).map_err(|_| WRONG_ARGUMENTS)?;
    if text.trim().is_empty() {
        return Ok("{}".into());
    }
    let object: &RawValue = serde_json::from_str(&text).map_err(|_| WRONG_ARGUMENTS)?;
    match object.get().starts_with('{') {
        true => Ok(object.get().into()),
        false => Err(WRONG_ARGUMENTS),
    }
}

/// A text that is there and not empty, as it stands between its quotes.
fn some(text: Option<&RawValue>) -> Option<&RawValue> {
    text.filter(|text| inside(text).is_some_and(|text| !text.is_empty()))
}

const fn wrong(field: &'static str, expected: &'static str) -> Fault {
    Fault::client(Kind::InvalidField(field, expected))
}

const WRONG_CONTENT: Fault = wrong("messages", "messages whose content is text or a list of parts");
const WRONG_ARGUMENTS: Fault = wrong("messages", "messages whose tool calls have a JSON object as arguments");
const WRONG_TOOLS: Fault = wrong("tools", "tools of the caller's own, each with a name and a schema");
