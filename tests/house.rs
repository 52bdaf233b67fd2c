//! The house as a test: who may use whom, what may come in, and what every file keeps to. Reads cargo's own
//! graph and the files of the tree; never touches a network and changes nothing.
//!
//! Each check is a function over values with a test that shows how it fails; the tests here apply them to the
//! tree.

#[path = "house/allow.rs"]
mod allow;
#[path = "house/bans.rs"]
mod bans;
#[path = "house/checks.rs"]
mod checks;
#[path = "house/graph.rs"]
mod graph;
#[path = "house/licence.rs"]
mod licence;
#[path = "house/logs.rs"]
mod logs;
#[path = "house/metrics.rs"]
mod metrics;
#[path = "house/rust.rs"]
mod rust;
#[path = "house/sources.rs"]
mod sources;

use std::fs;
use std::path::Path;

use sources::Source;

/// Every breach at once, each on a line.
fn expect_none(breaches: &[String], rule: &str) {
    assert!(breaches.is_empty(), "{rule}\n  {}\n", breaches.join("\n  "));
}

#[test]
fn every_crate_uses_only_what_its_room_allows() {
    let rule =
        "a dependency that tests/house/allow.rs does not list; list it there with its reason, or do without:";
    expect_none(&graph::not_allowed(&graph::dependencies(), allow::ROOMS), rule);
}

#[test]
fn dependencies_point_strictly_downward() {
    expect_none(
        &graph::not_downward(&graph::dependencies(), allow::FLOORS),
        "against the floors of the house:",
    );
}

#[test]
fn an_outside_package_has_one_version() {
    let rule = "versions belong into the root's Cargo.toml, one each:";
    expect_none(&graph::of_several_versions(&graph::dependencies()), rule);
}

#[test]
fn every_package_has_a_licence_we_may_carry() {
    let rule = "a licence that tests/house/licence.rs does not allow:";
    expect_none(&graph::of_other_licences(&graph::packages()), rule);
}

#[test]
fn no_banned_package_is_built() {
    expect_none(&graph::banned(&graph::packages(), allow::BANNED), "banned packages:");
}

#[test]
fn the_planes_alone_carry_nothing_of_each_other_and_the_data_plane_no_store() {
    let planes: [(&str, &[&str]); 2] = [
        ("dataplane-io", &["redb", "clap", "controlplane-core", "controlplane-io", "memory-io", "cli"]),
        (
            "controlplane-io",
            &["quinn", "dataplane-core", "dataplane-state", "dataplane-io", "memory-io", "cli"],
        ),
    ];
    for (plane, unwanted) in planes {
        let packages = graph::of_program(plane);
        assert_eq!(graph::carried(&packages, unwanted), Vec::<&str>::new(), "{plane} carries these");
    }
    let store = graph::of_program("controlplane-io");
    assert_eq!(graph::carried(&store, &["redb", "quinn"]), ["redb"], "what is carried is found");
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let sources = sources::all(&[".rs", ".proto", ".py", ".sh", ".js", ".ts"]);
    expect_none(&checks::long_files(&sources), "a file that long holds more than one thing; split it:");
}

#[test]
fn no_line_of_rust_is_longer_than_110_characters() {
    expect_none(&checks::long_lines(&sources::all(&[".rs"])), "break these lines:");
}

#[test]
fn unwrap_stays_in_tests() {
    let product = sources::product_code(&sources::all(&[".rs"]));
    expect_none(&checks::unwraps(&product), "write expect(\"the invariant\") or return an error:");
}

#[test]
fn unsafe_stays_in_state_and_says_why_it_is_sound() {
    let sources = sources::all(&[".rs"]);
    expect_none(&checks::unsafe_code(&sources::product_code(&sources), &sources), "unsafe:");
}

#[test]
fn rooms_that_decide_or_remember_have_no_clock_runtime_or_output() {
    let product = sources::product_code(&sources::all(&[".rs"]));
    expect_none(&checks::impure(&product), "make it an argument or a value:");
}

#[test]
fn every_atomic_says_what_it_orders() {
    let sources = sources::all(&[".rs"]);
    expect_none(&checks::unexplained_orderings(&sources::product_code(&sources), &sources), "atomics:");
}

#[test]
fn logs_say_nothing_of_what_callers_say() {
    let product = sources::product_code(&sources::all(&[".rs"]));
    expect_none(&logs::unknown_fields(&product), "what a log is handed has to be harmless by its name:");
}

#[test]
fn every_pure_room_repeats_the_roots_bans() {
    let root = sources::root();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let roots_own = read(&root.join("clippy.toml"));
    let is_pure = |room: &&allow::Room| room.name.ends_with("-core") || room.name == "dataplane-state";
    let mut breaches = Vec::new();
    for room in allow::ROOMS.iter().filter(is_pure) {
        let path = room.name.replace('-', "/");
        let own = read(&root.join(&path).join("clippy.toml"));
        let missing = bans::missing(&roots_own, room, &own);
        breaches.extend(missing.into_iter().map(|what| format!("{path}/clippy.toml: {what}")));
    }
    assert!(roots_own.contains("disallowed-methods"), "the root's clippy.toml has its bans");
    expect_none(&breaches, "a nested clippy.toml replaces the root's, so repeat there:");
}

#[test]
fn every_metric_named_in_dashboards_alerts_and_pages_is_exported() {
    let files = sources::all(&[".rs", ".md", ".json", ".yaml", ".yml"]);
    let is_exporter = |source: &Source| {
        let path = &source.path;
        path.contains("/io/src/telemetry") || path.starts_with("controlplane/io/src/") && source.is_rust()
    };
    let is_user = |source: &Source| source.path.starts_with("deploy/") || source.path.starts_with("docs/");
    let (exporters, rest): (Vec<Source>, Vec<Source>) = files.into_iter().partition(is_exporter);
    let users: Vec<Source> = rest.into_iter().filter(is_user).collect();
    if exporters.is_empty() {
        println!("no telemetry yet, so names of metrics were not checked");
        return;
    }
    expect_none(&metrics::unknown(&users, &exporters), "names of metrics that nothing exports:");
}

#[test]
fn every_core_compiles_for_wasm_where_that_target_is_installed() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed =
        std::process::Command::new(rustc).args(["--print", "target-libdir", "--target", WASM]).output();
    let folder =
        printed.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if !is_installed(&folder) {
        println!("{WASM} is not installed, so that core is free of C and of the system was not checked");
        return;
    }
    // A folder of its own: the usual one may be locked by the cargo that runs this test.
    let target = sources::root().join("target/house-wasm");
    let target = target.to_string_lossy();
    for room in allow::ROOMS.iter().filter(|room| room.name.ends_with("-core")) {
        let check = [
            "check",
            "--locked",
            "--offline",
            "--lib",
            "-p",
            room.name,
            "--target",
            WASM,
            "--target-dir",
            &target,
        ];
        if let Err(error) = graph::cargo(&check) {
            panic!("{} does not compile for {WASM}:\n{error}", room.name);
        }
    }
}

fn is_installed(folder: &str) -> bool {
    !folder.is_empty() && Path::new(folder).is_dir()
}

const WASM: &str = "wasm32-unknown-unknown";

#[test]
fn a_target_without_its_folder_is_not_installed() {
    assert!(!is_installed(""));
    assert!(!is_installed("/nowhere/at/all"));
    assert!(is_installed(&sources::root().to_string_lossy()));
}

#[test]
#[should_panic(expected = "the rule:\n  one\n  two")]
fn breaches_are_all_told_at_once() {
    expect_none(&["one".into(), "two".into()], "the rule:");
}
