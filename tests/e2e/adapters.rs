//! Adapters of other kinds than OpenAI's, each before a server of its shape: Ollama's own API, a persona
//! over it, and names whose addresses come and go.

mod names;
mod ollama;

use crate::kit::{Atp, Caller, Folder, Page, until};
use names::Names;
use ollama::Ollama;

fn spec(kind: &str, name: &str, endpoint: &str, model: &str) -> String {
    format!(
        "---\nkind: Adapter\nname: {name}\nspec:\n  kind: {kind}\n  endpoint: {endpoint}\n  \
         models: [ {{ name: {model}, price: {{ in: 1.0, out: 2.0 }} }} ]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ollama_answers_in_openais_words_streamed_and_whole_and_is_billed_by_its_counts() {
    let (folder, ollama) = (Folder::new(), Ollama::start("127.0.0.1:0").await);
    let data = Atp::of_file(&folder, &spec("ollama", "o", &ollama.url(), "llama")).await;
    let caller = Caller::new(data.clients);
    let whole = caller.chat("llama").await;
    assert_eq!(whole.status, 200, "{}", whole.text);
    assert!(whole.text.contains(r#""content":"Hello there""#), "{}", whole.text);
    assert_eq!(whole.header("x-atp-cost-usd-micros"), "30");
    let streamed = caller.stream("llama").await.whole().await;
    assert!(streamed.text.ends_with("data: [DONE]\n\n"), "{}", streamed.text);
    assert!(streamed.text.contains(r#""content":"Hello""#), "{}", streamed.text);
    assert!(ollama.last().contains(r#""stream":true"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ollamas_refusal_keeps_its_status_and_says_why() {
    let (folder, ollama) = (Folder::new(), Ollama::start("127.0.0.1:0").await);
    let data = Atp::of_file(&folder, &spec("ollama", "o", &ollama.url(), "absent")).await;
    let refused = Caller::new(data.clients).chat("absent").await;
    assert_eq!(refused.status, 404);
    assert!(refused.text.contains("model 'absent' not found"), "{}", refused.text);
    // What is none of its operations is the caller's mistake, and no reason to think ill of the adapter.
    let embedding =
        Caller::new(data.clients).post("/v1/embeddings", r#"{"model":"absent","input":"x"}"#).await;
    assert_eq!(embedding.status, 400, "{}", embedding.text);
    assert_eq!(Page::of(data.admin).await.value("circuits_open"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persona_speaks_before_the_caller_and_shares_its_models_adapter() {
    let (folder, ollama) = (Folder::new(), Ollama::start("127.0.0.1:0").await);
    let persona = "---\nkind: Adapter\nname: critic\nspec:\n  kind: persona\n  \
        persona: { system: Be harsh., temperature: 0.5, over: { adapter: o, model: llama } }\n  \
        models: [ { name: critic } ]\n";
    let resources = spec("ollama", "o", &ollama.url(), "llama") + persona;
    let data = Atp::of_file(&folder, &resources).await;
    let answer = Caller::new(data.clients).chat("critic").await;
    assert_eq!((answer.status, answer.header("x-atp-adapter")), (200, "critic"), "{}", answer.text);
    assert_eq!(answer.header("x-atp-cost-usd-micros"), "30", "at the price of its model");
    let asked = ollama.last();
    assert!(asked.contains(r#"{"content":"Be harsh.","role":"system"}"#), "{asked}");
    assert!(asked.contains(r#""temperature":0.5"#) && asked.contains(r#""model":"llama""#), "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_a_name_come_and_go_and_a_dead_name_server_changes_nothing() {
    let folder = Folder::new();
    let first = Ollama::start("127.0.0.1:0").await;
    let port = first.address.port();
    let second = Ollama::start(&format!("127.0.0.2:{port}")).await;
    let names = Names::start().await;
    names.set("models.test", &["127.0.0.1"]);
    let endpoint = format!("dns://models.test:{port}");
    let settings = format!("dns_servers: [ \"{}\" ]\n", names.address);
    let data = Atp::of_file_with(&folder, &spec("ollama", "o", &endpoint, "llama"), &settings).await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.chat("llama").await.status, 200);
    assert_eq!((first.count(), second.count()), (1, 0));

    names.set("models.test", &["127.0.0.1", "127.0.0.2"]);
    until("the second gets traffic", async || {
        assert_eq!(caller.chat("llama").await.status, 200);
        second.count() > 0
    })
    .await;
    names.set("models.test", &["127.0.0.2"]);
    until("the first is lost", async || addresses(&data).await == 1).await;
    let before = (first.count(), second.count());
    for _ in 0..5 {
        assert_eq!(caller.chat("llama").await.status, 200);
    }
    assert_eq!((first.count(), second.count()), (before.0, before.1 + 5));

    names.fail();
    until("a look fails", async || Page::of(data.admin).await.value("atp_adapter_lookup_failures_total") > 0)
        .await;
    assert_eq!((caller.chat("llama").await.status, addresses(&data).await), (200, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_record_says_ports_and_an_address_nobody_listens_at_costs_no_answer() {
    let folder = Folder::new();
    let ollama = Ollama::start("127.0.0.1:0").await;
    let dead =
        crate::faults::dead_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let names = Names::start().await;
    names.set("a.test", &["127.0.0.1"]);
    names.set_service("_http._tcp.models.test", &[("a.test", ollama.address.port()), ("a.test", dead)]);
    let settings = format!("dns_servers: [ \"{}\" ]\n", names.address);
    let adapter = spec("ollama", "o", "srv://_http._tcp.models.test", "llama");
    let data = Atp::of_file_with(&folder, &adapter, &settings).await;
    let caller = Caller::new(data.clients);
    for _ in 0..5 {
        assert_eq!(caller.chat("llama").await.status, 200);
    }
    assert_eq!((ollama.count(), addresses(&data).await), (5, 2));
}

async fn addresses(data: &Atp) -> u64 {
    Page::of(data.admin).await.sum("atp_upstream_addresses")
}
