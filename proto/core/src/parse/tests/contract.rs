//! The operator resources of the contract, word for word: what they mean and how they are written back.

use std::time::Duration;

use super::{mistakes, read};
use crate::model::{
    Adapter, AdapterKind, Auth, Budget, Candidate, Concurrency, Endpoint, Fallback, Grade, KeyHash, Limits,
    Match, Model, ModelStatus, Name, Price, Qos, Resource, Retry, Route, SecretRef, Strategy, Tenant,
    Timeout, TlsFiles, Window,
};
use crate::parse::{resource_json, set, to_yaml};
use crate::units::{Permille, Picodollars, TokenCount};

const CONTRACT: &str = include_str!("contract.yaml");

#[test]
fn the_contracts_adapter_means_what_it_says() {
    let parsed = read(CONTRACT).unwrap();
    let model = Model {
        name: Name::model("llama3.1-8b").unwrap(),
        upstream_name: Name::model("llama3.1-8b").unwrap(),
        context_tokens: Some(TokenCount(131_072)),
        price: Price {
            input: Picodollars(150_000),
            output: Picodollars(600_000),
            cached_input: Picodollars(75_000),
            cache_write: Picodollars(150_000),
            reasoning: Picodollars(600_000),
        },
        quality: Permille(710),
        latency_p95_ms: Some(350),
        status: ModelStatus::Active,
        safety_grade: Grade::A,
    };
    let adapter = Adapter {
        name: Name::resource("local-ollama").unwrap(),
        kind: AdapterKind::OpenAi {
            endpoint: Endpoint::parse("https://127.0.0.1:11434/v1").unwrap(),
            auth: Some(Auth::Bearer(SecretRef::Env("OPENAI_API_KEY".into()))),
            tls: Some(TlsFiles {
                ca: Some("ca.pem".into()),
                client: Some(("client.pem".into(), "client.key".into())),
            }),
        },
        limits: Limits {
            max_parallel: 64,
            max_tokens_in_flight: Some(TokenCount(200_000)),
            max_queued: 1024,
        },
        concurrency: Concurrency::Aimd,
        models: vec![model],
    };
    assert_eq!(parsed.documents[0].resource, Resource::Adapter(adapter));
}

#[test]
fn the_contracts_route_and_tenant_mean_what_they_say() {
    let parsed = read(CONTRACT).unwrap();
    let route = Route {
        name: Name::resource("code-review").unwrap(),
        matches: Match { model: Some("auto".into()), task_type: Some("code_review".into()), tenant: None },
        candidates: vec![Candidate {
            adapter: Name::resource("local-ollama").unwrap(),
            model: Name::model("llama3.1-8b").unwrap(),
            weight: 1,
        }],
        strategy: Strategy::Thompson,
        fallback: Fallback::OnError,
        retry: Retry { attempts: 2, budget: Permille(200) },
        timeout: Timeout {
            first_token: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            total: Duration::from_secs(120),
        },
    };
    assert_eq!(parsed.documents[1].resource, Resource::Route(route));
    let tenant = Tenant {
        name: Name::resource("acme").unwrap(),
        weight: 2,
        qos: Qos::Gold,
        keys: vec![KeyHash([0xab; 32])],
        identities: Vec::new(),
        window: Some(Window {
            max_parallel: Some(64),
            max_tokens: Some(TokenCount(2_000_000)),
            max_usd_micros: Some(50_000_000),
        }),
        budget: Some(Budget {
            usd_micros_per_day: Some(100_000_000),
            tokens_per_minute: Some(TokenCount(500_000)),
        }),
        preempt_streams: false,
    };
    assert_eq!(parsed.documents[2].resource, Resource::Tenant(tenant));
    assert!(set(&parsed.documents).is_ok());
}

#[test]
fn what_has_no_effect_yet_is_a_warning_at_its_place() {
    let warnings: Vec<String> = read(CONTRACT).unwrap().warnings.iter().map(ToString::to_string).collect();
    let expected = ["f:24:13: spec.strategy: is drawn by weight until a learner's weights arrive"];
    assert_eq!(warnings, expected);
}

#[test]
fn canonical_json_and_yaml_read_back_as_the_same_resource() {
    for document in read(CONTRACT).unwrap().documents {
        let again = resource_json(document.json.as_bytes()).unwrap();
        assert_eq!((&again.resource, &again.json), (&document.resource, &document.json));
        let yaml = to_yaml(&document.json);
        let again = read(&yaml).unwrap().documents.remove(0);
        assert_eq!((again.resource, again.json), (document.resource, document.json), "{yaml}");
    }
}

#[test]
fn canonical_json_sorts_names_and_drops_blanks_and_comments() {
    let document = read("spec: {}  # none\nname: public\nkind: Tenant").unwrap().documents.remove(0);
    assert_eq!(document.json, r#"{"kind":"Tenant","name":"public","spec":{}}"#);
    assert_eq!(to_yaml(&document.json), "kind: Tenant\nname: public\nspec: {}\n");
}

#[test]
fn every_mistake_of_a_document_is_told_at_once_with_place_path_value_and_range() {
    let found = mistakes(
        "kind: Route\nname: Wrong\nspec:\n  match: { modle: x }\n  candidates: []\n  \
         retry: { attempts: 9, budget_permille: 1200 }\n  strategy: thomson\n",
    );
    let expected = [
        "f:2:7: name: \"Wrong\": a name is made of a-z, 0-9, '-', '_' and '.', and starts with a letter or \
         digit",
        "f:4:12: spec.match.modle: there is no such field; did you mean model? There are task_type, model, \
         tenant",
        "f:5:15: spec.candidates: has 0 elements; 1 to 16 are allowed",
        "f:6:22: spec.retry.attempts: 9 is above 8; 1 to 8 is allowed",
        "f:6:42: spec.retry.budget_permille: 1200 is above 1000; 0 to 1000 is allowed",
        "f:7:13: spec.strategy: \"thomson\" is not one of weighted, cheapest_acceptable, ucb, thompson; \
         did you mean thompson?",
    ];
    assert_eq!(found, expected);
}
