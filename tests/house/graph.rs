//! The graph of packages, as cargo sees it without a network.

use std::process::Command;

use serde_json::Value;

use crate::allow::Room;
use crate::licence;
use crate::sources;

/// One declared dependency of a crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub user: String,
    pub package: String,
    /// `normal`, `build` or `dev`.
    pub kind: String,
    pub requirement: String,
    /// It is a crate of the workspace.
    pub is_inside: bool,
}

/// One package that is compiled for some target, with its features as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub licence: String,
}

/// What the crates of the workspace declare.
pub fn dependencies() -> Vec<Dependency> {
    let json = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let metadata: Value = serde_json::from_str(&json).expect("cargo metadata prints JSON");
    let found = read_metadata(&metadata);
    assert!(!found.is_empty(), "no dependencies at all: the reading of cargo metadata is broken");
    found
}

/// Every package that is built for the targets this runs on, where the packages of all of those are on this
/// machine, else for this one. `cargo tree` and not `cargo metadata`: that one also names packages no
/// feature turns on. Not every target there is: to WebAssembly QUIC's library brings a provider of
/// cryptography of its own.
pub fn packages() -> Vec<Package> {
    const EDGES: &str = "normal,build,dev";
    let tree =
        ["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "-f", "{p}|{l}", "-e", EDGES];
    let targets: Vec<&str> = TARGETS.iter().flat_map(|target| ["--target", target]).collect();
    let text = cargo(&[&tree[..], &targets].concat()).or_else(|error| {
        println!("packages of other targets are not on this machine, so not checked: {error}");
        cargo(&tree)
    });
    let mut packages = read_tree(&text.unwrap_or_else(|error| panic!("cargo tree: {error}")));
    packages.sort();
    packages.dedup();
    assert!(packages.len() > 10, "hardly any packages: the reading of cargo tree is broken");
    packages
}

/// What the programs of one crate are made of, tests and build scripts left out.
pub fn of_program(crate_name: &str) -> Vec<Package> {
    let tree = ["tree", "-p", crate_name, "--locked", "--offline", "--prefix", "none"];
    let text = cargo(&[&tree[..], &["-f", "{p}|{l}", "-e", "normal"]].concat());
    let packages = read_tree(&text.unwrap_or_else(|error| panic!("cargo tree: {error}")));
    assert!(packages.len() > 10, "hardly any packages: the reading of cargo tree is broken");
    packages
}

/// Packages a program should do without, and has.
pub fn carried<'a>(packages: &[Package], unwanted: &[&'a str]) -> Vec<&'a str> {
    unwanted.iter().copied().filter(|name| packages.iter().any(|package| package.name == *name)).collect()
}

/// What this is built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Runs the cargo that runs the tests.
pub fn cargo(arguments: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo).args(arguments).current_dir(sources::root()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn read_metadata(metadata: &Value) -> Vec<Dependency> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        for dependency in list(&package["dependencies"]) {
            found.push(Dependency {
                user: text(&package["name"]),
                package: text(&dependency["name"]),
                kind: dependency["kind"].as_str().unwrap_or("normal").to_owned(),
                requirement: text(&dependency["req"]),
                is_inside: dependency["path"].is_string(),
            });
        }
    }
    found
}

/// Lines such as `serde v1.0.1 (proc-macro)|MIT OR Apache-2.0 (*)`.
fn read_tree(text: &str) -> Vec<Package> {
    let line = |line: &str| {
        let (package, licence) = line.trim().trim_end_matches("(*)").split_once('|')?;
        let (name, rest) = package.split_once(' ')?;
        let version = rest.split(' ').next()?.strip_prefix('v')?;
        Some(Package { name: name.into(), version: version.into(), licence: licence.trim().into() })
    };
    text.lines().filter_map(line).collect()
}

/// Dependencies that the user's room does not list. A crate without a room has none of its dependencies
/// listed.
pub fn not_allowed(dependencies: &[Dependency], rooms: &[Room]) -> Vec<String> {
    let is_allowed = |dependency: &&Dependency| {
        let Some(room) = rooms.iter().find(|room| room.name == dependency.user) else { return false };
        let package = &&*dependency.package;
        match (dependency.is_inside, &*dependency.kind) {
            (true, _) => room.inside.contains(package),
            (false, "build") => room.build.contains(package),
            // What the crate itself may use, its tests may.
            (false, "dev") => room.dev.contains(package) || room.outside.contains(package),
            (false, _) => room.outside.contains(package),
        }
    };
    let wrong = dependencies.iter().filter(|dependency| !is_allowed(dependency));
    wrong.map(|one| format!("{} uses {} ({})", one.user, one.package, one.kind)).collect()
}

/// Uses between crates of the workspace that do not go strictly downward.
pub fn not_downward(dependencies: &[Dependency], floors: &[&[&str]]) -> Vec<String> {
    let floor = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let wrong = dependencies.iter().filter(|one| one.is_inside && floor(&one.package) >= floor(&one.user));
    wrong.map(|one| format!("{} uses {}, which is not below it", one.user, one.package)).collect()
}

/// Outside packages that crates ask for in different versions.
pub fn of_several_versions(dependencies: &[Dependency]) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    for one in dependencies.iter().filter(|one| !one.is_inside) {
        let differs =
            |other: &&Dependency| other.package == one.package && other.requirement != one.requirement;
        if let Some(other) = dependencies.iter().find(differs) {
            wrong.push(format!(
                "{}: {} in {}, {} in {}",
                one.package, one.requirement, one.user, other.requirement, other.user
            ));
        }
    }
    wrong
}

