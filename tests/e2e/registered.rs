//! Adapters that register themselves: routed to from their word to its end, at places their document allows
//! and nowhere else, by every data plane of their control plane.

mod everywhere;

use sdk_rust::{Client, Code, Failure, Options};
use serde_json::{Value, json};

use crate::attached::stage::up;
use crate::fanout::hand::Hand;
use crate::kit::{Atp, Authority, Caller, Folder, Page, Pair, mock, until};

/// An adapter that may be at any of `places`.
fn allowing(places: &[&str], lease_ms: u32) -> String {
    let places = places.join("\", \"");
    format!(
        "---\nkind: Adapter\nname: far\nspec:\n  kind: openai\n  allow_endpoints: [ \"{places}\" ]\n  \
         lease_ms: {lease_ms}\n  models: [ {{ name: m--tokens-5 }} ]\n"
    )
}

async fn events(atp: &Atp, event: &str) -> u64 {
    let name = format!("atp_adapter_registrations_total{{event=\"{event}\"}}");
    Page::of(atp.admin).await.value(&name)
}

async fn registered(atp: &Atp) -> u64 {
    Page::of(atp.admin).await.value("atp_adapter_endpoints_registered")
}

/// The status of an answer of its model.
async fn asked(atp: &Atp) -> u16 {
    Caller::new(atp.clients).chat("m--tokens-5").await.status
}

fn words(endpoint: &str) -> Value {
    json!({"adapter_id": "far", "adapter_type": "openai", "capabilities": ["chat"], "models": ["m--tokens-5"],
           "endpoint": endpoint})
}

