//! The last known good set on disk: written after it was accepted, served at the next start before anybody is
//! asked.
//!
//! A file is one protobuf message behind its SHA-256. It is written aside, synced and renamed, so that a
//! crash leaves the old or the new one; the one before is kept, in case a disk lies.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use prost::Message;
use proto_core::wire::atp::control::v1::Push;
use sha2::{Digest, Sha256};

/// Where one data plane keeps its sets.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub fn new(folder: &Path) -> Kept {
        Kept { folder: folder.to_owned() }
    }

    /// Replaces what is kept. Blocks on the disk.
    pub fn write(&self, set: &Push) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let body = set.encode_to_vec();
        let aside = self.folder.join(ASIDE);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        file.sync_all()?;
        let newest = self.folder.join(NEWEST);
        if newest.exists() {
            std::fs::rename(&newest, self.folder.join(BEFORE))?;
        }
        std::fs::rename(&aside, &newest)?;
        File::open(&self.folder)?.sync_all()
    }

    /// What may be served, newest first: files that are whole.
    pub fn read(&self) -> Vec<Push> {
        [NEWEST, BEFORE].iter().filter_map(|name| self.read_one(&self.folder.join(name))).collect()
    }

    fn read_one(&self, path: &Path) -> Option<Push> {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a kept set cannot be read");
                return None;
            }
        };
        let whole =
            content.split_at_checked(HASH_BYTES).filter(|(hash, body)| *hash == &Sha256::digest(body)[..]);
        let Some(set) = whole.and_then(|(_, body)| Push::decode(body).ok()) else {
            tracing::warn!(file = %path.display(), "a kept set is damaged and not used");
            return None;
        };
        Some(set)
    }
}

/// Whether a set with keys was ever served from `folder`: then nobody is `public` by default, also after a
/// restart.
pub fn was_closed(folder: &Path) -> bool {
    folder.join(CLOSED).exists()
}

/// Remembers that a set with keys was served. Where that fails it is remembered until the next start only.
pub fn close(folder: &Path) {
    let written =
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(folder.join(CLOSED), CLOSED_TEXT));
    if let Err(error) = written {
        tracing::error!(%error, "that tenants have keys could not be kept on disk");
    }
}

const CLOSED: &str = "closed";
const CLOSED_TEXT: &str = "\
Tenants with keys were served here: callers without a key are refused from then on,
unless a Tenant named `public` is declared. Delete this file to begin anew.
";
const NEWEST: &str = "set.bin";
const BEFORE: &str = "set.before.bin";
const ASIDE: &str = "set.new";
const HASH_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn push(nonce: u64) -> Push {
        Push { nonce, ..Push::default() }
    }

    #[test]
    fn keeps_the_newest_and_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        assert_eq!(kept.read(), []);
        (1..=3).for_each(|nonce| kept.write(&push(nonce)).unwrap());
        assert_eq!(kept.read(), [push(3), push(2)]);
    }

    #[test]
    fn a_damaged_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        (1..=2).for_each(|nonce| kept.write(&push(nonce)).unwrap());
        let newest = folder.path().join(NEWEST);
        let whole = std::fs::read(&newest).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..5], b""] {
            std::fs::write(&newest, damaged).unwrap();
            assert_eq!(kept.read(), [push(1)]);
        }
        assert_eq!(
            std::fs::metadata(folder.path().join(BEFORE)).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
