//! What operators can do with resources.

use proto_core::wire::atp::admin::v1 as wire;
use proto_core::wire::atp::admin::v1::change::Verb;
use tonic::Code;

use super::kit::{ECHO, ROUTE, control_plane, sources};

fn told(changes: &[wire::Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {} {:?}", change.kind, change.name, change.verb())).collect()
}

fn get(kind: &str, name: &str) -> wire::GetRequest {
    wire::GetRequest { kind: kind.into(), name: name.into() }
}

#[tokio::test]
async fn what_is_applied_can_be_got_listed_and_deleted() {
    let plane = control_plane().await;
    let applied = plane.apply(&[ROUTE, ECHO]).await;
    assert_eq!(told(&applied.changes), ["Route chat Created", "Adapter echo Created"]);
    assert_eq!(applied.generation.unwrap().number, 1);
    let mut client = plane.resources().await;
    let got = client.get(get("adapters", "echo")).await.unwrap().into_inner();
    let json: serde_json::Value = serde_json::from_slice(&got.json).unwrap();
    assert_eq!((json["kind"].as_str(), json["spec"]["kind"].as_str()), (Some("Adapter"), Some("echo")));
    let listed = client.list(wire::ListRequest::default()).await.unwrap().into_inner();
    let names: Vec<&str> = listed.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["echo", "chat"]);
    let of_kind = client.list(wire::ListRequest { kind: "route".into() }).await.unwrap().into_inner();
    assert_eq!(of_kind.resources.len(), 1);
    let delete = wire::DeleteRequest { kind: "Route".into(), name: "chat".into(), dry_run: false };
    let deleted = client.delete(delete).await.unwrap().into_inner();
    assert_eq!(told(&deleted.changes), ["Route chat Deleted"]);
    assert_eq!(deleted.generation.unwrap().number, 2);
    assert_eq!(client.get(get("Route", "chat")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn every_mistake_comes_back_with_its_place_and_nothing_is_applied() {
    let plane = control_plane().await;
    let typo = "kind: Adapter\nname: other\nspec: { kind: echo, modles: [] }\n";
    let applied = plane.apply(&[ECHO, typo, "kind: Rout\nname: x\nspec: {}\n"]).await;
    assert!(applied.changes.is_empty() && applied.generation.is_none());
    let places: Vec<String> = applied
        .mistakes
        .iter()
        .map(|mistake| format!("{}:{}:{} {}", mistake.file, mistake.line, mistake.column, mistake.path))
        .collect();
    assert!(places.contains(&"1.yaml:3:21 spec.modles".to_owned()), "{places:?}");
    assert!(places.iter().any(|place| place.starts_with("2.yaml:1:7 kind")), "{places:?}");
    assert_eq!(plane.status().await.adapters, 0);
}

#[tokio::test]
async fn a_reference_to_what_is_not_there_is_a_mistake_on_both_ends_of_it() {
    let plane = control_plane().await;
    let applied = plane.apply(&[ROUTE]).await;
    assert_eq!(applied.mistakes.len(), 1);
    assert_eq!(applied.mistakes[0].path, "spec.candidates[0].adapter");
    plane.apply(&[ECHO, ROUTE]).await;
    let delete = wire::DeleteRequest { kind: "Adapter".into(), name: "echo".into(), dry_run: false };
    let refused = plane.resources().await.delete(delete).await.unwrap().into_inner();
    assert!(refused.mistakes[0].what.contains("(of Route chat)"), "{:?}", refused.mistakes);
    assert_eq!(plane.status().await.adapters, 1);
}

#[tokio::test]
async fn a_dry_run_and_a_diff_say_what_would_change_and_change_nothing() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let slower = ECHO.replace("echo-1 }", "echo-1, latency_p95_ms: 90 }");
    let mut client = plane.resources().await;
    let dry = wire::ApplyRequest { dry_run: true, ..sources(&[&slower]) };
    let dry = client.apply(dry).await.unwrap().into_inner();
    assert_eq!(told(&dry.changes), ["Adapter echo Configured"]);
    let diff = client.diff(sources(&[&slower])).await.unwrap().into_inner();
    assert_eq!(diff.changes[0].verb(), Verb::Configured);
    assert!(diff.text.contains("\n+") && diff.text.contains("latency_p95_ms: 90"), "{}", diff.text);
    let dry = wire::DeleteRequest { kind: "Adapter".into(), name: "echo".into(), dry_run: true };
    assert_eq!(told(&client.delete(dry).await.unwrap().into_inner().changes), ["Adapter echo Deleted"]);
    assert_eq!(plane.status().await.generation.unwrap().number, 1);
    assert!(client.diff(sources(&[ECHO])).await.unwrap().into_inner().text.is_empty());
}

#[tokio::test]
async fn validate_needs_nothing_stored_and_stores_nothing() {
    let plane = control_plane().await;
    let mut client = plane.resources().await;
    let right = client.validate(sources(&[ECHO, ROUTE])).await.unwrap().into_inner();
    assert_eq!((right.mistakes.len(), right.resources), (0, 2));
    let alone = client.validate(sources(&[ROUTE])).await.unwrap().into_inner();
    assert_eq!(alone.mistakes[0].path, "spec.candidates[0].adapter");
    assert_eq!(plane.status().await.generation.unwrap().number, 0);
}

#[tokio::test]
async fn calls_that_cannot_be_made_have_the_code_and_the_reason() {
    let plane = control_plane().await;
    let mut client = plane.resources().await;
    let unknown = client.get(get("Adapter", "nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "there is no Adapter `nobody`; `atp ctl get adapters` lists what there is");
    let kind = client.get(get("Pod", "x")).await.unwrap_err();
    assert_eq!(kind.code(), Code::InvalidArgument);
    assert_eq!(kind.message(), "there is no kind \"Pod\"; there are Adapter, Route, Tenant");
    assert_eq!(client.get(get("Adapter", "Ö")).await.unwrap_err().code(), Code::InvalidArgument);
    let missing = wire::DeleteRequest { kind: "Tenant".into(), name: "nobody".into(), dry_run: false };
    assert_eq!(client.delete(missing).await.unwrap_err().code(), Code::NotFound);
    let huge = client.apply(sources(&[&" ".repeat(17 * 1024 * 1024)])).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_watch_tells_each_change_of_its_kind_from_then_on() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let request = wire::WatchRequest { kind: "Route".into() };
    let mut events = plane.resources().await.watch(request).await.unwrap().into_inner();
    plane.apply(&[ECHO.replace("echo-1 }", "echo-1, latency_p95_ms: 90 }").as_str(), ROUTE]).await;
    let created = events.message().await.unwrap().unwrap();
    assert_eq!(told(&[created.change.unwrap()]), ["Route chat Created"]);
    assert_eq!((created.resource.unwrap().name, created.generation.unwrap().number), ("chat".into(), 2));
    let delete = wire::DeleteRequest { kind: "Route".into(), name: "chat".into(), dry_run: false };
    plane.resources().await.delete(delete).await.unwrap();
    let deleted = events.message().await.unwrap().unwrap();
    assert_eq!(told(&[deleted.change.unwrap()]), ["Route chat Deleted"]);
    assert!(deleted.resource.is_none());
}

#[tokio::test]
async fn watches_past_the_bound_are_refused_and_a_closed_one_makes_room() {
    let plane = control_plane().await;
    let mut client = plane.resources().await;
    let mut open = Vec::new();
    let refused = loop {
        // More connections, because one carries 64 calls.
        if open.len() % 50 == 0 {
            client = plane.resources().await;
        }
        match client.watch(wire::WatchRequest::default()).await {
            Ok(events) => open.push(events),
            Err(refused) => break refused,
        }
    };
    assert_eq!((open.len(), refused.code()), (100, Code::ResourceExhausted));
    open.pop();
    while client.watch(wire::WatchRequest::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
