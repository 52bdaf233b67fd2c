//! What people read of an outcome: changes as kubectl words them, mistakes with their places.

use proto_core::parse;
use proto_core::wire::atp::admin::v1::change::Verb;
use proto_core::wire::atp::admin::v1::{Change, Mistake, Resource};
use serde_json::Value;

/// `adapter/local configured`
pub fn change(change: &Change, dry_run: bool) -> String {
    let verb = match change.verb() {
        Verb::Created => "created",
        Verb::Configured => "configured",
        Verb::Unchanged => "unchanged",
        Verb::Deleted => "deleted",
        Verb::Unspecified => "changed in a way this program does not know",
    };
    let suffix = if dry_run { " (dry run)" } else { "" };
    format!("{}/{} {verb}{suffix}", change.kind.to_ascii_lowercase(), change.name)
}

/// `FILE:LINE:COLUMN: PATH: WHAT`, as far as each is known.
pub fn mistake(mistake: &Mistake) -> String {
    let Mistake { file, line, column, path, what } = mistake;
    let place = match (file.is_empty(), *line) {
        (true, _) => String::new(),
        (false, 0) => format!("{file}: "),
        (false, _) => format!("{file}:{line}:{column}: "),
    };
    let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
    format!("{place}{path}{what}")
}

/// `1 mistake`, `2 mistakes`
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Resources as documents that can be applied again.
pub fn yaml(resources: &[Resource]) -> String {
    let documents: Vec<String> =
        resources.iter().map(|resource| parse::to_yaml(&json_of(resource))).collect();
    documents.join("---\n")
}

/// One resource as indented JSON.
pub fn json(resource: &Resource) -> String {
    pretty(&value(resource))
}

/// Resources as kubectl lists them.
pub fn json_list(resources: &[Resource]) -> String {
    let items: Vec<Value> = resources.iter().map(value).collect();
    pretty(&serde_json::json!({ "kind": "List", "items": items }))
}

/// Indented, ending with a line break.
pub fn pretty(value: &Value) -> String {
    // Values of text keys always print; a number that is none was never parsed.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn value(resource: &Resource) -> Value {
    serde_json::from_slice(&resource.json).unwrap_or_default()
}

fn json_of(resource: &Resource) -> String {
    String::from_utf8_lossy(&resource.json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(verb: Verb) -> Change {
        Change { verb: verb.into(), kind: "Adapter".into(), name: "local".into() }
    }

    #[test]
    fn changes_read_as_kubectl_words_them() {
        assert_eq!(change(&changed(Verb::Created), false), "adapter/local created");
        assert_eq!(change(&changed(Verb::Configured), true), "adapter/local configured (dry run)");
        assert_eq!(change(&changed(Verb::Unchanged), false), "adapter/local unchanged");
        assert_eq!(change(&changed(Verb::Deleted), false), "adapter/local deleted");
    }

    #[test]
    fn a_mistake_says_as_much_of_its_place_as_is_known() {
        let full = Mistake {
            file: "r.yaml".into(),
            line: 3,
            column: 7,
            path: "spec.kind".into(),
            what: "no".into(),
        };
        assert_eq!(mistake(&full), "r.yaml:3:7: spec.kind: no");
        assert_eq!(mistake(&Mistake { line: 0, ..full.clone() }), "r.yaml: spec.kind: no");
        assert_eq!(mistake(&Mistake { file: String::new(), path: String::new(), ..full }), "no");
    }

    #[test]
    fn resources_print_as_documents_and_as_a_list() {
        let resource = |name: &str| Resource {
            json: format!(r#"{{"kind":"Adapter","name":"{name}","spec":{{"kind":"echo"}}}}"#)
                .into_bytes()
                .into(),
            ..Resource::default()
        };
        let two = [resource("a"), resource("b")];
        assert_eq!(
            yaml(&two),
            "kind: Adapter\nname: a\nspec:\n  kind: echo\n---\nkind: Adapter\nname: b\nspec:\n  kind: echo\n"
        );
        let list: Value = serde_json::from_str(&json_list(&two)).unwrap();
        assert_eq!((list["kind"].as_str(), list["items"][1]["name"].as_str()), (Some("List"), Some("b")));
        assert!(json(&two[0]).starts_with("{\n  \"kind\": \"Adapter\""));
    }
}
