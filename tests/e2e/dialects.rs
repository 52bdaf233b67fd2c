//! Two dialects on either side: callers of Messages before servers of chat completions, the other way round,
//! and each before its own.

use sdk_rust::{Ask, Client, Dispatch, Options, Piece, Policy};
use serde_json::{Value, json};

use crate::kit::{
    Answer, Atp, Caller, Folder, Page, adapter, atp, finished, mock, route, told, until, within,
};

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";

/// `name`, of Anthropic's kind, with each model at 1 USD a million tokens in, 2 out and 4 into a cache.
fn anthropic(name: &str, url: &str, models: &[&str]) -> String {
    let price = "{ in: 1.0, out: 2.0, cache_write: 4.0 }";
    let models = models.iter().map(|model| format!("    - {{ name: {model}, price: {price} }}\n"));
    let models: String = models.collect();
    let auth = "{ header: x-api-key, value: \"${PATH}\" }";
    format!(
        "---\nkind: Adapter\nname: {name}\nspec:\n  kind: anthropic\n  endpoint: {url}\n  auth: {auth}\n  \
         models:\n{models}"
    )
}

fn hello(model: &str, more: Value) -> String {
    let mut body =
        json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// Each event's data, where that is JSON.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

fn text_of_messages(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect()
}

fn text_of_chat(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_dialect_is_answered_by_either_kind_of_adapter() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (theirs, ours) = ("claude--tokens-3", "gpt--tokens-3");
    let resources = anthropic("a", &mock.url(), &[theirs]) + &adapter("o", &mock.url(), &[ours]);
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    for model in [theirs, ours] {
        let whole = caller.post(MESSAGES, hello(model, json!({}))).await;
        assert_eq!(whole.status, 200, "{}", whole.text);
        assert_eq!(whole.json()["content"], json!([{"type": "text", "text": "tok1 tok2 tok3"}]), "{model}");
        assert_eq!(whole.json()["usage"]["output_tokens"], 3);
        assert_eq!(whole.header("request-id"), whole.header("x-request-id"));
        let streamed = caller.post(MESSAGES, hello(model, json!({"stream": true}))).await;
        let told = events(&streamed);
        assert_eq!(text_of_messages(&told), "tok1 tok2 tok3", "{}", streamed.text);
        assert_eq!(told.last().unwrap()["type"], "message_stop");
        assert!(!streamed.is_cut && !streamed.text.contains("[DONE]"));

        let whole = caller.post(CHAT, hello(model, json!({}))).await;
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "tok1 tok2 tok3", "{}", whole.text);
        assert_eq!((whole.json()["usage"]["completion_tokens"].as_u64(), whole.status), (Some(3), 200));
        let streamed = caller.post(CHAT, hello(model, json!({"stream": true}))).await;
        assert_eq!(text_of_chat(&events(&streamed)), "tok1 tok2 tok3", "{}", streamed.text);
        assert!(streamed.text.ends_with("data: [DONE]\n\n") && !streamed.text.contains("prompt_tokens"));
        let asked = caller.ask(&json!({"model": model})).await;
        assert!(asked.text.contains(r#""text":"tok1 tok2 tok3","model_used""#), "{}", asked.text);
    }
    let page = Page::of(data.admin).await;
    assert_eq!(page.sum("atp_model_failures_total"), 0);
    let requests = mock.requests();
    assert_eq!(requests.len(), 10);
    for seen in &requests {
        let header = |name: &str| {
            let found = seen.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let is_theirs = seen.start.contains("/messages");
        assert_eq!(header("anthropic-version"), is_theirs.then(|| "2023-06-01".into()), "{}", seen.start);
        assert_eq!(header("x-api-key").is_some(), is_theirs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_called_and_answered_across_dialects_with_the_arguments_as_they_were() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (theirs, ours) = ("claude--tokens-2", "gpt--tokens-2");
    let resources = anthropic("a", &mock.url(), &[theirs]) + &adapter("o", &mock.url(), &[ours]);
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    let schema = json!({"type": "object", "properties": {}});
    let own = json!([{"name": "weather", "input_schema": schema}]);
    let functions = json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);

    let called = caller.post(MESSAGES, hello(ours, json!({"tools": own, "stream": true}))).await;
    let told = events(&called);
    let arguments: String = told.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(arguments, r#"{"input":"tok1 tok2"}"#, "{}", called.text);
    let block = &told.iter().find(|event| event["type"] == "content_block_start").unwrap()["content_block"];
    assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("weather")));
    let said = json!([{"type": "tool_use", "id": block["id"], "name": "weather", "input": {"input": "x"}}]);
    let result = json!([{"type": "tool_result", "tool_use_id": block["id"], "content": "12 C"}]);
    let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": said},
        {"role": "user", "content": result}]);
    let answered = caller.post(MESSAGES, hello(ours, json!({"tools": own, "messages": messages}))).await;
    assert_eq!(answered.json()["content"][0]["text"], "tok1 tok2", "{}", answered.text);

    let called = caller.post(CHAT, hello(theirs, json!({"tools": functions}))).await.json();
    let call = &called["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], r#"{"input":"tok1 tok2"}"#);
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    let messages = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "12 C"}]);
    let more = json!({"tools": functions, "messages": messages, "stream": true});
    let answered = caller.post(CHAT, hello(theirs, more)).await;
    assert_eq!(text_of_chat(&events(&answered)), "tok1 tok2", "{}", answered.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_anthropic_adapter_counts_is_billed_to_the_token_in_either_dialect() {
    let (folder, mock) = (Folder::new(), mock().await);
    let model = "claude--tokens-5";
    let data = Atp::of_file(&folder, &anthropic("a", &mock.url(), &[model])).await;
    let caller = Caller::new(data.clients);
    let system = json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]);
    let whole = caller.post(MESSAGES, hello(model, json!({"system": system}))).await;
    let usage = &whole.json()["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    let (plain, written) = (count("input_tokens"), count("cache_creation_input_tokens"));
    assert!(plain > 0 && written > 0 && count("output_tokens") == 5);
    let cost = plain + written * 4 + 5 * 2;
    assert_eq!(whole.header("x-atp-cost-usd-micros"), cost.to_string());
    let messages = json!([{"role": "system", "content": system}, {"role": "user", "content": "hi"}]);
    let chat = caller.post(CHAT, hello(model, json!({"messages": messages}))).await;
    let details = &chat.json()["usage"]["prompt_tokens_details"];
    assert!(details["cache_write_tokens"].as_u64().unwrap() > 0, "{}", chat.text);
    let streamed = caller.with("te", "trailers").post(MESSAGES, hello(model, json!({"stream": true}))).await;
    assert_eq!(events(&streamed).last().unwrap()["type"], "message_stop");
    let page = Page::of(data.admin).await;
    assert_eq!(page.sum("atp_model_output_tokens_estimated_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_anthropic_before_anthropic_is_passed_on_to_the_byte() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &anthropic("a", &mock.url(), &["claude"])).await;
    let body = r#"{ "thinking":{"type":"adaptive"}, "new_key" : [1.0, 2e3], "model":"claude","max_tokens":9,
        "messages":[{"role":"user","content":"hi é"}] }"#;
    let caller = Caller::new(data.clients).with("anthropic-beta", "new-thing-1").with("x-api-key", "callers");
    assert_eq!(caller.post(MESSAGES, body).await.status, 200);
    let seen = mock.requests().pop().unwrap();
    assert_eq!(seen.body.as_deref(), Some(body));
    let header = |name: &str| seen.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    assert_eq!(header("anthropic-beta"), Some("new-thing-1"));
    assert_ne!(header("x-api-key"), Some("callers"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_ends_in_an_error_event_of_the_callers_dialect_and_never_cleanly() {
    let (folder, mock) = (Folder::new(), mock().await);
    let words = ["cut-after-2", "sse-error-after-2", "malformed-sse-after-2", "end-after-2"];
    let theirs: Vec<String> = words.iter().map(|words| format!("claude--{words}")).collect();
    let ours: Vec<String> = words.iter().map(|words| format!("gpt--{words}")).collect();
    let mut resources = String::new();
    for (at, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        resources += &anthropic(&format!("a{at}"), &mock.url(), &[theirs]);
        resources += &adapter(&format!("o{at}"), &mock.url(), &[ours]);
    }
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    for model in theirs.iter().chain(&ours) {
        let messages = caller.post(MESSAGES, hello(model, json!({"stream": true}))).await;
        assert!(messages.is_cut, "{model}: {}", messages.text);
        let told = events(&messages);
        assert_eq!(told.last().unwrap()["type"], "error", "{model}: {}", messages.text);
        assert_eq!(told.iter().filter(|event| event["type"] == "error").count(), 1);
        assert!(!messages.text.contains("message_stop"), "{model}");
        let chat = caller.post(CHAT, hello(model, json!({"stream": true}))).await;
        assert!(chat.is_cut && !chat.text.contains("[DONE]"), "{model}: {}", chat.text);
        let errors = events(&chat).iter().filter(|event| event["error"].is_object()).count();
        assert_eq!(errors, 1, "{model}: {}", chat.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_provider_is_left_for_another_and_told_to_each_caller_in_its_words() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = anthropic("full", &mock.url(), &["claude--status-529"])
        + &anthropic("lost", &mock.url(), &["claude--status-404"])
        + &adapter("o", &mock.url(), &["gpt--tokens-3"])
        + &route("both", &[("full", "claude--status-529", 1000), ("o", "gpt--tokens-3", 1)], &[]);
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    let answered = caller.post(MESSAGES, hello("both", json!({}))).await;
    assert_eq!((answered.status, answered.header("x-atp-adapter")), (200, "o"), "{}", answered.text);
    let refused = caller.post(MESSAGES, hello("claude--status-529", json!({}))).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (529, &json!("overloaded_error")));
    assert_eq!(refused.json()["request_id"], refused.header("request-id"));
    let refused = caller.post(CHAT, hello("claude--status-529", json!({}))).await;
    assert_eq!((refused.status, &*refused.code()), (503, "upstream_overloaded"));
    // The adapter's own refusal passes, in the caller's words.
    let refused = caller.post(CHAT, hello("claude--status-404", json!({}))).await;
    assert_eq!((refused.status, &*refused.code()), (404, "not_found_error"), "{}", refused.text);
    let unsayable = json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]});
    let refused = caller.post(MESSAGES, hello("gpt--tokens-3", unsayable)).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    for (path, status) in [("/v1/messages/other", 404), (MESSAGES, 405)] {
        let refused = caller.get(path).await;
        assert_eq!((refused.status, &refused.json()["type"]), (status, &json!("error")), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_counted_by_who_knows_and_estimated_by_who_does_not() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = anthropic("a", &mock.url(), &["claude"]) + &adapter("o", &mock.url(), &["gpt"]);
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    let count = async |model: &str| caller.post("/v1/messages/count_tokens", hello(model, json!({}))).await;
    let (known, guessed) = (count("claude").await, count("gpt").await);
    let messages = json!([{"role": "user", "content": "hi"}]).to_string();
    assert_eq!(known.json()["input_tokens"], messages.len().div_ceil(4));
    assert_eq!((known.header("x-atp-estimated"), guessed.header("x-atp-estimated")), ("", "true"));
    assert!(guessed.json()["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(mock.stats().models.len(), 0, "counting is no work of a model");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_a_translated_stream_ends_the_work_upstream() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (theirs, ours) = ("claude--tokens-10000--token-rate-50", "gpt--tokens-10000--token-rate-50");
    let resources = anthropic("a", &mock.url(), &[theirs]) + &adapter("o", &mock.url(), &[ours]);
    let data = Atp::of_file(&folder, &resources).await;
    let caller = Caller::new(data.clients);
    for (path, model) in [(CHAT, theirs), (MESSAGES, ours)] {
        let mut flow = caller.flow(path, hello(model, json!({"stream": true, "max_tokens": 10000}))).await;
        flow.read_to("tok").await;
        drop(flow);
        until("the upstream to notice", async || mock.model(model).cancelled == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_adapters_are_right_as_they_stand() {
    let folder = Folder::new();
    for name in ["anthropic", "ollama", "openai", "resources"] {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/").to_owned() + name + ".yaml";
        let mut command = atp(&folder);
        command.args(["ctl", "validate", "--offline", "-f", &file]);
        let output = finished(command).await;
        assert!(output.status.success(), "{name}: {}", told(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_and_a_fan_out_are_answered_by_either_kind_and_by_a_persona_over_it() {
    let (folder, mock) = (Folder::new(), mock().await);
    let (theirs, ours) = ("claude--tokens-3", "gpt--tokens-3");
    let persona = format!(
        "---\nkind: Adapter\nname: critic\nspec:\n  kind: persona\n  \
         persona: {{ system: Be harsh., over: {{ adapter: a, model: {theirs} }} }}\n  \
         models: [ {{ name: critic }} ]\n"
    );
    let resources = anthropic("a", &mock.url(), &[theirs]) + &adapter("o", &mock.url(), &[ours]) + &persona;
    let data = Atp::of_file(&folder, &resources).await;
    let url = format!("http://{}", data.clients);
    let client = within("a session", Client::connect(&url, Options::default())).await.expect("it is granted");
    let models = [theirs, ours, "critic"];
    for model in models {
        let ask = Ask { model: Some(model.into()), ..Ask::new("hi") };
        let mut answer = client.ask(ask).await.expect("room");
        let (mut text, mut done) = (String::new(), None);
        while let Some(piece) = within("a piece", answer.next()).await.expect("no refusal") {
            match piece {
                Piece::Text(piece) => text.push_str(&piece),
                Piece::Done(last) => done = Some(last),
                _ => {}
            }
        }
        let done = done.expect("a last message");
        assert_eq!(
            (&*text, &*done.text, done.tokens_out),
            ("tok1 tok2 tok3", "tok1 tok2 tok3", 3),
            "{model}"
        );
    }
    let harsh = json!({"role": "system", "content": "Be harsh."});
    let asked = |at: usize| {
        serde_json::from_str::<Value>(mock.requests()[at].body.as_deref().expect("text")).expect("JSON")
    };
    assert!(asked(2)["system"].to_string().contains("Be harsh."), "in Anthropic's words: {}", asked(2));
    assert_ne!(asked(1)["messages"][0], harsh);

    let dispatch = Dispatch::new("hi", models).with_policy(Policy::Consensus);
    let mut answer = client.dispatch(&dispatch).await.expect("room");
    let mut ends = Vec::new();
    let done = loop {
        match within("a piece", answer.next()).await.expect("no refusal").expect("a last message") {
            Piece::LaneEnd(end) => ends.push(end.persona_id),
            Piece::Done(done) => break done,
            _ => {}
        }
    };
    assert_eq!((&*done.text, &done.content["agreed"]), ("tok1 tok2 tok3", &json!(true)), "{}", done.content);
    let told = done.content["lanes"].as_array().expect("a list");
    assert!(told.len() == 3 && ends.len() >= 2, "two of three agree: {ends:?} {told:?}");
    assert!((5..=6).contains(&mock.requests().len()), "one may be given up before it is asked");
    let page = Page::of(data.admin).await;
    let out: u64 =
        9 + told.iter().map(|lane| lane["stats"]["tokens_out"].as_u64().expect("a number")).sum::<u64>();
    assert_eq!(page.sum("atp_tenant_output_tokens_total"), out, "each answer is billed once");
}
