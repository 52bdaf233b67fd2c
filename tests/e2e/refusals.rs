//! What is refused before anybody is asked, and who may ask at all.

use crate::kit::{Atp, Caller, Folder, adapter, chat, h2, mock, tenant, until};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_has_no_effect_upstream() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = adapter("a", &mock.url(), &["m"]);
    let data = Atp::of_file_with(&folder, &resources, "limits: { body_bytes: 2048 }\n").await;
    let caller = Caller::new(data.clients);
    let long = format!(r#"{{"model":"m","messages":[],"user":"{}"}}"#, "x".repeat(2048));
    let too_large = caller.post(CHAT, long).await;
    assert_eq!((too_large.status, &*too_large.code()), (413, "request_too_large"));
    let packed = caller.with("content-encoding", "gzip").post(CHAT, chat("m", false)).await;
    assert_eq!((packed.status, &*packed.code()), (415, "unsupported_encoding"));
    for body in [
        "",
        "[]",
        "{",
        r#"{"messages":[]}"#,
        r#"{"model":5,"messages":[]}"#,
        r#"{"model":"m","model":"m","messages":[]}"#,
        r#"{"model":"m","messages":[]} x"#,
        "{\"model\":\"m\",\"messages\":[],\"user\":\"\u{1}\"}",
    ] {
        let refused = caller.post(CHAT, body.to_owned()).await;
        assert_eq!((refused.status, &*refused.code()), (400, "invalid_json"), "{body}: {}", refused.text);
    }
    let unknown = caller.chat("nobody").await;
    assert_eq!((unknown.status, &*unknown.code()), (404, "model_not_found"));
    assert!(unknown.text.contains('m'), "it names what there is: {}", unknown.text);
    assert_eq!(caller.get(CHAT).await.status, 405);
    assert_eq!(caller.get("/v2/anything").await.status, 404);
    assert_eq!(mock.stats().models.len(), 0, "{:?}", mock.stats());
    assert_eq!(caller.chat("m").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_served_without_being_announced() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m"])).await;
    let mut connection = h2(data.clients).await;
    let whole = connection.chat("m", false).await.whole().await;
    assert_eq!((whole.status, whole.header("x-atp-model")), (200, "m"));
    let streamed = connection.chat("m", true).await.whole().await;
    assert!(streamed.text.ends_with("data: [DONE]\n\n") && !streamed.is_cut, "{}", streamed.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_decide_who_is_served_and_a_new_one_counts_once_it_is_applied() {
    let (folder, mock) = (Folder::new(), mock().await);
    let up = Atp::up(&folder).await;
    let resources = [adapter("a", &mock.url(), &["m"]), tenant("acme", "first-secret")].concat();
    up.apply(&folder, &resources).await;
    let caller = Caller::new(up.clients);
    until("the tenant", async || caller.with_key("first-secret").chat("m").await.status == 200).await;
    let before = mock.model("m").requests;
    for refused in [caller.clone(), caller.with_key("wrong"), caller.with_key("second-secret")] {
        let answer = refused.chat("m").await;
        assert_eq!((answer.status, &*answer.code()), (401, "invalid_api_key"));
        assert!(!answer.text.contains("-secret"), "no key is repeated: {}", answer.text);
    }
    assert_eq!(mock.model("m").requests, before);
    up.apply(&folder, &[resources, tenant("other", "second-secret")].concat()).await;
    until("the new key", async || caller.with_key("second-secret").chat("m").await.status == 200).await;
    assert_eq!(caller.with("x-api-key", "second-secret").chat("m").await.status, 200);
    let keys = mock.requests();
    let headers = keys.iter().flat_map(|seen| &seen.headers);
    assert!(headers.clone().count() > 0);
    assert!(headers.clone().all(|(_, value)| !value.contains("-secret")), "no key goes upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tenants_a_page_of_somewhere_else_is_refused_and_with_them_the_key_decides() {
    let (folder, mock) = (Folder::new(), mock().await);
    let open = adapter("a", &mock.url(), &["m"]);
    let data = Atp::of_file(&folder, &open).await;
    let caller = Caller::new(data.clients);
    for (name, value, status) in [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 200),
    ] {
        let answer = caller.with(name, value).chat("m").await;
        assert_eq!(answer.status, status, "{name}: {value}: {}", answer.text);
        let models = caller.with(name, value).get("/v1/models").await;
        assert_eq!(models.status, status, "{name}: {value}");
    }
    let rebound = caller.at_host("evil.example").chat("m").await;
    assert_eq!((rebound.status, &*rebound.code()), (403, "foreign_origin"), "{}", rebound.text);
    assert_eq!(mock.model("m").requests, 1);
    let closed = Atp::of_file(&Folder::new(), &[open, tenant("acme", "secret")].concat()).await;
    let page = Caller::new(closed.clients).at_host("proxy.example").with("origin", "http://app.example");
    assert_eq!(page.chat("m").await.status, 401);
    assert_eq!(page.with_key("secret").chat("m").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_whose_owner_bound_its_name_to_a_data_plane_is_nobody_where_names_are_listed() {
    let (folder, mock) = (Folder::new(), mock().await);
    let public = "---\nkind: Tenant\nname: public\nspec: {}\n".to_owned();
    let set = [adapter("a", &mock.url(), &["m"]), tenant("acme", "secret"), public].concat();
    let resources = folder.write("resources.yaml", &set);
    let listen = "listen: { http: \"0.0.0.0:0\", admin: \"127.0.0.1:0\", cleartext: allowed";
    let settings = format!("resources: {}\n", resources.display());
    let open = Atp::with_listeners(&folder, &format!("{listen} }}\n"), &settings).await;
    open.until_ready().await;
    let listed = format!("{listen}, hosts: [router.example] }}\n");
    let data = Atp::with_listeners(&Folder::new(), &listed, &settings).await;
    data.until_ready().await;
    let caller = Caller::new(data.clients);
    let page = |caller: &Caller| caller.at_host("evil.example").with("origin", "http://evil.example");
    assert_eq!(page(&Caller::new(open.clients)).chat("m").await.status, 200, "it names itself as both");
    let refused = page(&caller).chat("m").await;
    assert_eq!((refused.status, &*refused.code()), (403, "foreign_origin"), "{}", refused.text);
    assert_eq!(page(&caller).get("/v1/models").await.status, 403);
    assert_eq!(caller.at_host("evil.example").with_key("secret").chat("m").await.status, 200);
    for ours in ["router.example", "Router.Example:80", "127.0.0.1", "localhost"] {
        assert_eq!(caller.at_host(ours).chat("m").await.status, 200, "{ours}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_anybody_is_served_beside_keys_a_page_of_somewhere_else_is_nobody() {
    let (folder, mock) = (Folder::new(), mock().await);
    let public = "---\nkind: Tenant\nname: public\nspec: {}\n".to_owned();
    let set = [adapter("a", &mock.url(), &["m"]), tenant("acme", "secret"), public].concat();
    let data = Atp::of_file(&folder, &set).await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.chat("m").await.status, 200);
    let page = caller.with("origin", "http://evil.example");
    let refused = page.chat("m").await;
    assert_eq!((refused.status, &*refused.code()), (403, "foreign_origin"), "{}", refused.text);
    assert_eq!(caller.at_host("evil.example").chat("m").await.status, 403);
    assert_eq!(page.with_key("secret").chat("m").await.status, 200);
    assert_eq!(caller.with("origin", "http://localhost:3000").chat("m").await.status, 200);
}
