//! Settings with mistakes: nothing starts, and all of them are told.

use crate::kit::{Folder, atp, finished, told};

async fn refused(text: &str) -> String {
    let folder = Folder::new();
    let settings = folder.write("settings.yaml", text);
    let mut command = atp(&folder);
    command.args(["dataplane", "--config"]).arg(settings).env("ATP_DATA_DIR", folder.data());
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    told(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_beyond_this_machine_needs_a_word_for_cleartext() {
    let told = refused("listen: { http: \"0.0.0.0:0\", admin: \"127.0.0.1:0\" }\nresources: r.yaml\n").await;
    for part in ["listen.http", "0.0.0.0:0", "cleartext", "`listen.cleartext: allowed`", "ATP_CLEARTEXT"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_the_settings_is_told_with_its_line() {
    let told = refused(
        "listen: { http: here }\nworkers: 0\nresources: r.yaml\nlimits: { body_bytes: 1, conections: 5 }\n\
         drain: { grace_ms: soon }\nport: 7443\n",
    )
    .await;
    for place in [
        "settings.yaml:1:17: listen.http",
        "settings.yaml:2:10: workers",
        "settings.yaml:4:",
        "limits.body_bytes",
        "limits.conections",
        "did you mean connections?",
        "settings.yaml:5:20: drain.grace_ms",
        "settings.yaml:6:1: port",
    ] {
        assert!(told.contains(place), "{place} in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_be_read_are_named() {
    let folder = Folder::new();
    let mut command = atp(&folder);
    command.args(["dataplane", "--config"]).arg(folder.path().join("absent.yaml"));
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("absent.yaml: cannot be read"), "{}", told(&output));
}
