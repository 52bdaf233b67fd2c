//! What an intent changes, what it may not, and what is stored of it.

use proto_core::parse::fields::MISTAKES_MAX;
use proto_core::parse::{Source, documents};
use proto_core::sync::Generation;

use super::*;
use crate::{compile, diff};

const ECHO: &str = "kind: Adapter\nname: echo\nspec: { kind: echo, models: [ { name: echo-1 } ] }\n";
const ECHO_SLOW: &str =
    "kind: Adapter\nname: echo\nspec: { kind: echo, models: [ { name: echo-1, latency_p95_ms: 90 } ] }\n";
const ROUTE: &str =
    "kind: Route\nname: chat\nspec:\n  candidates:\n    - { adapter: echo, model: echo-1, weight: 1 }\n";

fn read(texts: &[&str]) -> Vec<Document> {
    let sources: Vec<Source> =
        texts.iter().map(|text| Source { file: "wanted.yaml", content: text.as_bytes() }).collect();
    documents(&sources).expect("the documents are right").documents
}

fn applied(texts: &[&str]) -> Stored {
    plan(&Stored::default(), Intent::Apply(read(texts))).expect("they fit together").next
}

fn name(text: &str) -> Name {
    Name::resource(text).unwrap()
}

fn verbs(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(|change| format!("{} {:?}", change.name, change.verb())).collect()
}

fn told(refusal: Refusal) -> Vec<String> {
    match refusal {
        Refusal::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        Refusal::Missing(kind, name) => vec![format!("missing {kind} {name}")],
    }
}

#[test]
fn an_apply_creates_configures_and_leaves_alone_in_the_order_of_its_documents() {
    let stored = applied(&[ECHO]);
    let plan = plan(&stored, Intent::Apply(read(&[ROUTE, ECHO]))).unwrap();
    assert_eq!(verbs(&plan), ["chat Created", "echo Unchanged"]);
    let again = super::plan(&plan.next, Intent::Apply(read(&[ECHO_SLOW]))).unwrap();
    assert_eq!(verbs(&again), ["echo Configured"]);
    assert_eq!(again.next.entries().len(), 2, "what is not named stays");
}

#[test]
fn what_is_written_is_what_changed_and_nothing_else() {
    let stored = applied(&[ECHO, ROUTE]);
    let plan = plan(&stored, Intent::Replace(read(&[ECHO]))).unwrap();
    assert_eq!(verbs(&plan), ["echo Unchanged", "chat Deleted"]);
    assert_eq!(plan.writes().collect::<Vec<_>>(), [Write::Remove(Kind::Route, &name("chat"))]);
    assert!(!plan.is_empty());
}

#[test]
fn the_same_apply_twice_changes_nothing_and_shares_every_entry() {
    let stored = applied(&[ECHO, ROUTE]);
    let plan = plan(&stored, Intent::Apply(read(&[ECHO, ROUTE]))).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.writes().count(), 0);
    assert!(stored.entries().zip(plan.next.entries()).all(|(before, after)| Arc::ptr_eq(before, after)));
}

#[test]
fn a_reference_to_nothing_is_told_at_its_line_and_nothing_is_planned() {
    let refusal = plan(&Stored::default(), Intent::Apply(read(&[ROUTE]))).unwrap_err();
    let told = told(refusal);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("wanted.yaml:5:18: spec.candidates[0].adapter: there is no Adapter"),
        "{told:?}"
    );
}

#[test]
fn what_a_stored_resource_needs_may_not_be_deleted_or_replaced_away() {
    let stored = applied(&[ECHO, ROUTE]);
    let refusal = plan(&stored, Intent::Delete(Kind::Adapter, name("echo"))).unwrap_err();
    assert_eq!(told(refusal), ["spec.candidates[0].adapter: there is no Adapter `echo` (of Route chat)"]);
    let other = ECHO.replace("echo-1", "echo-2");
    let refusal = plan(&stored, Intent::Apply(read(&[&other]))).unwrap_err();
    let expected = "spec.candidates[0].model: Adapter `echo` has no model `echo-1` (of Route chat)";
    assert_eq!(told(refusal), [expected]);
}

#[test]
fn of_more_mistakes_than_anybody_reads_the_first_are_told_and_the_rest_counted() {
    let route = |at: usize| ROUTE.replace("name: chat", &format!("name: chat-{at}"));
    let refused = |routes: usize| {
        let texts: Vec<String> = (0..routes).map(route).chain([ECHO.to_owned()]).collect();
        let stored = applied(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        told(plan(&stored, Intent::Delete(Kind::Adapter, name("echo"))).unwrap_err())
    };
    assert!(refused(MISTAKES_MAX).iter().all(|mistake| mistake.contains("(of Route chat-")));
    let told = refused(MISTAKES_MAX + 2);
    assert_eq!(
        (told.len(), told[MISTAKES_MAX].as_str()),
        (MISTAKES_MAX + 1, "there are 2 more mistakes; mend these first")
    );
}

#[test]
fn what_is_not_stored_cannot_be_deleted_and_what_is_can() {
    let stored = applied(&[ECHO]);
    let refusal = plan(&stored, Intent::Delete(Kind::Route, name("chat"))).unwrap_err();
    assert_eq!(told(refusal), ["missing Route chat"]);
    let plan = plan(&stored, Intent::Delete(Kind::Adapter, name("echo"))).unwrap();
    assert_eq!(verbs(&plan), ["echo Deleted"]);
    assert!(plan.next.is_empty());
}

#[test]
fn a_stored_resource_reads_back_to_the_same_entry() {
    for entry in applied(&[ECHO, ROUTE]).entries() {
        let read = Entry::read(entry.document.json.as_bytes()).unwrap();
        assert_eq!((read.key(), read.version), (entry.key(), entry.version));
        assert_eq!(read.document.resource, entry.document.resource);
    }
}

#[test]
fn a_set_compiles_in_order_and_the_same_store_to_the_same_hash() {
    let generation = Generation { epoch: 1, number: 1 };
    let set = compile::compile(&applied(&[ROUTE, ECHO]), generation).unwrap();
    let names: Vec<&str> = set.resources().iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["echo", "chat"], "adapters before routes, whatever the order of files");
    assert_eq!(set, compile::compile(&applied(&[ECHO, ROUTE]), generation).unwrap());
    let other = compile::compile(&applied(&[ECHO_SLOW, ROUTE]), generation).unwrap();
    assert_ne!(set.held().hash, other.held().hash);
}

#[test]
fn a_diff_shows_only_what_changes_with_both_sides_named() {
    let plan = plan(&applied(&[ECHO, ROUTE]), Intent::Apply(read(&[ECHO_SLOW, ROUTE]))).unwrap();
    let text = diff::unified(&plan.changes);
    assert!(text.starts_with("--- stored/Adapter/echo\n+++ wanted/Adapter/echo\n@@ "), "{text}");
    assert!(text.contains("latency_p95_ms: 90\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with('+') && line.contains("latency_p95_ms")), "{text}");
    assert!(!text.contains("chat"), "{text}");
}

#[test]
fn a_diff_of_a_new_or_a_removed_resource_has_nothing_on_one_side() {
    let stored = applied(&[ECHO]);
    let created = plan(&stored, Intent::Apply(read(&[ROUTE]))).unwrap();
    assert!(diff::unified(&created.changes).starts_with("--- /dev/null\n+++ wanted/Route/chat\n"));
    let deleted = plan(&stored, Intent::Delete(Kind::Adapter, name("echo"))).unwrap();
    assert!(diff::unified(&deleted.changes).starts_with("--- stored/Adapter/echo\n+++ /dev/null\n"));
}
