//! The two secrets of a control plane without client certificates: who holds `operator.token` may do
//! everything, who holds `dataplane.token` may be told the set. Made on first start, readable by their owner
//! only, never logged.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One secret and the file it stands in.
pub struct Token {
    path: PathBuf,
    /// [`HEX_BYTES`] hexadecimal digits.
    hex: String,
}

impl Token {
    /// Reads the file, or makes it with a new random token.
    pub fn open(path: PathBuf) -> io::Result<Token> {
        match create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(told(&path, &error.to_string())),
            Ok(hex) => return Ok(Token { path, hex }),
        }
        let hex = read(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{error}; remove the file, and start again to have a new one made"),
            )
        })?;
        let mode = std::fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            let mode = format!("{:o}", mode & 0o777);
            tracing::warn!(path = %path.display(), mode, "others can read this token; chmod 600 it");
        }
        Ok(Token { path, hex })
    }

    /// Whether these are its digits, in a time that does not depend on how many are right.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.hex.as_bytes();
        own.len() == given.len() && own.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The token in a file. Never shows what it read.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than a token with its newline: a longer file is none.
    let limit = HEX_BYTES as u64 + 2;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let hex = text.trim_end();
    if hex.len() != HEX_BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = format!("holds no token of {HEX_BYTES} hexadecimal digits");
        return Err(told(path, &what));
    }
    Ok(hex.to_owned())
}

/// Written aside and linked into place: a file of this name is whole or does not exist, also after `kill -9`.
fn create(path: &Path) -> io::Result<String> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let hex = rand::random::<[u8; HEX_BYTES / 2]>().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let aside = path.with_extension(format!("{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = writeln!(file, "{hex}").and_then(|()| file.sync_all());
    // A hard link, unlike a rename, fails where another start was faster.
    let linked = written.and_then(|()| std::fs::hard_link(&aside, path));
    std::fs::remove_file(&aside)?;
    linked?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(hex)
}

fn told(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}", path.display()))
}

/// 256 random bits.
pub const HEX_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_only_and_read_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        let made = Token::open(path.clone()).unwrap();
        let read = Token::open(path.clone()).unwrap();
        assert_eq!((made.hex.len(), &made.hex), (HEX_BYTES, &read.hex));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let other = Token::open(folder.path().join("dataplane.token")).unwrap();
        assert_ne!(made.hex, other.hex);
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::open(folder.path().join("operator.token")).unwrap();
        let right = token.hex.clone().into_bytes();
        let mut wrong = right.clone();
        wrong[HEX_BYTES - 1] ^= 1;
        assert!(token.is(&right));
        assert!(!token.is(&wrong) && !token.is(&right[..HEX_BYTES - 1]) && !token.is(b""));
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        for content in ["", "hunter2", &"g".repeat(HEX_BYTES), &"a".repeat(HEX_BYTES + 1)] {
            std::fs::write(&path, content).unwrap();
            let told = Token::open(path.clone()).unwrap_err().to_string();
            assert!(told.contains("operator.token: holds no token"), "{told}");
            assert!(content.is_empty() || !told.contains(content), "{told}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::open(folder.path().join("operator.token")).unwrap();
        assert!(!format!("{token:?}").contains(&token.hex));
    }
}
