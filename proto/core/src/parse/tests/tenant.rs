//! The spec of a Tenant, mistake by mistake and edge by edge.

use super::{each_has_its_one_mistake, mistakes, read, resource};
use crate::model::{Qos, Resource, Tenant};

fn tenant(rest: &str) -> Tenant {
    let hash = "0f".repeat(32);
    match resource("Tenant", &format!("{{ keys: [{{ sha256: '{hash}' }}], {rest} }}")) {
        Resource::Tenant(tenant) => tenant,
        other => panic!("a tenant, not {other:?}"),
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let tenant = tenant("");
    assert_eq!((tenant.weight, tenant.qos), (1, Qos::Silver));
    assert_eq!((tenant.window, tenant.budget), (None, None));
}

#[test]
fn keys_are_hashes_and_needed_by_all_but_public() {
    let short = "a".repeat(63);
    each_has_its_one_mistake(
        "Tenant",
        &[
            ("▲{}", "spec.keys: is missing"),
            ("{ keys: ▲[] }", "spec.keys: has 0 elements; 1 to 10000 are allowed"),
            ("{ keys: [▲{}] }", "spec.keys[0].sha256: is missing"),
            (
                &format!("{{ keys: [{{ sha256: ▲'{short}' }}] }}"),
                "spec.keys[0].sha256: a key hash is 64 hexadecimal digits: SHA-256 of the key",
            ),
        ],
    );
    let public = |keys: &str| format!("kind: Tenant\nname: public\nspec: {{ keys: {keys} }}\n");
    assert!(read(&public("[]")).is_ok());
    let hash = "0f".repeat(32);
    let what = "tenant public takes callers without a key; remove the keys or rename the tenant";
    assert_eq!(
        mistakes(&public(&format!("[{{ sha256: '{hash}' }}]"))),
        [format!("f:3:15: spec.keys: {what}")]
    );
}

#[test]
fn identities_stand_in_for_keys_and_name_one_tenant() {
    let read_one = |list: &str| match resource("Tenant", &format!("{{ identities: {list} }}")) {
        Resource::Tenant(tenant) => tenant,
        other => panic!("a tenant, not {other:?}"),
    };
    let tenant = read_one("['spiffe://atp.local/adapter/gpu', 'dns:A.example']");
    let shown: Vec<String> = tenant.identities.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["spiffe://atp.local/adapter/gpu", "dns:a.example"]);
    assert!(tenant.keys.is_empty());
    each_has_its_one_mistake(
        "Tenant",
        &[
            ("▲{ identities: [] }", "spec.keys: is missing"),
            (
                "{ identities: [▲'a.example'] }",
                "spec.identities[0]: \"a.example\": an identity is written spiffe://DOMAIN/ROLE/NAME, with \
                 one of the roles operator, dataplane, adapter, tenant, or dns:NAME",
            ),
        ],
    );
    let public = "kind: Tenant\nname: public\nspec: { identities: ['dns:a.example'] }\n";
    assert!(mistakes(public)[0].contains("tenant public takes whoever has no name"));
}

#[test]
fn an_identity_that_another_tenant_has_or_is_refuses_the_set() {
    let set_of = |acme: &str, other: &str| {
        let text = format!(
            "kind: Tenant\nname: acme\nspec: {{ identities: {acme} }}\n---\n\
             kind: Tenant\nname: other\nspec: {{ identities: {other} }}\n"
        );
        let told = crate::parse::set(&read(&text).unwrap().documents).map(|_| ());
        told.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(set_of("['spiffe://d/tenant/acme']", "['spiffe://d/tenant/stranger']"), Ok(()));
    for (acme, other) in [
        ("['dns:a.example']", "['dns:a.example']"),
        ("['dns:b.example']", "['spiffe://d/tenant/acme']"),
        ("['dns:a.example', 'dns:a.example']", "['dns:b.example']"),
    ] {
        let told = set_of(acme, other).unwrap_err();
        assert!(told.contains("this is Tenant `acme` already"), "{told}");
    }
}

#[test]
fn numbers_hold_at_their_edges_and_refuse_one_past_them() {
    assert_eq!(tenant("weight: 1000, qos: gold").weight, 1000);
    let window = tenant("window: { max_usd_micros: 18446744073709 }").window.unwrap();
    assert_eq!((window.max_usd_micros, window.max_parallel), (Some(18_446_744_073_709), None));
    assert_eq!(tenant("budget: { usd_micros_per_day: 0 }").budget.unwrap().usd_micros_per_day, Some(0));
    let table = [
        ("weight: ▲0", "spec.weight: 0 is below 1; 1 to 1000 is allowed"),
        ("weight: ▲1001", "spec.weight: 1001 is above 1000; 1 to 1000 is allowed"),
        ("qos: ▲platinum", "spec.qos: \"platinum\" is not one of gold, silver, bronze"),
        ("window: { max_parallel: ▲0 }", "spec.window.max_parallel: 0 is below 1; 1 to 1000000 is allowed"),
        (
            "window: { max_usd_micros: ▲18446744073710 }",
            "spec.window.max_usd_micros: 18446744073710 is above 18446744073709; 1 to 18446744073709 is \
             allowed",
        ),
        (
            "window: { ▲max_usd: 5 }",
            "spec.window.max_usd: there is no such field; there are max_parallel, max_tokens, max_usd_micros",
        ),
        ("preempt_streams: ▲1", "spec.preempt_streams: 1 is a number, true or false is expected"),
        (
            "budget: { tokens_per_minute: ▲-1 }",
            "spec.budget.tokens_per_minute: -1 is below 0; 0 to 1000000000000 is allowed",
        ),
        (
            "budget: ▲5",
            "spec.budget: is a number, fields are expected: usd_micros_per_day, tokens_per_minute",
        ),
    ];
    let hash = "0f".repeat(32);
    for (rest, mistake) in table {
        let spec = format!("{{ {rest}, keys: [{{ sha256: '{hash}' }}] }}");
        each_has_its_one_mistake("Tenant", &[(&spec, mistake)]);
    }
}

#[test]
fn streams_are_preempted_only_where_the_tenant_says_so() {
    assert!(!tenant("qos: gold").preempt_streams);
    assert!(tenant("preempt_streams: true").preempt_streams);
}
