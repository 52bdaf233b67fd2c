//! The data folder: where it is, and that only its owner can look into it.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What of the environment says where data goes.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// `ATP_DATA_DIR`
    pub data_dir: Option<OsString>,
    /// `XDG_STATE_HOME`
    pub state_home: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
}

impl Env {
    pub fn of_process() -> Env {
        // Set but empty means unset, as the XDG base directory specification has it.
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        // That specification has it too that a relative path is to be ignored.
        let state_home = set("XDG_STATE_HOME").filter(|path| Path::new(path).is_absolute());
        Env { data_dir: set("ATP_DATA_DIR"), state_home, home: set("HOME") }
    }

    /// `$ATP_DATA_DIR`, else [`Env::state_dir`].
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.data_dir.clone().map(PathBuf::from).or_else(|| self.state_dir())
    }

    /// `$XDG_STATE_HOME/atp`, else `$HOME/.local/state/atp`; `None` where neither is set.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let state = self.state_home.clone().map(PathBuf::from);
        let state = state.or_else(|| Some(Path::new(self.home.as_ref()?).join(".local/state")));
        state.map(|state| state.join("atp"))
    }
}

/// Makes the folder and those above it; its own content is for its owner only.
pub fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // Another control plane of this user was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_is_the_one_named_else_the_users_state_folder() {
        let env = |data_dir: Option<&str>, state_home: Option<&str>, home: Option<&str>| Env {
            data_dir: data_dir.map(OsString::from),
            state_home: state_home.map(OsString::from),
            home: home.map(OsString::from),
        };
        let is = |env: Env, path: &str| assert_eq!(env.data_dir().as_deref(), Some(Path::new(path)));
        is(env(Some("/data"), Some("/state"), Some("/home/a")), "/data");
        is(env(None, Some("/state"), Some("/home/a")), "/state/atp");
        is(env(None, None, Some("/home/a")), "/home/a/.local/state/atp");
        assert_eq!(env(None, None, None).data_dir(), None);
    }
}