async fn say(hand: &mut Hand, stream: &str, kind: &str, content: &Value) -> Value {
    hand.ask(stream, kind, content).await;
    hand.hear_of("agent.result.final").await["payload"]["content"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_registers_is_routed_to_until_its_connection_ends() {
    let (folder, mock) = (Folder::new(), mock().await);
    let url = mock.url();
    let atp = up(&folder, &allowing(&["http://127.0.0.1:1/v1", &url], 60_000), "m--tokens-5").await;
    let client = Client::connect(&format!("http://{}", atp.clients), Options::default()).await.expect("room");
    let absent = client.ask(sdk_rust::Ask { model: Some("m--tokens-5".into()), ..sdk_rust::Ask::new("hi") });
    let absent = absent.await.expect("room").whole().await.expect_err("nobody is there");
    assert!(matches!(absent, Failure::Refused { code: Code::AgentDown, .. }), "{absent}");
    assert_eq!(asked(&atp).await, 503);
    let mut hand = Hand::new(atp.clients, "far-1", "bronze").await;
    // Without an endpoint nothing is registered.
    let told = say(&mut hand, "1", "adapter.capability", &json!({"adapter_id": "far"})).await;
    assert!(told["message"].as_str().is_some_and(|said| said.starts_with("not routed to")), "{told}");
    assert_eq!((asked(&atp).await, registered(&atp).await), (503, 0));
    let told = say(&mut hand, "2", "adapter.capability", &words(&url)).await;
    assert_eq!((&told["success"], &told["message"]), (&json!(true), &json!("registered")), "{told}");
    assert_eq!(told["lease_ms"], 60_000);
    assert_eq!((asked(&atp).await, registered(&atp).await), (200, 1));
    let told =
        say(&mut hand, "3", "adapter.health", &json!({"adapter_id": "far", "status": "healthy"})).await;
    assert_eq!(told["message"], "renewed", "{told}");
    // It says itself that it is not well, and then that it is.
    say(&mut hand, "4", "adapter.health", &json!({"adapter_id": "far", "status": "unhealthy"})).await;
    assert_eq!((asked(&atp).await, registered(&atp).await), (503, 0));
    say(&mut hand, "5", "adapter.health", &json!({"adapter_id": "far", "status": "healthy"})).await;
    assert_eq!(asked(&atp).await, 200);
    assert_eq!(events(&atp, "renewed").await, 3);
    drop(hand);
    until("it to be withdrawn", async || registered(&atp).await == 0).await;
    assert_eq!((asked(&atp).await, events(&atp, "withdrawn").await), (503, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_renews_ends_while_the_connection_lasts() {
    let (folder, mock) = (Folder::new(), mock().await);
    let url = mock.url();
    let atp = up(&folder, &allowing(&[&url], 1_000), "m--tokens-5").await;
    let mut hand = Hand::new(atp.clients, "far-1", "bronze").await;
    say(&mut hand, "1", "adapter.capability", &words(&url)).await;
    assert_eq!(asked(&atp).await, 200);
    until("the lease to end", async || events(&atp, "expired").await == 1).await;
    assert_eq!((asked(&atp).await, registered(&atp).await), (503, 0));
    // It was only silent.
    let told = say(&mut hand, "2", "adapter.health", &json!({"adapter_id": "far"})).await;
    assert_eq!((&told["message"], asked(&atp).await), (&json!("registered"), 200));
    assert!(Page::of(atp.admin).await.value("adapter_health_updates_total") == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_not_allowed_and_a_peer_that_may_not_are_esec_and_nothing_changes() {
    let (folder, mock) = (Folder::new(), mock().await);
    let url = mock.url();
    let declared = allowing(&["http://127.0.0.1:1/v1"], 60_000);
    let atp = up(&folder, &declared, "m--tokens-5").await;
    let mut hand = Hand::new(atp.clients, "far-1", "bronze").await;
    let mut reasons = Vec::new();
    hand.ask("1", "adapter.capability", &words(&url)).await;
    reasons.push(hand.refused().await);
    let nobody = json!({"adapter_id": "nobody", "endpoint": url});
    hand.ask("2", "adapter.capability", &nobody).await;
    reasons.push(hand.refused().await);
    assert_eq!((events(&atp, "refused").await, registered(&atp).await), (2, 0));
    // Where nobody is trusted for being on this machine.
    let folder = Folder::new();
    let other = Atp::of_file(&folder, &allowing(&[&url], 60_000)).await;
    let mut hand = Hand::new(other.clients, "far-1", "bronze").await;
    hand.ask("1", "adapter.capability", &words(&url)).await;
    reasons.push(hand.refused().await);
    assert_eq!((asked(&other).await, registered(&other).await), (503, 0));
    assert!(reasons.iter().all(|told| told["code"] == "ESEC" && *told == reasons[0]), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_registers_as_the_adapter_it_names_and_as_no_other() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let Pair { cert, key } = authority.server();
    for (name, content) in [("server.pem", &cert), ("server.key", &key), ("ca.pem", &authority.pem)] {
        folder.write(name, content);
    }
    let tls = "tls: { listen: \"127.0.0.1:0\", cert: server.pem, key: server.key, client_ca: ca.pem }\n";
    let atp = Atp::of_file_with(&folder, &allowing(&[&mock.url()], 60_000), tls).await;
    for (identity, is_it) in [("adapter/other", false), ("operator/far", false), ("adapter/far", true)] {
        let pair = authority.client(&[&format!("spiffe://atp.local/{identity}")]);
        let opened = Hand::behind_tls(atp.https().await, authority.trusted_by(Some(&pair)), "far").await;
        let mut hand = match opened {
            Ok(hand) if is_it => hand,
            Err(refused) if !is_it => {
                assert_eq!(refused["payload"]["content"]["code"], "ESEC", "{identity}: {refused}");
                continue;
            }
            other => panic!("{identity}: {:?}", other.err()),
        };
        // Its name is of another adapter than the frame's.
        hand.ask("1", "adapter.capability", &json!({"adapter_id": "other", "endpoint": mock.url()})).await;
        assert_eq!(hand.refused().await["code"], "ESEC");
        let told = say(&mut hand, "2", "adapter.capability", &words(&mock.url())).await;
        assert_eq!((&told["message"], registered(&atp).await), (&json!("registered"), 1), "{told}");
        assert_eq!(asked(&atp).await, 200);
    }
    until("it to be withdrawn", async || registered(&atp).await == 0).await;
}
