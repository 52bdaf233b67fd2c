//! Documents that must fit together, and the field to look at where they do not.

use super::read;
use crate::parse::{Document, Source, documents, set};

const ADAPTER: &str =
    "kind: Adapter\nname: a\nspec: { kind: echo, models: [{ name: m }, { name: hidden }] }\n";

fn all(content: &str) -> Vec<Document> {
    read(content).unwrap_or_else(|mistakes| panic!("{mistakes:?}")).documents
}

fn mistakes(content: &str) -> Vec<String> {
    set(&all(content)).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_reference_that_leads_nowhere_is_shown_at_its_field() {
    let content = format!(
        "{ADAPTER}---\nkind: Route\nname: r\nspec:\n  match: {{ tenant: acme }}\n  candidates:\n    \
         - {{ adapter: b, model: m }}\n    - adapter: a\n      model: n\n"
    );
    let expected = [
        "f:10:18: spec.candidates[0].adapter: there is no Adapter `b` (of Route r)",
        "f:12:14: spec.candidates[1].model: Adapter `a` has no model `n` (of Route r)",
        "f:8:20: spec.match.tenant: there is no Tenant `acme` (of Route r)",
    ];
    assert_eq!(mistakes(&content), expected);
}

#[test]
fn a_route_that_hides_a_model_and_a_key_of_two_tenants_are_shown_at_theirs() {
    let hash = "0f".repeat(32);
    let content = format!(
        "{ADAPTER}---\nkind: Route\nname: hidden\nspec: {{ candidates: [{{ adapter: a, model: m }}] }}\n---\n\
         kind: Tenant\nname: t\nspec: {{ keys: [{{ sha256: '{hash}' }}] }}\n---\n\
         kind: Tenant\nname: u\nspec: {{ keys: [{{ sha256: '{hash}' }}] }}\n"
    );
    let expected = [
        "f:6:7: name: hides the model of this name of Adapter `a`; rename the route (of Route hidden)",
        "f:15:16: spec.keys[0]: the same key belongs to Tenant `t`; a key names one tenant (of Tenant u)",
    ];
    assert_eq!(mistakes(&content), expected);
}

#[test]
fn two_of_a_kind_and_name_are_told_with_both_places() {
    let first = Source { file: "one.yaml", content: ADAPTER.as_bytes() };
    let again = format!("# again\n{ADAPTER}");
    let second = Source { file: "two.yaml", content: again.as_bytes() };
    let found = documents(&[first, second]).unwrap_err();
    let expected =
        "two.yaml:3:7: name: Adapter a is declared twice, first at one.yaml:2:7; remove or rename one";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    // The same where they were read apart.
    let apart = [documents(&[first]).unwrap().documents, documents(&[second]).unwrap().documents].concat();
    let found = set(&apart).unwrap_err();
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn an_adapter_and_a_tenant_may_share_a_name() {
    let content = format!("{ADAPTER}---\nkind: Tenant\nname: public\nspec: {{}}\n")
        .replace("name: a\n", "name: public\n");
    let set = set(&all(&content)).unwrap();
    assert_eq!((set.adapters().len(), set.tenants().len()), (1, 1));
}
