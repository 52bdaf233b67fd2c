//! An adapter that answers with the words of the last message: to try things without a model.

use proto_core::session::Refusal;
use serde_json::Value;

use super::{Reply, Request, Usage};

/// Answers one request, a word each piece.
///
/// # Errors
/// None; the shape is that of every handler.
pub async fn echo(request: Request, reply: Reply) -> Result<Usage, Refusal> {
    let text = words(&request.body);
    let mut tokens_out = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        if reply.text(word).await.is_err() {
            break;
        }
        tokens_out += 1;
    }
    Ok(Usage { tokens_in: tokens_out, tokens_out })
}

/// What the last message says, where it says it in text.
fn words(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_message_counts_whole_or_in_parts() {
        let said = |content: Value| {
            let first = json!({"role": "system", "content": "no"});
            words(&json!({"messages": [first, {"role": "user", "content": content}]}))
        };
        assert_eq!(said(json!("a b")), "a b");
        assert_eq!(said(json!([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}])), "a b");
        assert_eq!(said(Value::Null), "");
        assert_eq!(words(&json!({})), "");
    }
}
