//! Adapters that the environment names: `ADAPTER_ENDPOINTS`, a JSON list of gRPC addresses. Each becomes an
//! Adapter document, read by the parser that reads all of them.

use proto_core::model::Endpoint;
use proto_core::parse::{Document, Source, documents};
use serde_json::json;

/// The adapters `list` names, each called after its host and offering one model of that name.
pub fn named(list: &str) -> Result<Vec<Document>, String> {
    let urls: Vec<String> = serde_json::from_str(list)
        .map_err(|_| "is no JSON list of URLs, such as [\"http://adapter:7070\"]".to_owned())?;
    if urls.len() > ENDPOINTS_MAX {
        return Err(format!("names {} adapters; at most {ENDPOINTS_MAX} are taken", urls.len()));
    }
    let mut names: Vec<String> = Vec::new();
    let mut written = String::new();
    for url in &urls {
        // What is wrong with a URL is said below, where it is read as part of a document.
        let (host, port) = Endpoint::parse(url)
            .map_or_else(|_| ("adapter".into(), 0), |at| (at.host.to_ascii_lowercase(), at.port));
        let host = host.replace(|one: char| !one.is_ascii_alphanumeric() && !"-_.".contains(one), "-");
        let host = host.trim_start_matches(['-', '_', '.']).to_owned();
        let name = if names.contains(&host) { format!("{host}-{port}") } else { host };
        let spec = json!({ "kind": "grpc", "endpoint": url, "models": [{ "name": name }] });
        let document = json!({ "kind": "Adapter", "name": name, "spec": spec });
        written.push_str(&format!("--- {document}\n"));
        names.push(name);
    }
    let source = Source { file: "ADAPTER_ENDPOINTS", content: written.as_bytes() };
    let parsed = documents(&[source]).map_err(|mistakes| {
        let told: Vec<String> = mistakes.into_iter().map(|mistake| mistake.what).collect();
        format!("does not name adapters: {}", told.join("; "))
    });
    parsed.map(|parsed| parsed.documents)
}

/// More adapters than this are declared in documents, where they can be told apart.
const ENDPOINTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proto_core::model::{AdapterKind, Resource};

    use super::*;

    #[test]
    fn each_address_is_an_adapter_called_after_its_host() {
        let list =
            r#"["http://persona_adapter:7070", "http://ollama_adapter:7070", "http://ollama_adapter:7071"]"#;
        let found = named(list).unwrap();
        let names: Vec<_> = found.iter().map(|document| document.name.as_str()).collect();
        assert_eq!(names, ["persona_adapter", "ollama_adapter", "ollama_adapter-7071"]);
        let Resource::Adapter(adapter) = &found[0].resource else { panic!("an adapter") };
        let AdapterKind::Grpc { endpoint, .. } = &adapter.kind else { panic!("a gRPC one") };
        assert_eq!(
            (endpoint.authority().as_str(), adapter.models[0].name.as_str()),
            ("persona_adapter:7070", "persona_adapter")
        );
        assert_eq!(named("[]").unwrap().len(), 0);
        assert_eq!(named(r#"["http://[::1]:7070"]"#).unwrap()[0].name.as_str(), "1");
    }

    #[test]
    fn what_is_no_list_of_addresses_is_told() {
        assert!(named("http://a:1").unwrap_err().starts_with("is no JSON list of URLs"));
        assert!(named(r#"["a:1"]"#).unwrap_err().contains("an endpoint starts with"));
        let same = named(r#"["http://a:1", "http://a:1", "http://a:1"]"#).unwrap_err();
        assert!(same.contains("declared twice"), "{same}");
        let most = |count: usize| {
            let urls: Vec<_> = (0..count).map(|at| format!("\"http://h{at}:1\"")).collect();
            named(&format!("[{}]", urls.join(",")))
        };
        assert_eq!(most(64).unwrap().len(), 64);
        assert!(most(65).is_err());
    }
}
