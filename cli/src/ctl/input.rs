//! What `-f` names: files, folders, stdin.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use controlplane_io::api::REQUEST_BYTES_MAX;
use proto_core::wire::atp::admin::v1::Source;

use super::Failure;
use super::args::Files;

/// Reads everything named, in the order named; a folder's files by name.
pub fn read(files: &Files) -> Result<Vec<Source>, Failure> {
    let mut reader = Reader { sources: Vec::new(), left: REQUEST_BYTES_MAX };
    for path in &files.files {
        if path == Path::new("-") {
            reader.take("stdin", std::io::stdin().lock())?;
        } else if path.is_dir() {
            for file in of_folder(path)? {
                reader.open(&file)?;
            }
        } else {
            reader.open(path)?;
        }
    }
    Ok(reader.sources)
}

struct Reader {
    sources: Vec<Source>,
    /// Bytes that still fit into one request.
    left: usize,
}

impl Reader {
    fn open(&mut self, path: &Path) -> Result<(), Failure> {
        let file = path.display().to_string();
        let content = std::fs::File::open(path).map_err(|error| wrong(&file, &error.to_string()))?;
        self.take(&file, content)
    }

    fn take(&mut self, file: &str, content: impl Read) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        let read = content.take(self.left as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| wrong(file, &error.to_string()))?;
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| {
            let mib = REQUEST_BYTES_MAX / 1024 / 1024;
            wrong(file, &format!("the files have more than {mib} MiB together; apply them in parts"))
        })?;
        self.sources.push(Source { file: file.to_owned(), content: Bytes::from(bytes) });
        Ok(())
    }
}

/// The documents in a folder, not in those below it, as kubectl has it.
fn of_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let shown = folder.display().to_string();
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| wrong(&shown, &error.to_string()))?;
    let is_document = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        path.is_file() && matches!(ending, Some("yaml" | "yml" | "json"))
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_document).collect();
    if files.is_empty() {
        return Err(wrong(&shown, "no .yaml, .yml or .json file in this folder"));
    }
    files.sort();
    Ok(files)
}

fn wrong(file: &str, why: &str) -> Failure {
    Failure::Message(format!("{file}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &Path) -> Files {
        Files { files: vec![path.to_owned()] }
    }

    fn told(result: Result<Vec<Source>, Failure>) -> String {
        match result {
            Err(Failure::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_gives_its_documents_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", "c.yml", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::create_dir(folder.path().join("deeper.yaml")).unwrap();
        let read = read(&files(folder.path())).unwrap();
        let contents: Vec<&[u8]> = read.iter().map(|source| source.content.as_ref()).collect();
        assert_eq!(contents, [b"a.json", b"b.yaml".as_slice(), b"c.yml"]);
        assert!(read[0].file.ends_with("/a.json"));
    }

    #[test]
    fn a_missing_file_an_empty_folder_and_too_much_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(told(read(&files(&folder.path().join("none.yaml")))).contains("none.yaml: No such file"));
        assert!(told(read(&files(folder.path()))).contains("no .yaml, .yml or .json file"));
        let path = folder.path().join("big.yaml");
        std::fs::write(&path, " ".repeat(REQUEST_BYTES_MAX)).unwrap();
        assert!(read(&files(&path)).is_ok());
        std::fs::write(&path, " ".repeat(REQUEST_BYTES_MAX + 1)).unwrap();
        assert!(told(read(&files(&path))).contains("more than 16 MiB together"));
    }
}
