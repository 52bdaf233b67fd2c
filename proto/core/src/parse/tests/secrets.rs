//! Whatever an operator does with a secret, no message carries it.

use super::{document, each_has_its_one_mistake, mistakes, read};
use crate::model::{AdapterKind, Auth, Resource, SecretRef};

const SECRET: &str = "sk-proj-s3cr3tValue";

const NOT_SHOWN: &str = "is not a reference to a secret (not shown); \
    write ${NAME} for an environment variable or file:PATH for a file";

fn adapter(auth: &str) -> String {
    document(
        "Adapter",
        &format!("{{ kind: openai, endpoint: http://h, models: [{{ name: m }}], auth: {auth} }}"),
    )
}

#[test]
fn a_secret_in_the_wrong_place_is_a_mistake_that_never_shows_it() {
    let wrong = [
        "{ bearer: SECRET }",
        "{ bearer: \"SECRET\" }",
        "{ bearer: 'Bearer SECRET' }",
        "{ bearer: [SECRET] }",
        "{ bearer: { SECRET: 1 } }",
        "{ bearer:SECRET }",
        "{ bearer: \"${SECRET\" }",
        "{ bearer: \"$SECRET\" }",
        "{ header: x-api-key, value: SECRET }",
        "{ header: 'x-api-key: SECRET', value: '${K}' }",
        "{ header: [SECRET], value: '${K}' }",
        "{ token: SECRET }",
        "{ SECRET }",
        "{ SECRET: x }",
        "[SECRET]",
        "SECRET",
        "{ bearer: '${K}', value: SECRET }",
    ];
    for auth in wrong {
        let found = mistakes(&adapter(&auth.replace("SECRET", SECRET)));
        assert!(!found.is_empty(), "{auth} was taken");
        for mistake in found {
            assert!(!mistake.contains("s3cr3t"), "{auth}: {mistake}");
        }
    }
}

#[test]
fn a_numeric_secret_is_not_shown_either() {
    for digits in ["5918273645", &"7".repeat(80), "5.9182e3", ".5918"] {
        for auth in [format!("{{ bearer: {digits} }}"), format!("{{ header: x-key, value: {digits} }}")] {
            let found = mistakes(&adapter(&auth));
            assert!(!found.is_empty());
            assert!(
                found.iter().all(|mistake| !mistake.contains("5918") && !mistake.contains("777")),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_key_in_place_of_its_hash_is_not_shown() {
    for keys in [
        "[SECRET]",
        "SECRET",
        "[{ sha256: SECRET }]",
        "[{ sha256: [SECRET] }]",
        "[{ key: SECRET }]",
        "[{ SECRET }]",
        "[{ sha256:SECRET }]",
        "{ SECRET: 1 }",
    ] {
        let found = mistakes(&document("Tenant", &format!("{{ keys: {} }}", keys.replace("SECRET", SECRET))));
        assert!(!found.is_empty(), "{keys} was taken");
        assert!(found.iter().all(|mistake| !mistake.contains("s3cr3t")), "{keys}: {found:?}");
    }
}

#[test]
fn an_endpoint_that_carries_a_secret_is_not_shown() {
    for endpoint in ["https://user:SECRET@h/v1", "https://h/v1?key=SECRET", "https://h/v1#SECRET"] {
        let endpoint = endpoint.replace("SECRET", SECRET);
        let spec = format!("{{ kind: openai, endpoint: '{endpoint}', models: [{{ name: m }}] }}");
        let found = mistakes(&document("Adapter", &spec));
        let what = "an endpoint has no user info, query or fragment; keys go into `auth`";
        assert_eq!(found, [format!("f:3:33: spec.endpoint: {what}")]);
    }
}

#[test]
fn what_is_no_reference_says_how_to_write_one() {
    let table = [
        ("{ bearer: ▲abc }", "bearer"),
        ("{ bearer: ▲'${1A}' }", "bearer"),
        ("{ bearer: ▲'${}' }", "bearer"),
        ("{ bearer: ▲'${A B}' }", "bearer"),
        ("{ bearer: ▲'file:' }", "bearer"),
        ("{ header: x-key, value: ▲abc }", "value"),
    ];
    for (auth, field) in table {
        let spec = format!("{{ kind: openai, endpoint: 'http://h', models: [{{ name: m }}], auth: {auth} }}");
        each_has_its_one_mistake("Adapter", &[(&spec, &format!("spec.auth.{field}: {NOT_SHOWN}"))]);
    }
}

#[test]
fn references_to_the_environment_and_to_files_are_taken() {
    let table = [
        ("{ bearer: '${OPENAI_API_KEY}' }", Auth::Bearer(SecretRef::Env("OPENAI_API_KEY".into()))),
        ("{ bearer: 'file:/run/secrets/key' }", Auth::Bearer(SecretRef::File("/run/secrets/key".into()))),
        (
            "{ header: X-Api-Key, value: 'file:key' }",
            Auth::Header { name: "x-api-key".into(), value: SecretRef::File("key".into()) },
        ),
    ];
    for (auth, expected) in table {
        let parsed = read(&adapter(auth)).unwrap();
        let Resource::Adapter(adapter) = &parsed.documents[0].resource else { panic!("an adapter") };
        let AdapterKind::OpenAi { auth, .. } = &adapter.kind else { panic!("openai") };
        assert_eq!(*auth, Some(expected));
    }
}