/// Packages under a licence that is not allowed, or under none.
pub fn of_other_licences(packages: &[Package]) -> Vec<String> {
    let wrong = packages.iter().filter(|package| !licence::is_allowed(&package.licence));
    wrong.map(|package| format!("{} {}: {:?}", package.name, package.version, package.licence)).collect()
}

/// Packages that are banned: by name, or below a version.
pub fn banned(packages: &[Package], bans: &[(&str, Option<[u64; 3]>, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        for (name, floor, why) in bans {
            let is_below = floor.is_none_or(|floor| version(&package.version) < Some(floor));
            if package.name == *name && is_below {
                wrong.push(format!("{name} {}: {why}", package.version));
            }
        }
    }
    wrong
}

/// `None` for what is no plain version, which is therefore below every floor.
fn version(text: &str) -> Option<[u64; 3]> {
    let mut numbers = text.split(['.', '+']).map(|part| part.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(user: &str, package: &str, kind: &str, is_inside: bool) -> Dependency {
        Dependency {
            user: user.into(),
            package: package.into(),
            kind: kind.into(),
            requirement: "^1".into(),
            is_inside,
        }
    }

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package { name: name.into(), version: version.into(), licence: licence.into() }
    }

    #[test]
    fn metadata_and_tree_are_read_as_cargo_prints_them() {
        let metadata = serde_json::json!({ "packages": [{ "name": "a", "dependencies": [
            { "name": "b", "kind": null, "req": "^1", "path": "/x/b" },
            { "name": "c", "kind": "dev", "req": "^1" },
        ] }] });
        let expected = [dependency("a", "b", "normal", true), dependency("a", "c", "dev", false)];
        assert_eq!(read_metadata(&metadata), expected);
        let tree = "a v0.1.0 (/x/a)|Apache-2.0\nb v1.2.3 (proc-macro)|MIT OR Zlib (*)\n\nc v2.0.0+d|\n";
        let expected = [
            package("a", "0.1.0", "Apache-2.0"),
            package("b", "1.2.3", "MIT OR Zlib"),
            package("c", "2.0.0+d", ""),
        ];
        assert_eq!(read_tree(tree), expected);
    }

    #[test]
    fn what_no_list_names_is_not_allowed() {
        let room = Room { name: "a", inside: &["b"], outside: &["c"], build: &["d"], dev: &["e"] };
        let good = [
            dependency("a", "b", "normal", true),
            dependency("a", "c", "normal", false),
            dependency("a", "c", "dev", false),
            dependency("a", "d", "build", false),
            dependency("a", "e", "dev", false),
        ];
        assert_eq!(not_allowed(&good, std::slice::from_ref(&room)), [""; 0]);
        let bad = [
            dependency("a", "c", "normal", true),
            dependency("a", "c", "build", false),
            dependency("a", "e", "normal", false),
            dependency("a", "d", "dev", false),
            dependency("z", "c", "normal", false),
        ];
        assert_eq!(not_allowed(&bad, &[room]).len(), bad.len());
    }

    #[test]
    fn sideways_and_upward_are_not_downward() {
        let floors: &[&[&str]] = &[&["low"], &["left", "right"], &["high"]];
        let good = [dependency("left", "low", "normal", true), dependency("high", "low", "dev", true)];
        assert_eq!(not_downward(&good, floors), [""; 0]);
        let bad = [
            dependency("left", "right", "normal", true),
            dependency("low", "high", "dev", true),
            dependency("stranger", "stranger", "normal", true),
            dependency("low", "low", "normal", true),
        ];
        assert_eq!(not_downward(&bad, floors).len(), bad.len());
    }

    #[test]
    fn one_package_in_two_versions_is_found() {
        let mut two = [dependency("a", "c", "normal", false), dependency("b", "c", "normal", false)];
        assert_eq!(of_several_versions(&two), [""; 0]);
        two[1].requirement = "^2".into();
        assert_eq!(of_several_versions(&two), ["c: ^1 in a, ^2 in b", "c: ^2 in b, ^1 in a"]);
    }

    #[test]
    fn a_licence_that_is_not_allowed_or_absent_is_found() {
        let packages =
            [package("a", "1.0.0", "MIT"), package("b", "1.0.0", "GPL-3.0-only"), package("c", "1.0.0", "")];
        assert_eq!(of_other_licences(&packages), ["b 1.0.0: \"GPL-3.0-only\"", "c 1.0.0: \"\""]);
    }

    #[test]
    fn bans_are_by_name_or_below_a_version() {
        let bans = [("ring", None, "why"), ("h2", Some([0, 4, 19]), "old")];
        let good = [
            package("h2", "0.4.19", ""),
            package("h2", "0.4.20+a", ""),
            package("h2", "1.0.0", ""),
            package("rings", "1.0.0", ""),
        ];
        assert_eq!(banned(&good, &bans), [""; 0]);
        let bad =
            [package("ring", "0.17.14", ""), package("h2", "0.4.18", ""), package("h2", "0.4.19-rc.1", "")];
        assert_eq!(banned(&bad, &bans).len(), bad.len());
    }
}
