//! `kill -9` in the middle of changes: what was acknowledged is there afterwards, every time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use controlplane_io::app::OPERATOR_TOKEN;
use proto_core::wire::atp::admin::v1 as wire;
use proto_rpc::admin::resources_client::ResourcesClient;
use tokio::task::JoinSet;

use super::kit::{Bearer, Wired, channel, sources};

/// The real program, on ports of the system's choice, which it logs.
fn spawn(folder: &Path) -> (Child, String) {
    let settings = folder.join("controlplane.yaml");
    let text =
        "listen: { grpc: \"127.0.0.1:0\", http: \"127.0.0.1:0\", cleartext: loopback }\ndata_dir: data\n";
    std::fs::write(&settings, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_atp-controlplane"))
        .args(["--config", settings.to_str().unwrap(), "--log-format", "json"])
        .env_remove("ATP_DATA_DIR")
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| {
            let log: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            log["grpc"].as_str().map(str::to_owned)
        })
        .expect("it logs where it listens");
    // Whatever else it logs must not stop it.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

async fn client(folder: &Path, address: &str) -> ResourcesClient<Wired> {
    let bearer = Bearer::of(&folder.join("data").join(OPERATOR_TOKEN));
    ResourcesClient::with_interceptor(channel(address).await, bearer)
}

/// Applies new adapters one after another until the other end dies; the names of those acknowledged.
async fn apply_until_it_dies(mut client: ResourcesClient<Wired>, round: usize, hand: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for at in 0.. {
        let name = format!("a-{round}-{hand}-{at}");
        let text =
            format!("kind: Adapter\nname: {name}\nspec: {{ kind: echo, models: [ {{ name: m }} ] }}\n");
        match client.apply(sources(&[&text])).await {
            Ok(applied) => {
                assert!(applied.into_inner().mistakes.is_empty());
                acknowledged.push(name);
            }
            Err(_) => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn every_acknowledged_change_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    for round in 0..4 {
        let (mut child, address) = spawn(folder.path());
        let mut watch = client(folder.path(), &address).await;
        let mut changes = watch.watch(wire::WatchRequest::default()).await.unwrap().into_inner();
        let mut hands = JoinSet::new();
        for hand in 0..3 {
            hands.spawn(apply_until_it_dies(client(folder.path(), &address).await, round, hand));
        }
        // Killed while others are on their way: after a number of changes that differs by round.
        for _ in 0..10 + 7 * round {
            changes.message().await.unwrap().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(hands.join_all().await.into_iter().flatten());

        let (mut child, address) = spawn(folder.path());
        let mut again = client(folder.path(), &address).await;
        let listed = again.list(wire::ListRequest::default()).await.unwrap().into_inner();
        let stored: BTreeSet<String> = listed.resources.into_iter().map(|resource| resource.name).collect();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} are lost", acknowledged.len());
        let number = listed.generation.unwrap().number;
        assert_eq!(number, stored.len() as u64, "round {round}: one generation for each change");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(acknowledged.len() >= 4 * 10, "something was acknowledged: {}", acknowledged.len());
}
