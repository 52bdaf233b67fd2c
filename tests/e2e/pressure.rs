//! What is shed, and in which order, when a data plane holds as much as it may.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::kit::{Atp, Caller, Folder, Page, adapter, key_hash, mock, until, within};

const HANGS: &str = "m--hang";
const SLOW: &str = "m--first-token-ms-20000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worse_is_shed_before_better_before_a_body_is_read_and_all_is_well_again_afterwards() {
    let (folder, mock) = (Folder::new(), mock().await);
    let tenants = ["gold", "silver", "bronze"].map(|qos| {
        let hash = key_hash(qos);
        format!(
            "---\nkind: Tenant\nname: {qos}\nspec: {{ qos: {qos}, keys: [ {{ sha256: \"{hash}\" }} ] }}\n"
        )
    });
    let resources = [adapter("a", &mock.url(), &["m", HANGS, SLOW]), tenants.concat()].concat();
    let settings = "workers: 1\nlimits: { body_bytes: 1048576, memory_bytes: 16777216 }\n";
    let data = Atp::of_file_with(&folder, &resources, settings).await;
    let caller = Caller::new(data.clients);
    let statuses = async || {
        let mut statuses = Vec::new();
        for qos in ["bronze", "gold", "silver"] {
            statuses.push(caller.with_key(qos).chat("m").await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    let mut held = Vec::new();
    for (bodies, level) in [(11, 1), (5, 2)] {
        for _ in 0..bodies {
            let caller = caller.with_key("gold");
            held.push(tokio::spawn(async move { caller.post(CHAT, large()).await.status }));
            // One by one: once they make red together, no further connection is taken.
            until("the body to be held", async || mock.model(HANGS).requests == held.len() as u64).await;
        }
        assert_eq!(Page::of(data.admin).await.value("atp_pressure"), level);
        if level == 1 {
            assert_eq!(statuses().await, [503, 200, 200]);
            let refused = caller.with_key("bronze").chat("m").await;
            assert_eq!(refused.code(), "overloaded", "{}", refused.text);
            assert!(!refused.header("retry-after").is_empty());
            assert_eq!(refused.header("connection"), "close");
            let quiet = caller.with_key("silver");
            let beside = tokio::spawn(async move { quiet.chat(SLOW).await.status });
            until("silver to have something under way", async || mock.model(SLOW).requests == 1).await;
            let gold = async || caller.with_key("gold").chat("m").await.status;
            until("gold to have more than its share", async || gold().await == 503).await;
            beside.abort();
            until("gold to be alone, with nobody to make room for", async || gold().await == 200).await;
        }
    }
    let mut refused = TcpStream::connect(data.clients).await.expect("the kernel accepts");
    let read = within("the end of a connection", refused.read(&mut [0; 16])).await;
    assert_eq!(read.ok().unwrap_or_default(), 0, "red takes no new connection");
    assert_eq!(Page::of(data.admin).await.value("atp_ready"), 1, "the admin port answers under any pressure");
    held.into_iter().for_each(|task| task.abort());
    until("what was held to be free", async || {
        Page::of(data.admin).await.value("atp_buffered_bytes") < 65_536
    })
    .await;
    assert_eq!(statuses().await, [200, 200, 200]);
}

const CHAT: &str = "/v1/chat/completions";

/// Nine hundred kilobytes that nobody answers.
fn large() -> String {
    let text = "x".repeat(900 * 1024);
    format!(r#"{{"model":"{HANGS}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}
