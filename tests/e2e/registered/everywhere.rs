//! What one data plane is told, the others of the same control plane know within its lease.

use serde_json::json;

use super::{allowing, asked, registered, say, words};
use crate::fanout::hand::Hand;
use crate::kit::{Atp, Authority, Caller, Folder, Page, Pair, mock, until};
use crate::planes::{ANY, follows};

/// Two data planes behind TLS and their control plane.
struct Fleet {
    control: Atp,
    east: Atp,
    west: Atp,
    authority: Authority,
    own: Folder,
    _folders: [Folder; 2],
}

impl Fleet {
    async fn new(resources: &str) -> Fleet {
        let (own, authority) = (Folder::new(), Authority::new());
        let control = Atp::controlplane(&own, ANY).await;
        control.apply(&own, resources).await;
        let folders = [Folder::new(), Folder::new()];
        let mut planes = Vec::new();
        for (node, folder) in ["east", "west"].into_iter().zip(&folders) {
            let Pair { cert, key } = authority.server();
            for (name, content) in [("server.pem", &cert), ("server.key", &key), ("ca.pem", &authority.pem)] {
                folder.write(name, content);
            }
            let tls =
                "tls: { listen: \"127.0.0.1:0\", cert: server.pem, key: server.key, client_ca: ca.pem }\n";
            let settings = format!("node: {node}\n{tls}{}", follows(&own, control.grpc));
            let plane = Atp::dataplane(folder, &settings).await;
            plane.until_ready().await;
            planes.push(plane);
        }
        let [east, west] = planes.try_into().ok().expect("two");
        Fleet { control, east, west, authority, own, _folders: folders }
    }

    /// The adapter's connection to one of them.
    async fn adapter(&self, at: &Atp) -> Hand {
        let pair = self.authority.client(&["spiffe://atp.local/adapter/far"]);
        Hand::behind_tls(at.https().await, self.authority.trusted_by(Some(&pair)), "far").await.expect("room")
    }
}

/// Well or not, as it says itself.
async fn health(hand: &mut Hand, stream: &str, status: &str) {
    say(hand, stream, "adapter.health", &json!({"adapter_id": "far", "status": status})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_registers_at_one_data_plane_is_asked_by_the_others_until_it_goes() {
    let mock = mock().await;
    let fleet = Fleet::new(&allowing(&[&mock.url()], 60_000)).await;
    assert_eq!((asked(&fleet.east).await, asked(&fleet.west).await), (503, 503));
    let mut hand = fleet.adapter(&fleet.east).await;
    say(&mut hand, "1", "adapter.capability", &words(&mock.url())).await;
    assert_eq!(asked(&fleet.east).await, 200);
    until("the other to be told", async || asked(&fleet.west).await == 200).await;
    assert_eq!(registered(&fleet.west).await, 1);
    health(&mut hand, "2", "unhealthy").await;
    until("the other to be told", async || asked(&fleet.west).await == 503).await;
    health(&mut hand, "3", "healthy").await;
    until("the other to be told", async || asked(&fleet.west).await == 200).await;
    drop(hand);
    until("both to know", async || registered(&fleet.west).await + registered(&fleet.east).await == 0).await;
    assert_eq!((asked(&fleet.east).await, asked(&fleet.west).await), (503, 503));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_outlives_the_control_plane_and_a_set_that_forbids_it_takes_it_out() {
    let mock = mock().await;
    let Fleet { control, east, west, authority, own, _folders } =
        Fleet::new(&allowing(&[&mock.url()], 60_000)).await;
    let pair = authority.client(&["spiffe://atp.local/adapter/far"]);
    let hand = Hand::behind_tls(east.https().await, authority.trusted_by(Some(&pair)), "far").await;
    let mut hand = hand.expect("room");
    say(&mut hand, "1", "adapter.capability", &words(&mock.url())).await;
    until("the other to be told", async || asked(&west).await == 200).await;
    let grpc = control.grpc;
    control.kill().await;
    let caller = Caller::new(west.clients);
    until("the loss to be noticed", async || caller.get("/healthz").await.json()["status"] == "degraded")
        .await;
    assert_eq!((asked(&west).await, registered(&west).await), (200, 1), "its lease holds");
    // The one that comes back knows nobody; what it says first is not the whole.
    let control = Atp::controlplane(&own, grpc).await;
    until("both to come back", async || {
        let status = control.ctl(&own, &["status", "-o", "json"]).await;
        String::from_utf8_lossy(&status.stdout).matches("\"connected\": true").count() == 2
    })
    .await;
    assert_eq!(asked(&west).await, 200);
    control.apply(&own, &allowing(&["http://127.0.0.1:1/v1"], 60_000)).await;
    until("the set that forbids it", async || registered(&west).await == 0).await;
    assert_eq!(asked(&west).await, 503);
    assert_eq!(Page::of(west.admin).await.value("atp_adapter_endpoints_untold"), 0);
}
