//! Starting, stopping and starting again.

use controlplane_io::{StartFault, start};
use proto_core::wire::atp::admin::v1 as wire;
use tonic::Code;

use super::kit::{ControlPlane, ECHO, ROUTE, config, control_plane, sources};

async fn restart(plane: ControlPlane) -> ControlPlane {
    let ControlPlane { handle, folder } = plane;
    handle.shutdown().await;
    let handle = start(config(folder.path()), None).await.expect("the store and the folder are free again");
    ControlPlane { handle, folder }
}

fn seed() -> Option<Vec<(String, Vec<u8>)>> {
    Some(vec![("seed.yaml".into(), ECHO.into())])
}

#[tokio::test]
async fn what_was_applied_is_there_after_a_restart_under_the_same_generation() {
    let plane = control_plane().await;
    let before = plane.apply(&[ECHO, ROUTE]).await.generation;
    let plane = restart(plane).await;
    let status = plane.status().await;
    assert_eq!((status.generation, status.adapters, status.routes), (before, 1, 1));
}

#[tokio::test]
async fn a_stop_ends_streams_with_the_word_to_come_back() {
    let plane = control_plane().await;
    let mut edge = plane.data_plane("edge-1", None).await;
    edge.push().await;
    let mut watch = plane.resources().await.watch(wire::WatchRequest::default()).await.unwrap().into_inner();
    plane.handle.shutdown().await;
    for ended in [edge.next().await.unwrap_err(), watch.message().await.unwrap_err()] {
        assert_eq!(ended.code(), Code::Unavailable, "{ended}");
        assert!(ended.message().contains("stopping"), "{ended}");
    }
}

#[tokio::test]
async fn a_second_one_on_the_same_folder_is_refused_with_the_reason() {
    let plane = control_plane().await;
    let fault = start(config(plane.folder.path()), None).await.unwrap_err();
    assert!(fault.to_string().contains("control.redb is open in another process"), "{fault}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let plane = control_plane().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.grpc = plane.handle.grpc_addr;
    let fault = start(config, None).await.unwrap_err();
    assert!(
        matches!(fault, StartFault::Listen { address, .. } if address == plane.handle.grpc_addr),
        "{fault}"
    );
}

#[tokio::test]
async fn the_first_resources_are_applied_once_and_never_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let handle = start(config(folder.path()), seed()).await.unwrap();
    let plane = ControlPlane { handle, folder };
    assert_eq!(plane.status().await.adapters, 1);
    let delete = wire::DeleteRequest { kind: "Adapter".into(), name: "echo".into(), dry_run: false };
    plane.resources().await.delete(delete).await.unwrap();
    let ControlPlane { handle, folder } = plane;
    handle.shutdown().await;
    let handle = start(config(folder.path()), seed()).await.unwrap();
    let plane = ControlPlane { handle, folder };
    assert_eq!(plane.status().await.adapters, 0, "an operator deleted it");
}

#[tokio::test]
async fn first_resources_with_mistakes_are_told_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let seed = vec![("seed.yaml".into(), ROUTE.into())];
    let fault = start(config(folder.path()), Some(seed)).await.unwrap_err();
    assert!(fault.to_string().contains("seed.yaml:5:18: spec.candidates[0].adapter"), "{fault}");
}

#[tokio::test]
async fn with_a_file_as_the_truth_the_api_shows_and_checks_but_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resources.yaml");
    std::fs::write(&file, ECHO).unwrap();
    let mut config = config(folder.path());
    config.resources = Some(file.clone());
    let handle = start(config, None).await.unwrap();
    let plane = ControlPlane { handle, folder };
    assert_eq!(plane.status().await.adapters, 1, "taken before the ports were open");
    let mut client = plane.resources().await;
    let refused = client.apply(sources(&[ROUTE])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&file.display().to_string()), "{}", refused.message());
    let delete = wire::DeleteRequest { kind: "Adapter".into(), name: "echo".into(), dry_run: false };
    assert_eq!(client.delete(delete).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(client.diff(sources(&[ROUTE])).await.unwrap().into_inner().mistakes.is_empty());
    std::fs::write(&file, format!("{ECHO}---\n{ROUTE}")).unwrap();
    plane.status_when(|status| status.routes == 1).await;
}
