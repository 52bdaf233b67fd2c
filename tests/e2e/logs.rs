//! Logs as operators collect them: lines of JSON, and nothing of what callers say or are in any of them,
//! however much is asked to be logged.

use serde_json::{Value, json};

use crate::kit::{Atp, Caller, Folder, adapter, atp, finished, mock, tenant, told, until};
use crate::sessions::Hand;

const KEY: &str = "sk-plant-9f8E7d6C5b4A3";
const PROMPT: &str = "PLANTEDPROMPT of nobody's business";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_json_and_hold_no_key_and_no_prompt_even_where_everything_is_logged() {
    let (folder, mock) = (Folder::new(), mock().await);
    let env = [("ATP_LOG_FORMAT", "json"), ("RUST_LOG", "trace")];
    let data = Atp::up_as(&folder, "drain: { delay_ms: 0, grace_ms: 1000 }\n", &env).await;
    let public = "---\nkind: Tenant\nname: public\nspec: {}\n";
    data.apply(&folder, &[&adapter("a", &mock.url(), &["m"]), &tenant("acme", KEY), public].concat()).await;
    let caller = Caller::new(data.clients).with_key(KEY);
    until("the tenant", async || caller.get("/v1/models").await.text.contains("\"m\"")).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": PROMPT}]}).to_string();
    assert_eq!(caller.post("/v1/chat/completions", body.clone()).await.status, 200);
    let broken = body.replace('}', "");
    assert_eq!(caller.post("/v1/chat/completions", broken.clone()).await.status, 400);
    let wrong = caller.with("x-api-key", KEY).with("cookie", "session=PLANTEDCOOKIE1");
    assert_eq!(wrong.post("/v1/ask", json!({"prompt": PROMPT, "quality": 7}).to_string()).await.status, 400);
    caller.get(&format!("/v1/models/{KEY}?api_key={KEY}")).await;
    let mut hand = Hand::new(&data, json!({"key": KEY})).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": PROMPT}]});
    let told = hand.ask_of(json!({}), body).await;
    assert_eq!(told["payload"]["type"], "agent.result.final", "{told}");
    drop(hand);
    data.signal("-TERM");
    until("its last words", async || data.said().contains("\"message\":\"out\"")).await;
    let said = data.said();
    for planted in [KEY, "PLANTED", "plant-9f8E"] {
        assert!(!said.contains(planted), "{planted}");
    }
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('{')).collect();
    let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let parsed: Vec<Value> = parsed.collect();
    assert!(parsed.len() > 10 && parsed.len() + 2 >= lines.len(), "{} of {}", parsed.len(), lines.len());
    for line in &parsed {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        let is_ours = ["dataplane", "controlplane", "memory", "atp"];
        let is_ours = is_ours.iter().any(|own| line["target"].as_str().is_some_and(|at| at.starts_with(own)));
        assert!(is_ours || ["INFO", "WARN", "ERROR"].iter().any(|level| line["level"] == *level), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_say_how_lines_look_and_the_command_line_says_it_again() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data =
        Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), "log: { format: json }\n").await;
    assert!(data.said().contains("\"message\":\"clients: http://"), "{}", data.said());
    let settings = folder.write("wrong.yaml", "resources: r.yaml\nlog: { format: xml }\n");
    let mut command = atp(&folder);
    command.args(["dataplane", "--config"]).arg(settings);
    let output = finished(command).await;
    assert!(told(&output).contains("log.format"), "{}", told(&output));
    let settings = "resources: resources.yaml\nlog: { format: json }\n";
    let plain = Atp::dataplane_as(&folder, settings, &[("ATP_LOG_FORMAT", "text")]).await;
    assert!(plain.said().contains(" INFO clients: http://"), "{}", plain.said());
}
