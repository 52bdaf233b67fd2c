//! What data planes are told, and what operators see of them.

use std::time::Duration;

use proto_core::sync::places::PLACES_MAX;
use proto_core::wire::atp::admin::v1 as admin;
use proto_core::wire::atp::control::v1 as control;
use tonic::Code;

use super::kit::{ECHO, ROUTE, control_plane};

fn explain(node: &str) -> admin::ExplainRequest {
    let (task_type, tenant) = (String::new(), String::new());
    admin::ExplainRequest { model: "auto".into(), task_type, tenant, node: node.into() }
}

#[tokio::test]
async fn a_data_plane_is_pushed_the_set_and_each_newer_one_after_its_answer() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let first = edge.push().await;
    assert_eq!((first.generation.unwrap().number, first.resources.len()), (1, 1));
    assert_eq!(proto_core::sync::hash(&first.resources).as_slice(), first.hash.as_ref());
    plane.apply(&[ROUTE]).await;
    edge.ack(&first).await;
    let second = edge.push().await;
    assert_eq!((second.generation.unwrap().number, second.resources.len()), (2, 2));
    edge.ack(&second).await;
    let status = plane.status_when(|status| status.data_planes[0].current).await;
    let shown = &status.data_planes[0];
    assert_eq!((shown.node.as_str(), shown.version.as_str(), shown.connected), ("edge-1", "9.9.9", true));
    assert_eq!(shown.serving, second.generation);
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_reasons_until_a_newer_set_is_taken() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let first = edge.push().await;
    edge.nack(&first, "OPENAI_API_KEY is not set").await;
    let status = plane.status_when(|status| !status.data_planes[0].rejects.is_empty()).await;
    let shown = &status.data_planes[0];
    assert_eq!(shown.rejects[0].reason, "OPENAI_API_KEY is not set");
    assert!(!shown.current && shown.serving.is_none());
    plane.apply(&[ROUTE]).await;
    let second = edge.push().await;
    edge.ack(&second).await;
    let status = plane.status_when(|status| status.data_planes[0].current).await;
    assert!(status.data_planes[0].rejects.is_empty());
}

#[tokio::test]
async fn a_data_plane_that_comes_back_with_the_newest_set_is_sent_the_next_one_only() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let held = edge.push().await;
    edge.ack(&held).await;
    drop(edge);
    let mut edge = plane.data_plane("edge-1", Some(&held)).await;
    plane.status_when(|status| status.data_planes[0].current).await;
    plane.apply(&[ROUTE]).await;
    assert_eq!(edge.push().await.generation.unwrap().number, 2);
}

#[tokio::test]
async fn one_that_went_away_is_still_listed_as_not_connected() {
    let plane = control_plane().await;
    let edge = plane.data_plane("edge-1", None).await;
    plane.status_when(|status| status.data_planes.iter().any(|plane| plane.connected)).await;
    drop(edge);
    let status = plane.status_when(|status| !status.data_planes[0].connected).await;
    assert_eq!(status.data_planes[0].node, "edge-1");
}

#[tokio::test]
async fn a_node_that_says_hello_twice_ends_its_earlier_stream_with_the_reason() {
    let plane = control_plane().await;
    let mut earlier = plane.data_plane("edge-1", None).await;
    earlier.push().await;
    let _later = plane.data_plane("edge-1", None).await;
    let ended = earlier.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted);
    assert!(ended.message().contains("node names are unique"), "{}", ended.message());
    plane.status_when(|status| status.data_planes[0].connected).await;
}

#[tokio::test]
async fn a_broken_protocol_ends_the_stream_with_what_was_wrong() {
    let plane = control_plane().await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let push = edge.push().await;
    edge.ack(&control::Push { nonce: 99, ..push }).await;
    let ended = edge.next().await.unwrap_err();
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::InvalidArgument, "nonce 99 was never sent on this stream")
    );
}

