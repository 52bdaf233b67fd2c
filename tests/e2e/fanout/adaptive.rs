//! Fan-outs that say what matters, and leave the policy to their session.

use serde_json::{Value, json};

use super::hand::Hand;
use crate::kit::{Atp, Folder, adapter, mock};

/// The policy that answered.
async fn policy(hand: &mut Hand, stream: &str, adaptive: Value, targets: usize) -> Value {
    let one = |at| json!({"persona_id": format!("p{at}"), "model": "m--tokens-5"});
    let targets: Vec<Value> = (0..targets).map(one).collect();
    let asked = json!({"targets": targets, "prompt": "hi", "adaptive": adaptive, "stream": false});
    hand.ask(stream, "agent.dispatch", &asked).await;
    hand.hear_of("agent.result.final").await["payload"]["content"]["policy"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matters_chooses_the_policy_and_a_session_keeps_it_for_a_while() {
    let (folder, mock) = (Folder::new(), mock().await);
    let atp = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m--tokens-5"])).await;
    for (at, (adaptive, targets, expected)) in [
        (json!({"quality": 0.9}), 3, "consensus"),
        (json!({"quality": 0.9}), 1, "consensus"),
        (json!({"cost_sensitivity": 0.8}), 2, "weighted-merge"),
        (json!({"time_pressure": 1, "quality": 0.9}), 4, "first-win"),
        (json!({}), 4, "arbiter"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut hand = Hand::new(atp.clients, &format!("run-{at}"), "bronze").await;
        assert_eq!(policy(&mut hand, "1", adaptive.clone(), targets).await, expected, "{adaptive}");
        let hurried = json!({"time_pressure": 1});
        assert_eq!(policy(&mut hand, "2", hurried, 2).await, expected, "not five minutes later");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_that_are_none_and_a_policy_beside_them_are_refused_with_their_place() {
    let (folder, mock) = (Folder::new(), mock().await);
    let atp = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m"])).await;
    let mut hand = Hand::new(atp.clients, "run", "bronze").await;
    let asked = json!({"targets": [{"persona_id": "p"}], "prompt": "hi", "policy": "champion",
                       "adaptive": {"quality": 2, "speed": 1}});
    hand.ask("1", "agent.dispatch", &asked).await;
    let reason = hand.refused().await["reason"].as_str().unwrap_or_default().to_owned();
    for part in [
        "adaptive: and `policy` exclude each other",
        "adaptive.quality: 2 is not a number from 0 to 1",
        "adaptive.speed: is not known here",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
}
