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

/// A chain of so many personas over a model.
fn chain(personas: usize) -> String {
    let persona = |at: usize| {
        let over = if at == 0 { ("a".into(), "m") } else { (format!("p{}", at - 1), "role") };
        let over = format!("{{ adapter: {}, model: {} }}", over.0, over.1);
        format!(
            "---\nkind: Adapter\nname: p{at}\nspec: {{ kind: persona, models: [{{ name: role }}], \
             persona: {{ system: s, over: {over} }} }}\n"
        )
    };
    ADAPTER.to_owned() + &(0..personas).map(persona).collect::<String>()
}

#[test]
fn personas_stand_over_models_and_never_over_themselves() {
    assert!(set(&all(&chain(8))).is_ok());
    let deep = "spec.persona.over.adapter: stands over itself, or over more than 8 personas; name a model";
    let found = mistakes(&chain(9));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains(deep) && found[0].ends_with("(of Adapter p8)"), "{found:?}");
    let circle = chain(2).replace("adapter: a, model: m", "adapter: p1, model: role");
    let found = mistakes(&circle);
    assert!(found.len() == 2 && found.iter().all(|mistake| mistake.contains(deep)), "{found:?}");
    let astray = chain(1).replace("adapter: a, model: m", "adapter: b, model: m");
    assert!(mistakes(&astray)[0].contains("spec.persona.over.adapter: there is no Adapter `b`"));
    let astray = chain(1).replace("adapter: a, model: m", "adapter: a, model: n");
    assert!(mistakes(&astray)[0].contains("spec.persona.over.model: Adapter `a` has no model `n`"));
}

#[test]
fn who_plays_a_persona_is_found_through_all_of_them() {
    let set = set(&all(&chain(3))).unwrap();
    let last = set.adapters().find(|adapter| adapter.name.as_str() == "p2").unwrap();
    let (adapter, model, roles) = set.played(last, &last.models[0]).unwrap();
    assert_eq!((adapter.name.as_str(), model.name.as_str(), roles.len()), ("a", "m", 3));
}
