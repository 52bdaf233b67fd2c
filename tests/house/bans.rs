//! Clippy's bans. A nested clippy.toml replaces the root's, so each must repeat them.

use crate::allow::Room;

/// What the root's file says and a room's file does not. Bans of packages the room cannot use anyway need no
/// repeating: clippy would find no such path.
pub fn missing(root: &str, room: &Room, own: &str) -> Vec<String> {
    let own_bans: Vec<&str> = bans(own).collect();
    let own_settings: Vec<&str> = settings(own).collect();
    let applies = |ban: &&str| {
        let package = ban.split("::").next().unwrap_or(ban).replace('_', "-");
        ["std", "core", "alloc"].contains(&&*package) || room.outside.contains(&&*package)
    };
    let bans = bans(root)
        .filter(applies)
        .filter(|ban| !own_bans.contains(ban))
        .map(|ban| format!("the ban of {ban}"));
    let settings = settings(root).filter(|line| !own_settings.contains(line)).map(str::to_owned);
    bans.chain(settings).collect()
}

fn bans(toml: &str) -> impl Iterator<Item = &str> {
    toml.lines().filter_map(|line| line.split_once("path = \"")?.1.split('"').next())
}

/// Lines such as `too-many-lines-threshold = 70`, not the beginnings of lists.
fn settings(toml: &str) -> impl Iterator<Item = &str> {
    let is_setting = |line: &&str| {
        line.starts_with(|first: char| first.is_ascii_lowercase())
            && line.contains(" = ")
            && !line.ends_with('[')
    };
    toml.lines().map(str::trim_end).filter(is_setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "# why\nthreshold = 70\ndisallowed-methods = [\n    \
        { path = \"std::env::set_var\", reason = \"a\" },\n    \
        { path = \"tokio::spawn\", reason = \"b\" },\n]\n";

    fn room(outside: &'static [&'static str]) -> Room {
        Room { name: "x-core", inside: &[], outside, build: &[], dev: &[] }
    }

    #[test]
    fn a_ban_or_setting_that_is_not_repeated_is_named() {
        assert_eq!(missing(ROOT, &room(&["tokio"]), ROOT), [""; 0]);
        assert_eq!(missing(ROOT, &room(&[]), ""), ["the ban of std::env::set_var", "threshold = 70"]);
        let other = ROOT.replace("tokio::spawn", "tokio::main").replace("70", "90");
        assert_eq!(missing(ROOT, &room(&["tokio"]), &other), ["the ban of tokio::spawn", "threshold = 70"]);
    }
}
