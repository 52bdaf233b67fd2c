//! The memory gateway: what it acknowledged is there whatever ends it, and what it refuses to start with.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::kit::{Answer, Atp, Caller, Folder, Page, atp, finished, lines, tenant, told, until};

fn object(text: &str) -> String {
    json!({"object": {"text": text}}).to_string()
}

/// Puts items one after the other on one connection that may break at any moment; tells of each that was
/// acknowledged.
async fn put_all(address: SocketAddr, keys: impl Iterator<Item = String>, mut kept: impl FnMut(String)) {
    let Ok(stream) = TcpStream::connect(address).await else { return };
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else { return };
    let connection = tokio::spawn(async move { drop(connection.await) });
    for key in keys {
        let request = Request::put(format!("/v1/memory/run/{key}")).header("host", "localhost");
        let request = request.body(Full::new(Bytes::from(object(&key)))).expect("a request");
        let Ok(answer) = sender.send_request(request).await else { break };
        if answer.status() != 200 || answer.into_body().collect().await.is_err() {
            break;
        }
        kept(key);
    }
    connection.abort();
}

/// Every key of a namespace, page by page.
async fn listed(caller: &Caller, namespace: &str) -> HashSet<String> {
    let (mut keys, mut cursor) = (HashSet::new(), String::new());
    loop {
        let page = caller.get(&format!("/v1/memory/{namespace}?limit=100{cursor}")).await.json();
        let rows = page["keys"].as_array().expect("a list").iter();
        keys.extend(rows.map(|key| key.as_str().expect("a key").to_owned()));
        match page["cursor"].as_str() {
            Some(at) => cursor = format!("&cursor={at}"),
            None => return keys,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_10_000_writes_that_kill_9_ends_none_is_lost_that_was_acknowledged() {
    let folder = Folder::new();
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let address = gateway.clients;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let kept = Arc::clone(&kept);
            let keys = (0..WRITES / WRITERS).map(move |at| format!("{writer}-{at}"));
            tokio::spawn(put_all(address, keys, move |key| {
                kept.lock().expect("writers do not panic").push(key);
            }))
        })
        .collect();
    let has_half = async || kept.lock().expect("writers do not panic").len() >= WRITES / 2;
    until("half of the writes", has_half).await;
    gateway.kill().await;
    for writer in writers {
        writer.await.expect("a writer ends with its first failure");
    }
    let gateway = Atp::memory(&folder, &[], &[]).await;
    let caller = Caller::new(gateway.clients);
    let kept = kept.lock().expect("writers are gone").clone();
    assert!(kept.len() < WRITES, "it was killed in the middle");
    let found = listed(&caller, "run").await;
    let lost: Vec<_> = kept.iter().filter(|key| !found.contains(*key)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), kept.len());
    for key in kept.iter().step_by(100) {
        assert_eq!(caller.get(&format!("/v1/memory/run/{key}")).await.json()["object"]["text"], **key);
    }
    // Its words too: the index is what the store says, whatever it was in the middle of.
    for key in kept.iter().rev().step_by(500) {
        let question = json!({"q": key.replace('-', " "), "namespace": "run", "limit": 20});
        let found = caller.post("/v1/memory/search", question.to_string()).await.json();
        let rows = found["results"].as_array().unwrap_or_else(|| panic!("{found}"));
        assert!(rows.iter().any(|row| row["key"] == **key), "{key}: {found}");
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

/// What an ask says of its context, and its text.
fn with_context(answer: &Answer) -> (Value, String) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let lines = lines(&answer.text);
    let event = lines.iter().find(|line| line["event"] == "context").cloned().unwrap_or_default();
    let text = lines.last().expect("a final line")["text"].as_str().unwrap_or_default().to_owned();
    (event, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_has_a_memory_and_an_ask_gets_what_it_names_of_it() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    let (memory, caller) = (Caller::new(up.memory), Caller::new(up.clients));
    assert_eq!(memory.get("/healthz").await.text, r#"{"ok":true}"#);
    let claimed = memory.with("x-tenant-id", "acme");
    assert_eq!(claimed.put("/v1/memory/tenant/acme/session/s1", object("blue \"sky\"")).await.status, 200);
    let refs = json!({"context_refs": ["tenant/acme/session/s1", "tenant/acme/none"]});
    let (event, text) = with_context(&caller.ask(&refs).await);
    assert_eq!((&event["used"], &event["missing"]), (&json!(1), &json!(["tenant/acme/none"])));
    assert!(text.contains(r#"blue \"sky\""#) && text.ends_with("say hi"), "{text}");
    let (event, text) = with_context(&caller.ask(&json!({})).await);
    assert_eq!((event, text.contains("blue")), (Value::Null, false));
    let refused = caller.ask(&json!({"context_refs": ["nowhere"]})).await;
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_value")));
    assert_eq!(caller.get("/mem/put").await.text, "memory wiring disabled\n", "it is asked for by name");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_up_the_tenants_that_are_applied_have_memories_of_their_own_at_once() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    let (memory, caller) = (Caller::new(up.memory), Caller::new(up.clients));
    assert_eq!(memory.put("/v1/memory/n/k", object("everyone's")).await.status, 200);
    up.apply(&folder, &[tenant("acme", "acme-key"), tenant("other", "other-key")].concat()).await;
    until("tenants", async || memory.get("/v1/memory/n/k").await.status == 401).await;
    assert_eq!(memory.with_key("acme-key").put("/v1/memory/n/k", object("acme's")).await.status, 200);
    let refs = json!({"context_refs": ["n/k"]});
    let (event, text) = with_context(&caller.with_key("acme-key").ask(&refs).await);
    assert_eq!((&event["used"], text.contains("acme's")), (&json!(1), true), "{text}");
    let (event, text) = with_context(&caller.with_key("other-key").ask(&refs).await);
    assert_eq!((&event["used"], text.contains("'s")), (&json!(0), false), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_that_was_asked_for_writes_and_says_so() {
    let folder = Folder::new();
    let up = Atp::up_as(&folder, "", &[("FEATURE_WIRE_MEMORY", "true")]).await;
    let (memory, caller) = (Caller::new(up.memory), Caller::new(up.clients));
    assert_eq!(caller.get("/mem/put").await.text, "ok: 200 OK\n");
    assert_eq!(memory.get("/v1/memory/tenant/acme/demo").await.json()["object"]["type"], "demo");
    assert_eq!(caller.get("/mem/put?ns=notes&key=k").await.text, "ok: 200 OK\n");
    assert_eq!(memory.get("/v1/memory/notes/k").await.json()["object"]["type"], "demo");
    let told = caller.get("/mem/put?ns=notes&key=k%20k").await.text;
    assert_eq!(told, "error: the memory gateway answered 400 Bad Request\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_fails_where_the_memory_it_names_is_away_and_only_then() {
    let folder = Folder::new();
    let settings = format!("memory: {{ url: \"{}\" }}\n", crate::faults::dead_url());
    let plane = Atp::of_file_with(&folder, ECHO, &settings).await;
    let caller = Caller::new(plane.clients);
    assert_eq!(caller.ask(&json!({})).await.status, 200);
    let refused = caller.ask(&json!({"context_refs": ["n/k"]})).await;
    assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("memory_unavailable")));
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn context_of_a_gateway_that_knows_other_tenants_is_not_used() {
    let (folder, other) = (Folder::new(), Folder::new());
    let gateway = Atp::memory(&other, &[], &[]).await;
    assert_eq!(Caller::new(gateway.clients).put("/v1/memory/n/k", object("x")).await.status, 200);
    let settings = format!("memory: {{ url: \"http://{}\" }}\n", gateway.clients);
    let plane = Atp::of_file_with(&folder, &format!("{ECHO}{}", tenant("acme", "acme-key")), &settings).await;
    let caller = Caller::new(plane.clients).with_key("acme-key");
    let refused = caller.ask(&json!({"context_refs": ["n/k"]})).await;
    assert_eq!((refused.status, &refused.json()["error"]), (502, &json!("memory_refused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn context_up_to_its_bound_is_sent_and_past_it_refused() {
    let (folder, other) = (Folder::new(), Folder::new());
    let gateway = Atp::memory(&other, &[], &[]).await;
    let memory = Caller::new(gateway.clients);
    // As text: `Context n/k:`, a line break as two characters, the object, and two more.
    let around = "Context n/k:".len() + 2 + r#"{\"text\":\"\"}"#.len() + 4;
    let most = 256 * 1024 - around;
    let settings = format!("memory: {{ url: \"http://{}\" }}\n", gateway.clients);
    let plane = Atp::of_file_with(&folder, ECHO, &settings).await;
    let caller = Caller::new(plane.clients);
    let refs = json!({"context_refs": ["n/k"]});
    for (bytes, status) in [(most, 200), (most + 1, 413), (900_000, 413)] {
        assert_eq!(memory.put("/v1/memory/n/k", object(&"x".repeat(bytes))).await.status, 200);
        assert_eq!(caller.ask_flow(&refs).await.status, status, "{bytes}");
    }
}

/// A gateway that takes connections and says nothing, and a data plane of one worker that asks it.
async fn hung(folder: &Folder) -> (TcpListener, Atp) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let settings = format!("workers: 1\nmemory: {{ url: \"http://{address}\" }}\n");
    let plane = Atp::of_file_with(folder, ECHO, &settings).await;
    (silent, plane)
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_calls_wait_for_a_gateway_that_hangs_and_one_more_is_not_made() {
    let folder = Folder::new();
    let (_silent, plane) = hung(&folder).await;
    let caller = Caller::new(plane.clients);
    let refs = json!({"context_refs": ["n/1", "n/2", "n/3", "n/4"]});
    let asks = async |count: usize| {
        let mut asks = JoinSet::new();
        for _ in 0..count {
            let (caller, refs) = (caller.clone(), refs.clone());
            asks.spawn(async move { caller.ask(&refs).await });
        }
        for refused in asks.join_all().await {
            assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("memory_unavailable")));
        }
        let page = Page::of(plane.admin).await;
        (page.value("atp_memory_calls_total"), page.value("atp_memory_refusals_total"))
    };
    let (made, refused) = asks(CALLS_MAX / 4).await;
    assert_eq!((made, refused), (CALLS_MAX as u64, 0));
    let (made, refused) = asks(CALLS_MAX / 4 + 8).await;
    assert!(made <= 2 * CALLS_MAX as u64 && refused > 0, "{made} made, {refused} refused");
    // Whoever names nothing of it does not notice.
    assert_eq!(caller.ask(&json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ask_fetches_takes_of_its_own_time() {
    let folder = Folder::new();
    let (_silent, plane) = hung(&folder).await;
    let caller = Caller::new(plane.clients).with("x-atp-deadline-ms", "100");
    let refused = caller.ask(&json!({"context_refs": ["n/1"]})).await;
    assert_eq!((refused.status, &refused.json()["error"]), (504, &json!("deadline_exceeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_by_the_data_plane_counts_as_a_request_of_its_caller() {
    let folder = Folder::new();
    let settings = "memory: { url: \"http://127.0.0.1:1\" }\nlimits: { requests_per_second: 1 }\n";
    let plane = Atp::of_file_with(&folder, ECHO, settings).await;
    let caller = Caller::new(plane.clients);
    until("a refusal", async || caller.get("/mem/put").await.status == 429).await;
    let put = json!({"namespace": "n", "key": "k", "object": {}});
    let params = json!({"name": "putMemory", "arguments": put});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let caller = caller.with("content-type", "application/json").with("mcp-protocol-version", "2025-06-18");
    let caller = caller.with("accept", "application/json, text/event-stream");
    until("another", async || caller.post("/mcp", call.clone()).await.status == 429).await;
}

/// A tool called over MCP; the object it answers with.
async fn called(caller: &Caller, tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let caller = caller.with("content-type", "application/json");
    let caller = caller.with("accept", "application/json, text/event-stream");
    let answer = caller.with("mcp-protocol-version", "2025-06-18").post("/mcp", call.to_string()).await;
    answer.json()["result"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_three_tools_and_each_caller_finds_its_own() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    up.apply(&folder, &[tenant("acme", "acme-key"), tenant("other", "other-key")].concat()).await;
    let caller = Caller::new(up.clients);
    until("tenants", async || caller.chat("echo").await.status == 401).await;
    let (acme, other) = (caller.with_key("acme-key"), caller.with_key("other-key"));
    let object = json!({"text": "blue"});
    let place = json!({"namespace": "tenant/acme", "key": "s1"});
    let put = json!({"namespace": "tenant/acme", "key": "s1", "object": object, "ttl_seconds": 60});
    assert_ne!(called(&acme, "putMemory", put).await["isError"], true);
    let got = called(&acme, "getMemory", place.clone()).await;
    assert_eq!(got["structuredContent"]["object"], object, "{got}");
    let listed = called(&acme, "listMemory", json!({"namespace": "tenant/acme"})).await;
    assert_eq!(listed["structuredContent"]["keys"], json!(["s1"]), "{listed}");
    let nothing = called(&other, "getMemory", place).await;
    assert!(!nothing.to_string().contains("blue") && nothing.to_string().contains("not_found"), "{nothing}");
    let wrong = called(&acme, "putMemory", json!({"namespace": "n"})).await;
    assert_eq!(wrong["isError"], true, "{wrong}");
}

/// Of `dataplane/io/src/upstream/memory.rs`.
const CALLS_MAX: usize = 256;
const WRITES: usize = 10_000;
/// As many as one commit takes.
const WRITERS: usize = 64;
const ECHO: &str = "kind: Adapter\nname: echo\nspec: { kind: echo, models: [ { name: echo } ] }\n";
