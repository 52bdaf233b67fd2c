//! The memory gateway: what it acknowledged is there whatever ends it, and what it refuses to start with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::{Atp, Caller, Folder, atp, finished, tenant, told, until};

fn object(text: &str) -> String {
    json!({"object": {"text": text}}).to_string()
}

/// Puts one item on a connection that may break at any moment; whether it was acknowledged.
async fn acknowledged(address: SocketAddr, key: &str) -> bool {
    let body = object(key);
    let head = format!(
        "PUT /v1/memory/run/{key} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    exchange.await.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_in_the_middle_of_writes() {
    let folder = Folder::new();
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let address = gateway.clients;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                for at in 0.. {
                    let key = format!("{writer}-{at}");
                    if !acknowledged(address, &key).await {
                        return;
                    }
                    kept.lock().expect("writers do not panic").push(key);
                }
            })
        })
        .collect();
    until("writes under way", async || kept.lock().expect("writers do not panic").len() >= 40).await;
    gateway.kill().await;
    for writer in writers {
        writer.await.expect("a writer ends with its first failure");
    }
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let caller = Caller::new(gateway.clients);
    let kept = kept.lock().expect("writers are gone").clone();
    for key in &kept {
        let got = caller.get(&format!("/v1/memory/run/{key}")).await.json();
        assert_eq!(got["object"]["text"], **key);
    }
    let whole = caller.get("/v1/compliance/audit-integrity").await.json();
    assert_eq!(whole["integrity_valid"], true, "{whole}");
    let puts = caller.get("/v1/compliance/soc2/access-report").await.json();
    let puts = puts["events_by_type"]["memory_put"].as_u64().unwrap_or_default();
    assert!(puts >= kept.len() as u64, "{puts} events of at least {} writes", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_well_and_the_next_one_finds_everything() {
    let folder = Folder::new();
    let mut gateway = Atp::memory(&folder, &[], &[]).await;
    let caller = Caller::new(gateway.clients);
    assert_eq!(caller.get("/healthz").await.text, r#"{"ok":true}"#);
    assert_eq!(caller.put("/v1/memory/tenant/acme/session/s1", object("blue sky")).await.status, 200);
    gateway.signal("-TERM");
    assert_eq!(gateway.ended().await, Some(0));
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let caller = Caller::new(gateway.clients);
    let got = caller.get("/v1/memory/tenant%2Facme/session%2Fs1").await;
    assert_eq!(got.json()["object"]["text"], "blue sky");
    let found = caller.post("/v1/memory/search", r#"{"q":"SKY"}"#).await.json();
    assert_eq!(found["results"][0]["key"], "session/s1");
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_tenants_are_known_by_their_keys_and_the_environment_sets_their_quota() {
    let folder = Folder::new();
    let documents = [tenant("acme", "acme-key"), tenant("other", "other-key")].concat();
    let file = folder.write("tenants.yaml", &documents);
    let arguments = ["--tenants", &file.display().to_string()];
    let gateway = Atp::memory(&folder, &arguments, &[("MEMORY_QUOTA_MB", "1")]).await;
    let nobody = Caller::new(gateway.clients);
    let (acme, other) = (nobody.with_key("acme-key"), nobody.with_key("other-key"));
    assert_eq!(nobody.put("/v1/memory/n/k", object("x")).await.status, 401);
    assert_eq!(acme.put("/v1/memory/n/k", object("x")).await.status, 200);
    assert_eq!(other.get("/v1/memory/n/k").await.text, r#"{"error":"not_found"}"#);
    assert_eq!(acme.put("/v1/memory/n/a", object(&"x".repeat(600_000))).await.status, 200);
    assert_eq!(acme.put("/v1/memory/n/b", object(&"x".repeat(600_000))).await.status, 507);
    assert_eq!(other.put("/v1/memory/n/b", object(&"x".repeat(600_000))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_wrong_with_its_settings_and_how_it_is_used() {
    let folder = Folder::new();
    let mut command = atp(&folder);
    command.args(["memory", "--listen", "0.0.0.0:0"]).env("MEMORY_QUOTA_MB", "none");
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(2));
    for part in ["ATP_CLEARTEXT=allowed", "--tenants FILE", "MEMORY_QUOTA_MB: \"none\" is no whole number"] {
        assert!(told(&output).contains(part), "{part} in\n{}", told(&output));
    }
    let mut command = atp(&folder);
    command.args(["memory", "--help"]);
    let output = finished(command).await;
    assert!(
        output.status.success() && told(&output).contains("Examples:\n  atp memory"),
        "{}",
        told(&output)
    );
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let mut command = atp(&folder);
    command.args(["memory", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.data());
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("is open in another process"), "{}", told(&output));
    drop(gateway);
}
