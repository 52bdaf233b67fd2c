//! What Redis does in one step. Each script is sent once to a server and then named by its hash.

use std::sync::LazyLock;

use redis::Script;

pub static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/load.lua")));
pub static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/commit.lua")));
pub static WALK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/walk.lua")));
pub static FEED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/feed.lua")));
pub static STAMPS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/stamps.lua")));
pub static VERSION: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/version.lua")));
pub static EVENTS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/events.lua")));
