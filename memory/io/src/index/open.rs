//! The index on disk, `memory.index` in the data folder. All of it can be made again from the store, so
//! nothing is done to keep it: where it is missing, damaged or of another shape it is thrown away.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tantivy::directory::Directory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyError};

use super::disk::Disk;
use super::shape::Shape;

/// Where it is written and read.
pub struct Open {
    pub shape: Arc<Shape>,
    pub writer: IndexWriter,
    pub reader: IndexReader,
}

impl Open {
    /// Opens what is there; whether it had to be made anew.
    pub fn at(folder: &Path) -> Result<(Open, bool), TantivyError> {
        if folder.is_dir() {
            match Open::found(folder) {
                Ok(open) => return Ok((open, false)),
                // Somebody else writes it: theirs to keep.
                Err(error @ TantivyError::LockFailure(..)) => return Err(error),
                Err(error) => tracing::warn!(%error, "the search index is made anew from the store"),
            }
            std::fs::remove_dir_all(folder)?;
        }
        create_private(folder)?;
        let shape = Shape::default();
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let made = Index::builder().schema(shape.schema.clone()).settings(settings);
        let index = made.tokenizers(Shape::tokenizers()).open_or_create(Disk::open(folder)?)?;
        Ok((Open::of(index, shape)?, true))
    }

    fn found(folder: &Path) -> Result<Open, TantivyError> {
        let shape = Shape::default();
        let mut index = Index::open(Disk::open(folder)?)?;
        if index.schema() != shape.schema || index.load_metas()?.payload.as_deref() != Some(FORMAT) {
            return Err(TantivyError::SchemaError("it is of another program's version".into()));
        }
        // All its files, also where the list of those that tantivy manages was lost.
        for file in index.load_metas()?.list_segment_files() {
            if index.directory().exists(&file)? && !index.directory().validate_checksum(&file)? {
                return Err(TantivyError::SystemError(format!("{} is damaged", file.display())));
            }
        }
        index.set_tokenizers(Shape::tokenizers());
        Open::of(index, shape)
    }

    fn of(index: Index, shape: Shape) -> Result<Open, TantivyError> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer = index.writer_with_options(options)?;
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(GONE_SHARE_MAX);
        writer.set_merge_policy(Box::new(merges));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual);
        let reader = reader.doc_store_cache_num_blocks(CACHED_BLOCKS).try_into()?;
        Ok(Open { shape: Arc::new(shape), writer, reader })
    }

    /// Makes everything so far part of what is searched.
    pub fn commit(&mut self) -> Result<(), TantivyError> {
        let mut prepared = self.writer.prepare_commit()?;
        prepared.set_payload(FORMAT);
        prepared.commit()?;
        self.reader.reload()
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

/// Of the rules by which texts become terms; changes with them.
const FORMAT: &str = "atp-memory-index 1";
/// What is held in memory before it becomes a part of the index: the least that tantivy takes is 15 MB.
const WRITER_BYTES: usize = 32_000_000;
/// Of a part's items that are gone, before it is written anew without them.
const GONE_SHARE_MAX: f32 = 0.3;
/// Of 16 KiB with paths, for each part of the index.
const CACHED_BLOCKS: usize = 8;
