//! Whole commands against a control plane in this process: what is printed where, and how each ends.

use std::path::{Path, PathBuf};

use clap::Parser;
use controlplane_io::{Config, Handle, start};
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    ctl: CtlArgs,
}

struct ControlPlane {
    handle: Handle,
    folder: TempDir,
}

/// What a command came to.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: u8,
    out: String,
    err: String,
}

const TWO: &str = "kind: Adapter
name: echo
spec: { kind: echo, models: [ { name: echo-1 } ] }
---
kind: Route
name: chat
spec:
  candidates: [ { adapter: echo, model: echo-1, weight: 1 } ]
";

async fn control_plane() -> ControlPlane {
    let folder = tempfile::tempdir().unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let local = Config::local(folder.path().join("data"));
    let handle = start(Config { grpc: anywhere, http: anywhere, ..local }, None).await.unwrap();
    ControlPlane { handle, folder }
}

async fn run_words(words: &[&str]) -> Ended {
    let args = Cli::try_parse_from(std::iter::once("ctl").chain(words.iter().copied())).unwrap().ctl;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = dispatch(&args, &mut Terminal { out: &mut out, err: &mut err }).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code, out: text(out), err: text(err) }
}

impl ControlPlane {
    async fn ctl(&self, words: &[&str]) -> Ended {
        let server = format!("http://{}", self.handle.grpc_addr);
        let token = self.handle.operator_token_path.display().to_string();
        let mut all = vec!["--server", &server, "--token-file", &token];
        all.extend(words);
        run_words(&all).await
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn ok(out: &str) -> Ended {
    Ended { code: 0, out: out.into(), err: String::new() }
}

#[tokio::test]
async fn apply_says_what_became_of_each_resource() {
    let plane = control_plane().await;
    let file = plane.file("r.yaml", TWO);
    let dry = plane.ctl(&["apply", "-f", shown(&file), "--dry-run"]).await;
    assert_eq!(dry, ok("adapter/echo created (dry run)\nroute/chat created (dry run)\n"));
    let applied = plane.ctl(&["apply", "-f", shown(&file)]).await;
    assert_eq!(applied, ok("adapter/echo created\nroute/chat created\n"));
    std::fs::write(&file, TWO.replace("weight: 1", "weight: 2")).unwrap();
    let again = plane.ctl(&["apply", "-f", shown(&file)]).await;
    assert_eq!(again, ok("adapter/echo unchanged\nroute/chat configured\n"));
}

#[tokio::test]
async fn mistakes_are_all_told_where_they_are_and_end_with_1() {
    let plane = control_plane().await;
    let wrong = TWO.replace("kind: echo,", "kind: ecko,").replace("weight", "wait");
    let file = plane.file("r.yaml", &wrong);
    for words in [&["apply", "-f"][..], &["validate", "-f"], &["validate", "--offline", "-f"]] {
        let words = [words, &[shown(&file)]].concat();
        let ended = plane.ctl(&words).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{words:?}");
        let lines: Vec<&str> = ended.err.lines().collect();
        let place = |line: u32, column: u32| format!("{}:{line}:{column}: spec.", shown(&file));
        assert!(lines[0].starts_with(&place(3, 15)), "{lines:?}");
        assert!(lines[1].starts_with(&place(8, 49)), "{lines:?}");
        assert!(lines[2].ends_with(": 2 mistakes"), "{lines:?}");
    }
}

#[tokio::test]
async fn diff_ends_with_1_where_something_would_change_0_where_nothing_would_and_2_where_it_failed() {
    let plane = control_plane().await;
    let file = plane.file("r.yaml", TWO);
    let words = ["diff", "-f", shown(&file)];
    let new = plane.ctl(&words).await;
    assert_eq!(new.code, 1);
    assert!(new.out.starts_with("--- /dev/null\n+++ wanted/Adapter/echo\n"), "{}", new.out);
    plane.ctl(&["apply", "-f", shown(&file)]).await;
    assert_eq!(plane.ctl(&words).await, ok(""));
    std::fs::write(&file, "kind: Adapter\n").unwrap();
    assert_eq!(plane.ctl(&words).await.code, 2);
}

#[tokio::test]
async fn what_is_stored_prints_as_a_table_as_documents_and_as_json() {
    let plane = control_plane().await;
    let empty = Ended { code: 0, out: String::new(), err: "no adapters found\n".into() };
    assert_eq!(plane.ctl(&["get", "adapters"]).await, empty);
    let file = plane.file("r.yaml", TWO);
    plane.ctl(&["apply", "-f", shown(&file)]).await;
    let table = "NAME   KIND   MODELS   PARALLEL   ENDPOINT\necho   echo   echo-1   1024       built in\n";
    assert_eq!(plane.ctl(&["get", "adapters"]).await, ok(table));
    assert_eq!(plane.ctl(&["get", "adapter", "echo"]).await, ok(table));
    let yaml = plane.ctl(&["get", "all", "-o", "yaml"]).await.out;
    let back = plane.file("back.yaml", &yaml);
    let again = plane.ctl(&["apply", "-f", shown(&back)]).await;
    assert_eq!(again, ok("adapter/echo unchanged\nroute/chat unchanged\n"), "what is printed can be applied");
    let json = plane.ctl(&["get", "route", "chat", "-o", "json"]).await.out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["spec"]["candidates"][0]["adapter"], "echo");
    let described = plane.ctl(&["describe", "adapter", "echo"]).await.out;
    assert!(described.contains("Used by:  route/chat\n"), "{described}");
}

#[tokio::test]
async fn delete_by_file_takes_routes_before_what_they_need_and_tells_what_was_gone() {
    let plane = control_plane().await;
    let file = plane.file("r.yaml", TWO);
    plane.ctl(&["apply", "-f", shown(&file)]).await;
    let needed = plane.ctl(&["delete", "adapter", "echo"]).await;
    assert_eq!((needed.code, needed.out.as_str()), (1, ""));
    assert!(needed.err.ends_with("error: adapter/echo was not deleted: 1 mistake\n"), "{}", needed.err);
    let dry = plane.ctl(&["delete", "route", "chat", "--dry-run"]).await;
    assert_eq!(dry, ok("route/chat deleted (dry run)\n"));
    let deleted = plane.ctl(&["delete", "-f", shown(&file)]).await;
    assert_eq!(deleted, ok("route/chat deleted\nadapter/echo deleted\n"));
    let gone = plane.ctl(&["delete", "-f", shown(&file)]).await;
    assert_eq!((gone.code, gone.err.lines().count()), (1, 2));
}

#[tokio::test]
async fn status_and_explain_without_a_data_plane_say_so() {
    let plane = control_plane().await;
    let status = plane.ctl(&["status"]).await;
    assert_eq!((status.code, status.err.as_str()), (0, ""));
    assert!(status.out.contains("Resources:   0 adapters, 0 routes, 0 tenants\n"), "{}", status.out);
    let explained = plane.ctl(&["explain", "--model", "auto"]).await;
    assert_eq!(explained.code, 1);
    assert!(explained.err.starts_with("error: no data plane is connected"), "{}", explained.err);
}

#[tokio::test]
async fn where_there_is_no_control_plane_the_command_says_how_to_start_one() {
    let plane = control_plane().await;
    let server = format!("http://{}", plane.handle.grpc_addr);
    plane.handle.shutdown().await;
    let ended = run_words(&["--server", &server, "status"]).await;
    assert_eq!(ended.code, 1);
    let expected = format!("error: no control plane at {server}: start one with `atp up`");
    assert!(ended.err.starts_with(&expected), "{}", ended.err);
}

#[tokio::test]
async fn a_token_that_is_missing_or_wrong_names_the_file_to_use() {
    let plane = control_plane().await;
    let server = format!("http://{}", plane.handle.grpc_addr);
    let nowhere = plane.folder.path().join("nowhere");
    let missing = run_words(&["--server", &server, "--data-dir", shown(&nowhere), "status"]).await;
    assert!(missing.err.contains("nowhere/operator.token: No such file"), "{}", missing.err);
    let dataplane = plane.handle.dataplane_token_path.clone();
    let wrong = plane.file("wrong.token", &"0".repeat(64));
    for (file, word) in [(&dataplane, "this is for operators"), (&wrong, "operator.token")] {
        let refused = run_words(&["--server", &server, "--token-file", shown(file), "status"]).await;
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains(word), "{}", refused.err);
    }
}
