//! The HTTP port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::{ControlPlane, ECHO, control_plane};

async fn get(plane: &ControlPlane, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(plane.handle.http_addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn it_is_live_and_ready() {
    let plane = control_plane().await;
    for path in ["/healthz/live", "/healthz/ready"] {
        let (head, body) = get(&plane, path).await;
        assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("ok"), "{path}: {head} {body}");
    }
    assert!(get(&plane, "/").await.0.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn metrics_are_valid_exposition_and_tell_what_happened() {
    let plane = control_plane().await;
    plane.apply(&[ECHO]).await;
    plane.apply(&[ECHO]).await;
    plane.apply(&["kind: Adapter\n"]).await;
    let mut edge = plane.data_plane("edge-1", None).await;
    let push = edge.push().await;
    edge.nack(&push, "no").await;
    plane.status_when(|status| !status.data_planes[0].rejects.is_empty()).await;
    let (head, body) = get(&plane, "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "atp_controlplane_generation 1",
        "atp_controlplane_resources{kind=\"Adapter\"} 1",
        "atp_controlplane_data_planes_connected 1",
        "atp_controlplane_data_planes_current 0",
        "atp_controlplane_applies_total{outcome=\"applied\"} 1",
        "atp_controlplane_applies_total{outcome=\"unchanged\"} 1",
        "atp_controlplane_applies_total{outcome=\"mistakes\"} 1",
        "atp_controlplane_applies_total{outcome=\"failed\"} 0",
        "atp_controlplane_rejections_total 1",
    ] {
        assert!(body.lines().any(|own| own == line), "{line} in\n{body}");
    }
    assert_exposition(&body);
}

/// Every sample follows the help and type of its name, and is a name, labels and a number.
fn assert_exposition(body: &str) {
    let mut described = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            described = rest.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().unwrap();
            assert_eq!(name, described, "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        }
    }
    assert!(body.ends_with('\n'));
}
