//! Tools over MCP where its callers are behind TLS: by the client library, from the terminal, over HTTP/3.

use http::Request;
use loadtest::mock::Mock;
use sdk_rust::{Mcp, Tls};
use serde_json::{Map, Value, json};

use crate::kit::{
    Atp, Authority, Folder, Page, Pair, adapter, atp, finished, h3, mock, tenant, told, within,
};

const MODEL: &str = "mock--tokens-5";
const WORDS: &str = "tok1 tok2 tok3 tok4 tok5";

/// A data plane that serves nobody without a certificate, and one of its tenants.
struct Served {
    atp: Atp,
    authority: Authority,
    pair: Pair,
    folder: Folder,
    mock: Mock,
}

impl Served {
    async fn new() -> Served {
        let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
        let Pair { cert, key } = authority.server();
        let file = |name: &str, content: &str| folder.write(name, content).display().to_string();
        let (cert, key) = (file("server.pem", &cert), file("server.key", &key));
        let settings = format!(
            "tls: {{ listen: \"127.0.0.1:0\", cert: {cert}, key: {key}, client_ca: {}, \
             client_auth: required }}\n",
            file("ca.pem", &authority.pem)
        );
        let pair = authority.client(&["spiffe://atp.local/tenant/acme"]);
        file("acme.pem", &pair.cert);
        file("acme.key", &pair.key);
        let resources = adapter("a", &mock.url(), &[MODEL]) + &tenant("acme", "acme-key");
        let atp = Atp::of_file_with(&folder, &resources, &settings).await;
        Served { atp, authority, pair, folder, mock }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Requests of the tenant whose certificate was shown.
    async fn served(&self) -> u64 {
        Page::of(self.atp.admin).await.value("atp_tenant_requests_total{tenant=\"acme\"}")
    }
}

fn arguments(of: Value) -> Map<String, Value> {
    of.as_object().expect("an object").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_listed_and_called_over_tls_as_the_tenant_of_the_certificate() {
    let served = Served::new().await;
    let url = format!("https://{}", served.atp.https().await);
    let (cert, key) = (Some(served.file("acme.pem")), Some(served.file("acme.key")));
    let tls = Tls { ca: Some(served.file("ca.pem")), cert, key };
    let known = Mcp { url: url.clone(), key: None, tls: tls.clone() };
    let tools = within("the tools", known.tools()).await.expect("they are listed");
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"route.complete") && names.contains(&"adapter.a"), "{names:?}");
    let mut partial = String::new();
    let asked = arguments(json!({"prompt": "hi", "max_tokens": 5}));
    let call = known.call("adapter.a", asked, |text| partial.push_str(text));
    let result = within("the call", call).await.expect("it is answered");
    assert_eq!(result["content"][0]["text"], WORDS, "{result}");
    assert_eq!(partial, WORDS, "told as it came");
    assert_eq!(served.served().await, 1);
    assert_eq!(served.mock.model(MODEL).requests, 1);

    let unknown = Mcp { url, key: None, tls: Tls { cert: None, key: None, ..tls } };
    let refused = within("a refusal", unknown.tools()).await;
    assert!(refused.is_err(), "without a certificate nobody is served: {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_reaches_tools_and_answers_behind_tls() {
    let served = Served::new().await;
    let url = format!("https://{}", served.atp.https().await);
    let file = |name: &str| served.file(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("acme.pem"), file("acme.key"));
    let whom = ["--url", &url, "--ca", &ca, "--cert", &cert, "--cert-key", &key];
    let asks: [&[&str]; 3] =
        [&["mcp", "call", "route.complete", "prompt=hi"], &["mcp", "list"], &["ask", "hi", "--model", MODEL]];
    for (ask, expected) in asks.into_iter().zip([WORDS, "route.complete: ", WORDS]) {
        let mut command = atp(&served.folder);
        command.args(ask).args(whom);
        let output = finished(command).await;
        assert!(output.status.success() && told(&output).contains(expected), "{ask:?}: {}", told(&output));
    }
    assert_eq!(served.served().await, 2, "to list tools asks no model");
    let mut command = atp(&served.folder);
    command.args(["mcp", "list", "--url", &url, "--ca", &ca]);
    let output = finished(command).await;
    assert!(!output.status.success(), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_is_called_over_http3() {
    let served = Served::new().await;
    let tls = served.authority.trusted_by(Some(&served.pair));
    let mut third = h3(served.atp.quic().await, tls).await.expect("HTTP/3");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "adapter.a", "arguments": {"prompt": "hi", "max_tokens": 5}, "_meta": meta},
    });
    let request = Request::post("https://localhost/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "adapter.a")
        .body(())
        .expect("a request");
    let answer = third.send(request, Some(body.to_string().into())).await.whole().await;
    assert_eq!((answer.status, answer.is_cut), (200, false), "{}", answer.text);
    let data = answer.text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
    let last: Value = serde_json::from_str(data.unwrap_or(&answer.text)).expect("JSON");
    assert_eq!((&last["id"], &last["result"]["content"][0]["text"]), (&json!(7), &json!(WORDS)), "{last}");
    assert_eq!(served.served().await, 1);
}