#[tokio::test]
async fn explain_is_answered_by_a_data_plane() {
    let plane = control_plane().await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let push = edge.push().await;
    edge.ack(&push).await;
    plane.status_when(|status| status.data_planes[0].current).await;
    let mut operations = plane.operations().await;
    let asking = tokio::spawn(async move { operations.explain(explain("")).await });
    let question = edge.question().await;
    assert_eq!(question.model, "auto");
    let json = control::ExplainAnswer { id: question.id, json: "{\"plan\":[]}".into() };
    edge.answer(control::sync_request::Message::Explained(json)).await;
    let answer = asking.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.node.as_str(), answer.json.as_ref()), ("edge-1", b"{\"plan\":[]}".as_slice()));
}

#[tokio::test]
async fn explain_without_a_data_plane_says_so() {
    let plane = control_plane().await;
    let mut operations = plane.operations().await;
    let nobody = operations.explain(explain("")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
    let unknown = operations.explain(explain("edge-7")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(
        unknown.message(),
        "no data plane `edge-7` is connected; `atp ctl status` lists those that are"
    );
}

#[tokio::test]
async fn explain_gives_up_on_a_data_plane_that_does_not_answer() {
    let plane = control_plane().await;
    let mut edge = plane.data_plane("edge-1", None).await;
    edge.push().await;
    let mut operations = plane.operations().await;
    let asking = tokio::spawn(async move { operations.explain(explain("edge-1")).await });
    edge.question().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    let late = asking.await.unwrap().unwrap_err();
    let expected = "data plane edge-1 did not answer within 5 s";
    assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, expected));
}

#[tokio::test]
async fn a_data_plane_that_says_nothing_or_never_answers_a_push_is_dropped() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    let mut silent = plane.data_plane("edge-1", None).await;
    silent.push().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let dropped = silent.next().await.unwrap_err();
    assert_eq!(
        (dropped.code(), dropped.message()),
        (Code::DeadlineExceeded, "a push was not answered within 60 s")
    );
}

#[tokio::test]
async fn where_adapters_stand_is_told_to_every_other_data_plane_that_takes_it() {
    let plane = control_plane().await;
    let (mut east, mut west) = (plane.taking_places("east").await, plane.taking_places("west").await);
    let mut older = plane.data_plane("older", None).await;
    assert_eq!(
        (east.places().await, west.places().await),
        (vec![], vec![]),
        "told at once, so that they may say"
    );
    let (far, near) = (("far", "http://10.0.0.7/v1"), ("near", "http://10.0.0.8/v1"));
    east.stands(&[far, near]).await;
    let told = |&(adapter, endpoint): &(&str, &str)| (adapter.to_owned(), endpoint.to_owned());
    assert_eq!(west.places().await, [far, near].iter().map(told).collect::<Vec<_>>());
    west.stands(&[near]).await;
    let heard = loop {
        let heard = east.places().await;
        if !heard.is_empty() {
            break heard;
        }
    };
    assert_eq!(heard, [told(&near)], "and never its own");
    east.stands(&[]).await;
    while !west.places().await.is_empty() {}
    // One that comes later hears of those who stand.
    assert_eq!(plane.taking_places("north").await.places().await, [told(&near)]);
    let push = older.push().await;
    older.ack(&push).await;
    plane.apply(&[ECHO]).await;
    assert_eq!(older.push().await.resources.len(), 1, "an older one is told sets and nothing else");
}

#[tokio::test]
async fn more_places_than_one_may_say_end_its_stream() {
    let plane = control_plane().await;
    let (mut east, mut west) = (plane.taking_places("east").await, plane.taking_places("west").await);
    let names: Vec<String> = (0..=PLACES_MAX).map(|n| format!("a-{n:03}")).collect();
    let standing: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "http://10.0.0.7/v1")).collect();
    west.places().await;
    east.stands(&standing[1..]).await;
    assert_eq!(west.places().await.len(), PLACES_MAX);
    east.stands(&standing).await;
    let ended = loop {
        if let Err(ended) = east.next().await {
            break ended;
        }
    };
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::InvalidArgument, "a list of 257 places is longer than 256")
    );
}
