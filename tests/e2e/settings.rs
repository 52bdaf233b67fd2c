//! Settings with mistakes: nothing starts, and all of them are told.

use serde_json::Value;

use crate::kit::{Atp, Caller, Folder, adapter, atp, finished, mock, told};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_probes_shows_health_and_metrics_and_nothing_else() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m"])).await;
    let probes = Caller::new(data.probes().await);
    for path in ["/healthz", "/healthz/live", "/healthz/ready", "/readyz", "/metrics"] {
        assert_eq!(probes.get(path).await.status, 200, "{path}");
    }
    for path in ["/config_dump", "/drain", "/adapters/health", "/v1/models", "/"] {
        assert_eq!(probes.get(path).await.status, 404, "{path}");
    }
    assert_eq!(probes.post("/drain", "").await.status, 404);
    assert_eq!(probes.at_host("evil.example").get("/metrics").await.status, 403, "on loopback, as admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_tenants_and_adapters_can_be_hidden_from_clients_and_not_from_whoever_watches() {
    let (folder, mock) = (Folder::new(), mock().await);
    let resources = folder.write("resources.yaml", &adapter("a", &mock.url(), &["m"]));
    let any = "\"127.0.0.1:0\"";
    let listen = format!(
        "listen: {{ http: {any}, admin: {any}, probes: {any}, metrics: hidden, adapters: hidden }}\n"
    );
    let data = Atp::with_listeners(&folder, &listen, &format!("resources: {}\n", resources.display())).await;
    data.until_ready().await;
    for hidden in ["/metrics", "/adapters/health"] {
        assert_eq!(Caller::new(data.clients).get(hidden).await.status, 404, "{hidden}");
    }
    assert_eq!(Caller::new(data.admin).get("/adapters/health").await.status, 200);
    assert_eq!(Caller::new(data.clients).get("/readyz").await.status, 200);
    for watcher in [data.admin, data.probes().await] {
        assert_eq!(Caller::new(watcher).get("/metrics").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_by_an_exit_code() {
    let (folder, mock) = (Folder::new(), mock().await);
    let data = Atp::of_file(&folder, &adapter("a", &mock.url(), &["m"])).await;
    for (url, code) in [
        (format!("http://{}/readyz", data.probes().await), 0),
        (format!("http://{}/nowhere", data.clients), 1),
        ("ftp://here".to_owned(), 2),
    ] {
        let mut command = atp(&folder);
        command.args(["health", &url]);
        assert_eq!(finished(command).await.status.code(), Some(code), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_is_listed_with_values_and_without_secrets() {
    let folder = Folder::new();
    let mut command = atp(&folder);
    command.args(["config", "env", "-o", "json"]);
    command.env("ROUTER_PORT", "8443").env("AUDIT_SECRET", "0123456789abcdef").env("ROUTER_PROT", "1");
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(
        (&row("ROUTER_PORT")["value"], &row("ROUTER_PORT")["default"]),
        (&"8443".into(), &"7443".into())
    );
    assert_eq!(row("AUDIT_SECRET")["value"], "(set)");
    assert_eq!(row("ROUTER_WORKERS")["value"], Value::Null);
    assert!(told(&output).contains("ROUTER_PROT: there is no such variable; did you mean ROUTER_PORT?"));
    let mut command = atp(&folder);
    command.args(["config", "env"]).env("ROUTER_PORT", "70000");
    let output = finished(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("ROUTER_PORT: \"70000\" is no port number"), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_nobody_reads_is_a_warning_with_the_nearest_name() {
    let folder = Folder::new();
    let settings = folder.write("settings.yaml", "workers: 0\nresources: r.yaml\n");
    let mut command = atp(&folder);
    command.args(["dataplane", "--config"]).arg(settings).env("ROUTER_RPS_LIMT", "5");
    let output = finished(command).await;
    assert!(told(&output).contains("ROUTER_RPS_LIMT: there is no such variable"), "{}", told(&output));
}
