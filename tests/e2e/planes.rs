//! Two planes: what is applied is served, and what is served outlives whoever applied it.

use std::net::SocketAddr;

use crate::kit::{Atp, Caller, Folder, adapter, mock, told, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ctl_applies_is_served() {
    let (folder, mock) = (Folder::new(), mock().await);
    let up = Atp::up(&folder).await;
    let caller = Caller::new(up.clients);
    assert_eq!(caller.chat("m").await.status, 404);
    up.apply(&folder, &adapter("a", &mock.url(), &["m"])).await;
    until("the new model", async || caller.chat("m").await.status == 200).await;
    assert!(mock.model("m").requests >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mistake_and_nothing_is_applied_and_every_mistake_is_told_with_its_place() {
    let folder = Folder::new();
    let up = Atp::up(&folder).await;
    let text = format!(
        "{}---\nkind: Route\nname: r\nspec:\n  candidates: [ {{ adapter: nobody, model: m }} ]\n",
        adapter("good", "http://127.0.0.1:9", &["fresh"])
    );
    let file = folder.write("wrong.yaml", &text);
    let output = up.ctl(&folder, &["apply", "-f", &file.display().to_string()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("wrong.yaml:13:"), "{}", told(&output));
    assert!(told(&output).contains("there is no Adapter `nobody`"), "{}", told(&output));
    let file = folder.write("worse.yaml", "kind: Adapter\nname: A\nspec:\n  kind: opnai\n  models: 5\n");
    let output = up.ctl(&folder, &["apply", "-f", &file.display().to_string()]).await;
    for place in ["worse.yaml:2:", "worse.yaml:4:", "worse.yaml:5:"] {
        assert!(told(&output).contains(place), "{place} in {}", told(&output));
    }
    let list = up.ctl(&folder, &["get", "all"]).await;
    assert!(!told(&list).contains("good"), "{}", told(&list));
    assert_eq!(Caller::new(up.clients).chat("fresh").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_outlives_its_control_plane_and_comes_back_on_the_newest_set() {
    let mock = mock().await;
    let (own, others) = (Folder::new(), Folder::new());
    let control = Atp::controlplane(&own, ANY).await;
    control.apply(&own, &adapter("a", &mock.url(), &["m"])).await;
    let data = Atp::dataplane(&others, &follows(&own, control.grpc)).await;
    data.until_ready().await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.chat("m").await.status, 200);
    let grpc = control.grpc;
    control.kill().await;
    until("the loss to be noticed", async || caller.get("/healthz").await.json()["status"] == "degraded")
        .await;
    assert_eq!(caller.chat("m").await.status, 200);
    assert_eq!(caller.get("/readyz").await.status, 200, "what is served is still good");
    let control = Atp::controlplane(&own, grpc).await;
    control.apply(&own, &adapter("a", &mock.url(), &["m", "newer"])).await;
    until("the newest set", async || caller.chat("newer").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_that_starts_alone_serves_the_last_set_that_was_good() {
    let mock = mock().await;
    let (own, others) = (Folder::new(), Folder::new());
    let control = Atp::controlplane(&own, ANY).await;
    control.apply(&own, &adapter("a", &mock.url(), &["m"])).await;
    let settings = follows(&own, control.grpc);
    let data = Atp::dataplane(&others, &settings).await;
    data.until_ready().await;
    until("the set on disk", async || others.data().join("sets/local/set.bin").exists()).await;
    control.kill().await;
    data.kill().await;
    let data = Atp::dataplane(&others, &settings).await;
    data.until_ready().await;
    assert_eq!(Caller::new(data.clients).chat("m").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_any_set_it_is_alive_and_not_ready() {
    let folder = Folder::new();
    folder.write("token", "nothing");
    let nowhere = crate::faults::dead_url();
    let settings = format!("control_plane: {{ url: \"{nowhere}\", token_file: token }}\n");
    let data = Atp::dataplane(&folder, &settings).await;
    let caller = Caller::new(data.clients);
    assert_eq!(caller.get("/healthz").await.status, 200);
    let ready = caller.get("/readyz").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "1"));
    assert_eq!(ready.json()["ready"], false);
    let refused = caller.chat("m").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "not_ready"));
    assert_eq!(Caller::new(data.admin).get("/healthz/ready").await.status, 503);
    assert_eq!(Caller::new(data.admin).get("/healthz/live").await.status, 200);
}

/// Settings of a data plane whose control plane keeps its data in `folder`.
pub fn follows(folder: &Folder, grpc: SocketAddr) -> String {
    let token = folder.data().join("dataplane.token");
    format!("control_plane: {{ url: \"http://{grpc}\", token_file: \"{}\" }}\n", token.display())
}

pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
