//! The gateway over its socket, with a clock of the test's own.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto_core::parse::Source;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Tenants;

struct Served {
    address: std::net::SocketAddr,
    now: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), String>>,
    folder: tempfile::TempDir,
}

struct Told {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    fn code(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

async fn start(env: &'static [(&str, &str)], tenants: Option<&str>) -> Served {
    start_in(tempfile::tempdir().unwrap(), env, tenants).await
}

async fn start_in(folder: tempfile::TempDir, env: &'static [(&str, &str)], tenants: Option<&str>) -> Served {
    let source = tenants.map(|text| Source { file: "t.yaml", content: text.as_bytes() });
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let listen = "127.0.0.1:0".parse().unwrap();
    let tenants = source.as_ref().map_or(Tenants::Undeclared, Tenants::Of);
    let config = Config::read(listen, folder.path().to_owned(), tenants, &env).unwrap();
    start_with(config, folder).await
}

async fn start_with(config: Config, folder: tempfile::TempDir) -> Served {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    // Order: relaxed. A test sets it between requests.
    let clock: Clock = Arc::new(move || Wall(clock.load(Ordering::Relaxed)));
    let bound = crate::bind_at(config, clock).await.unwrap();
    let address = bound.address();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(bound.serve(async { drop(stopped.await) }));
    Served { address, now, stop: Some(stop), serving, folder }
}

impl Served {
    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Told {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) =
            sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        connection.abort();
        Told { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn get(&self, path: &str) -> Told {
        self.call(Method::GET, path, &[], "").await
    }

    async fn put(&self, path: &str, object: Value) -> Told {
        self.call(Method::PUT, path, &[], json!({"object": object}).to_string()).await
    }

    async fn post(&self, path: &str, body: Value) -> Told {
        self.call(Method::POST, path, &[], body.to_string()).await
    }

    fn pass(&self, ms: u64) {
        // Order: relaxed, see `start_in`.
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    async fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        self.serving.await.unwrap().unwrap();
        self.folder
    }
}

#[tokio::test]
async fn what_is_put_is_got_as_it_was_written_and_what_is_not_there_is_told_with_200() {
    let served = start(&[], None).await;
    let path = "/v1/memory/tenant/acme/session/s1";
    let put = served.call(Method::PUT, path, &[], r#"{"object":{"a": 1.50}}"#).await;
    assert_eq!((put.status, put.json()["ok"].as_bool()), (200, Some(true)));
    assert_eq!(put.headers["etag"], "\"1\"");
    let got = served.get("/v1/memory/tenant%2Facme/session%2Fs1").await;
    assert!(got.text.starts_with(r#"{"object":{"a": 1.50},"version":1,"#), "{}", got.text);
    assert_eq!(got.headers["x-tenant-id"], "public");
    let missing = served.get("/v1/memory/tenant/acme/session/s2").await;
    assert_eq!((missing.status, &*missing.text), (200, r#"{"error":"not_found"}"#));
    let deleted = served.call(Method::DELETE, path, &[], "").await;
    assert_eq!(deleted.json(), json!({"ok": true, "deleted": true}));
    assert_eq!(served.get(path).await.text, r#"{"error":"not_found"}"#);
    assert_eq!(served.get("/healthz").await.text, r#"{"ok":true}"#);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let served = start(&[], None).await;
    served.put("/v1/memory/n/k", json!({"a": 1})).await;
    let folder = served.stop().await;
    let served = start_in(folder, &[], None).await;
    assert_eq!(served.get("/v1/memory/n/k").await.json()["object"], json!({"a": 1}));
}

#[tokio::test]
async fn a_read_is_eventual_or_strong_and_nothing_else() {
    let served = start(&[], None).await;
    served.put("/v1/memory/n/k", json!({"a": 1})).await;
    for level in ["EVENTUAL", "STRONG"] {
        let got = served.call(Method::GET, "/v1/memory/n/k", &[("x-consistency-level", level)], "").await;
        assert_eq!(got.json()["object"], json!({"a": 1}), "{level}");
    }
    let wrong = served.call(Method::GET, "/v1/memory/n/k", &[("x-consistency-level", "strong")], "").await;
    assert_eq!(wrong.code(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn items_expire_by_their_own_time_else_by_the_gateways() {
    let served = start(&[("MEMORY_TTL_SECONDS", "10")], None).await;
    let put = |key: &str, more: &str| {
        let body = format!("{{\"object\":{{}}{more}}}");
        let path = format!("/v1/memory/n/{key}");
        let served = &served;
        async move { served.call(Method::PUT, &path, &[], body).await.json()["expires"].clone() }
    };
    assert_eq!(put("own", ",\"ttl_seconds\":5").await, "1970-01-01T00:16:45.000Z");
    assert_eq!(put("default", "").await, "1970-01-01T00:16:50.000Z");
    assert_eq!(put("never", ",\"ttl_seconds\":0").await, Value::Null);
    let keys = async || served.get("/v1/memory/n").await.json()["keys"].clone();
    assert_eq!(keys().await, json!(["default", "never", "own"]));
    served.pass(5000);
    assert_eq!(keys().await, json!(["default", "never"]));
    assert_eq!(served.get("/v1/memory/n/own").await.text, r#"{"error":"not_found"}"#);
    served.pass(5000);
    assert_eq!(keys().await, json!(["never"]));
}

#[tokio::test]
async fn a_full_quota_is_told_and_room_made_by_deleting() {
    let served = start(&[("MEMORY_QUOTA_MB", "1")], None).await;
    let big = json!({"a": "x".repeat(700_000)});
    assert_eq!(served.put("/v1/memory/n/a", big.clone()).await.status, 200);
    let refused = served.put("/v1/memory/n/b", big.clone()).await;
    assert_eq!(refused.code(), (507, "quota_exceeded".into()));
    assert_eq!(served.put("/v1/memory/n/a", big.clone()).await.status, 200, "in its own place");
    served.call(Method::DELETE, "/v1/memory/n/a", &[], "").await;
    assert_eq!(served.put("/v1/memory/n/b", big).await.status, 200);
    let page = served.get("/metrics").await.text;
    assert!(page.contains("\nmemory_quota_throttles_total 1\n"), "{page}");
    assert!(page.contains("\natp_memory_items 1\n"), "{page}");
    assert!(page.contains("atp_memory_requests_total{call=\"put\",status=\"507\"} 1\n"), "{page}");
}

#[tokio::test]
async fn two_writers_who_read_the_same_version_do_not_undo_each_other() {
    let served = start(&[], None).await;
    let put = |headers: &'static [(&str, &str)]| {
        served.call(Method::PUT, "/v1/memory/n/k", headers, r#"{"object":{}}"#)
    };
    assert_eq!(put(&[("if-none-match", "*")]).await.status, 200);
    let late = put(&[("if-none-match", "*")]).await;
    assert_eq!((late.code(), &late.json()["version"]), ((412, "precondition_failed".into()), &json!(1)));
    assert_eq!(put(&[("if-match", "\"1\"")]).await.json()["version"], 2);
    assert_eq!(put(&[("if-match", "\"1\"")]).await.status, 412);
    assert_eq!(put(&[("if-match", "1")]).await.status, 400);
}

fn tenant(name: &str) -> String {
    let hash = Sha256::digest(name).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("kind: Tenant\nname: {name}\nspec: {{ keys: [{{ sha256: {hash} }}] }}\n---\n")
}

#[tokio::test]
async fn tenants_see_their_own_and_nothing_of_each_other() {
    let declared = format!("{}{}", tenant("acme"), tenant("other"));
    let served = start(&[], Some(&declared)).await;
    let call = |key: &'static str, method: Method, path: &'static str, body: &'static str| {
        let served = &served;
        async move { served.call(method, path, &[("x-api-key", key)], body).await }
    };
    let body = r#"{"object":{"t":"blue plan for u42"}}"#;
    assert_eq!(call("acme", Method::PUT, "/v1/memory/user/u42", body).await.status, 200);
    let question = r#"{"q":"plan"}"#;
    for (key, found) in [("acme", 1), ("other", 0)] {
        let results = call(key, Method::POST, "/v1/memory/search", question).await.json();
        assert_eq!(results["results"].as_array().unwrap().len(), found, "{key}");
    }
    assert_eq!(call("other", Method::GET, "/v1/memory/user/u42", "").await.code().1, "not_found");
    assert_eq!(call("other", Method::GET, "/v1/memory/user", "").await.json()["keys"], json!([]));
    let subject = "/v1/compliance/gdpr/data-subject/u42";
    assert_eq!(call("other", Method::DELETE, subject, "").await.json()["deleted"], 0);
    assert_eq!(call("acme", Method::GET, subject, "").await.json()["records"][0]["key"], "u42");
    let log = call("other", Method::GET, "/v1/compliance/audit-log", "").await;
    assert!(!log.text.contains("acme"), "{}", log.text);
    let log = call("other", Method::GET, "/v1/compliance/audit-log?tenant_id=acme", "").await;
    assert_eq!(log.code(), (403, "permission_denied".into()));
    let denied = served.get("/v1/memory/user/u42").await;
    assert_eq!(denied.code(), (401, "authentication_failed".into()));
    let claim = [("x-api-key", "other"), ("x-tenant-id", "acme")];
    let denied = served.call(Method::GET, "/v1/memory/user/u42", &claim, "").await;
    assert_eq!(denied.code(), (403, "permission_denied".into()));
}

#[tokio::test]
async fn without_tenants_a_claim_says_nothing_and_the_answer_says_whose_memory_it_is() {
    let served = start(&[], None).await;
    let claim = [("x-tenant-id", "acme")];
    let put = served.call(Method::PUT, "/v1/memory/n/k", &claim, r#"{"object":{"a":1}}"#).await;
    assert_eq!((put.status, &put.headers["x-tenant-id"]), (200, &"public".parse().unwrap()));
    let got = served.get("/v1/memory/n/k").await;
    assert_eq!(
        (&got.json()["object"], &got.headers["x-tenant-id"]),
        (&json!({"a": 1}), &"public".parse().unwrap())
    );
}

#[derive(Debug)]
struct NotYet;

impl crate::identity::Directory for NotYet {
    fn find(&self, _: Option<&[u8; 32]>) -> Result<crate::identity::Found, crate::identity::Denied> {
        Err(crate::identity::Denied::NotReady)
    }
}

#[tokio::test]
async fn while_nobody_knows_the_tenants_nobody_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let tenants = Tenants::Known(Arc::new(NotYet));
    let config = Config::read(listen, folder.path().to_owned(), tenants, &|_| None).unwrap();
    let served = start_with(config, folder).await;
    let refused = served.get("/v1/memory/n/k").await;
    assert_eq!(refused.code(), (503, "not_ready".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(served.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_search_finds_words_within_a_namespace_best_first() {
    let served = start(&[], None).await;
    served.put("/v1/memory/notes/a", json!({"t": "the sky is blue"})).await;
    served.put("/v1/memory/notes/b", json!({"t": "blue, blue and blue"})).await;
    served.put("/v1/memory/other/c", json!({"t": "blue whale"})).await;
    let found = async |body: Value| {
        let told = served.post("/v1/memory/search", body).await.json();
        let results = told["results"].as_array().unwrap().clone();
        results
            .iter()
            .map(|row| format!("{}/{}", row["namespace"], row["key"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(json!({"q": "sky"})).await, ["notes/a"]);
    assert_eq!(found(json!({"q": "Blue", "namespace": "notes"})).await, ["notes/b", "notes/a"]);
    assert_eq!(found(json!({"q": "blue", "limit": 1})).await.len(), 1);
    assert_eq!(found(json!({"q": "nothing"})).await, [""; 0]);
    let first = served.post("/v1/memory/search", json!({"q": "blue", "limit": 2})).await.json();
    assert_eq!(first["cursor"], "2");
    assert_eq!(found(json!({"q": "blue", "limit": 2, "cursor": "2"})).await.len(), 1);
    let last = served.post("/v1/memory/search", json!({"q": "blue", "limit": 3})).await.json();
    assert_eq!(last["cursor"], Value::Null);
    assert_eq!(found(json!({"q": "blue", "cursor": "1000"})).await.len(), 0, "the deepest there is");
    for wrong in [
        json!({"q": ""}),
        json!({"q": "a", "limit": 21}),
        json!({"q": "a", "cursor": "1001"}),
        json!({"q": "a", "namespace": "a.b"}),
        json!({}),
    ] {
        assert_eq!(served.post("/v1/memory/search", wrong.clone()).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_that_it_is_whole() {
    let served = start(&[], None).await;
    served.put("/v1/memory/n/k", json!({"secret plan": true})).await;
    let strong = [("x-consistency-level", "STRONG")];
    served.call(Method::GET, "/v1/memory/n/k", &strong, "").await;
    served.pass(1000);
    served.call(Method::GET, "/v1/memory/n/none", &strong, "").await;
    let log = served.get("/v1/compliance/audit-log").await;
    assert!(!log.text.contains("plan"), "an event holds no value: {}", log.text);
    let log = log.json();
    let events = log["events"].as_array().unwrap();
    let kinds: Vec<&Value> = events.iter().map(|event| &event["event"]["event_type"]).collect();
    assert_eq!(kinds, ["memory_get_not_found", "memory_get", "memory_put"]);
    assert_eq!(events[0]["prev"], events[1]["hash"]);
    assert_eq!(events[2]["prev"], Value::Null);
    assert_eq!(events[2]["event"]["details"], json!({"size": 20, "version": 1}));
    assert_eq!(events[2]["event"]["timestamp"], "1970-01-01T00:16:40.000Z");
    let some = served.get("/v1/compliance/audit-log?start_time=1001&event_type=memory_get_not_found").await;
    assert_eq!(some.json()["events"].as_array().unwrap().len(), 1);
    let whole = served.get("/v1/compliance/audit-integrity").await.json();
    assert_eq!((&whole["integrity_valid"], &whole["events"]), (&json!(true), &json!(3)));
    assert_eq!(whole["head"], events[0]["hash"]);
    let report = served.get("/v1/compliance/soc2/access-report?start_date=1970-01-01").await.json();
    assert_eq!(report["events_by_type"]["memory_put"], 1);
    assert_eq!(report["total_events"], 3);
}

#[tokio::test]
async fn everything_about_a_subject_is_told_and_deleted_and_nothing_else() {
    let served = start(&[], None).await;
    for at in 0..25 {
        served.put(&format!("/v1/memory/user/u42/{at}"), json!({"at": at})).await;
    }
    served.put("/v1/memory/user/u421", json!({})).await;
    let path = "/v1/compliance/gdpr/data-subject/u42";
    let first = served.get(path).await.json();
    assert_eq!(first["records"].as_array().unwrap().len(), 20);
    let rest = served.get(&format!("{path}?cursor={}", first["cursor"].as_str().unwrap())).await.json();
    assert_eq!((rest["records"].as_array().unwrap().len(), &rest["cursor"]), (5, &Value::Null));
    assert_eq!(served.call(Method::DELETE, path, &[], "").await.json()["deleted"], 25);
    assert_eq!(served.get(path).await.json()["records"], json!([]));
    assert_eq!(served.get("/v1/memory/user").await.json()["keys"], json!(["u421"]));
    let log = served.get("/v1/compliance/audit-log?event_type=gdpr_data_deletion").await.json();
    assert_eq!(log["events"][0]["event"]["details"], json!({"items": 25}));
    assert_eq!(log["events"][0]["event"]["key"], "u42");
}

#[tokio::test]
async fn personal_data_is_kept_as_it_is_unless_the_gateway_is_to_redact_it() {
    let object = json!({"mail": "ann@example.com", "password": "x"});
    let keeping = start(&[], None).await;
    assert_eq!(keeping.put("/v1/memory/n/k", object.clone()).await.json()["pii_detected"], Value::Null);
    assert_eq!(keeping.get("/v1/memory/n/k").await.json()["object"], object);
    let detected = keeping.post("/v1/pii/detect", json!({"text": "mail ann@example.com"})).await.json();
    assert_eq!(detected, json!({"pii_detected": true, "pii_matches_count": 1, "pii_types": ["email"]}));
    let redacted = keeping.post("/v1/pii/redact", json!({"object": object})).await.json();
    let clean = json!({"mail": "[redacted-email]", "password": "[redacted]"});
    assert_eq!(redacted["object"], clean);
    assert_eq!(keeping.post("/v1/pii/redact", json!({})).await.status, 400);
    let redacting = start(&[("MEMORY_PII", "redact")], None).await;
    let put = redacting.put("/v1/memory/n/k", object).await.json();
    assert_eq!((&put["pii_matches_count"], &put["pii_types"]), (&json!(2), &json!(["email", "secret"])));
    assert_eq!(redacting.get("/v1/memory/n/k").await.json()["object"], clean);
    assert!(redacting.get("/metrics").await.text.contains("\nredactions_total 2\n"));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_by_a_stable_code() {
    let served = start(&[], None).await;
    let table: [(Method, &str, String, (u16, &str)); 8] = [
        (Method::GET, "/", String::new(), (404, "no_such_path")),
        (Method::POST, "/v1/memory/n/k", String::new(), (405, "method_not_allowed")),
        (Method::PUT, "/v1/memory/n/k", "{".into(), (400, "invalid_request")),
        (Method::PUT, "/v1/memory/n/k", "{\"object\":1}".into(), (400, "invalid_request")),
        (Method::PUT, "/v1/memory/n/..", "{\"object\":{}}".into(), (400, "invalid_request")),
        (Method::PUT, "/v1/memory/n/a%20b", "{\"object\":{}}".into(), (400, "invalid_request")),
        (Method::PUT, "/v1/memory/n/k", "x".repeat(1_100_000), (413, "too_large")),
        (
            Method::PUT,
            "/v1/memory/n/k",
            "{\"object\":{},\"ttl_seconds\":99999999999}".into(),
            (400, "invalid_request"),
        ),
    ];
    for (method, path, body, (status, code)) in table {
        let told = served.call(method.clone(), path, &[], body).await;
        assert_eq!(told.code(), (status, code.to_owned()), "{method} {path}");
        assert!(!told.json()["message"].as_str().unwrap().is_empty());
    }
    let zipped = [("content-encoding", "gzip")];
    assert_eq!(served.call(Method::PUT, "/v1/memory/n/k", &zipped, "x").await.status, 400);
}

#[tokio::test]
async fn a_page_of_somewhere_else_gets_nothing_from_this_machine() {
    let served = start(&[], None).await;
    for foreign in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        let told = served.call(Method::GET, "/v1/memory/n", &[foreign], "").await;
        assert_eq!(told.code(), (403, "permission_denied".into()), "{foreign:?}");
    }
    for own in [("host", "127.0.0.1:8080"), ("host", "[::1]:8080"), ("origin", "http://localhost:3000")] {
        assert_eq!(served.call(Method::GET, "/v1/memory/n", &[own], "").await.status, 200, "{own:?}");
    }
}

#[tokio::test]
async fn many_namespaces_in_a_minute_are_counted_as_an_anomaly_once() {
    let served = start(&[], None).await;
    for at in 0..20 {
        served.get(&format!("/v1/memory/n{at}/k")).await;
    }
    let page = served.get("/metrics").await.text;
    assert!(page.contains("\nmemory_access_anomalies_total 1\n"), "{page}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_gateway_ends() {
    let served = start(&[], None).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = "PUT /v1/memory/n/k HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
                content-length: 13\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = [0; 25];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"HTTP/1.1 100 Continue\r\n\r\n", "the body is waited for");
    let stopping = tokio::spawn(served.stop());
    tokio::task::yield_now().await;
    stream.write_all(b"{\"object\":{}}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let served = start_in(stopping.await.unwrap(), &[], None).await;
    assert_eq!(served.get("/v1/memory/n/k").await.json()["version"], 1);
}
