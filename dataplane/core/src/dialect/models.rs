//! `GET /v1/models` in OpenAI's shape: what can be asked for, and whose it is.

use super::json::quote;

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'l> {
    /// What a request says as its `model`.
    pub id: &'l str,
    /// The adapter that offers it, or who made the route.
    pub owned_by: &'l str,
}

/// Appends `{"object":"list","data":[…]}`.
pub fn write_list<'l>(models: impl IntoIterator<Item = Listed<'l>>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (at, model) in models.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_one(model, out);
    }
    out.extend_from_slice(b"]}");
}

/// Appends one model, as `GET /v1/models/{id}` answers. `created` is 0: nobody knows when a model was made,
/// and official clients want a number there.
pub fn write_one(model: Listed<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"id":"#);
    quote(model.id, out);
    out.extend_from_slice(br#","object":"model","created":0,"owned_by":"#);
    quote(model.owned_by, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn list(models: &[Listed<'_>]) -> Value {
        let mut out = Vec::new();
        write_list(models.iter().copied(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_list_has_openais_shape_also_where_it_is_empty() {
        assert_eq!(list(&[]), json!({"object": "list", "data": []}));
        let models = [Listed { id: "a\"b", owned_by: "x" }, Listed { id: "x/c", owned_by: "x" }];
        let one = |id| json!({"id": id, "object": "model", "created": 0, "owned_by": "x"});
        assert_eq!(list(&models), json!({"object": "list", "data": [one("a\"b"), one("x/c")]}));
    }
}
