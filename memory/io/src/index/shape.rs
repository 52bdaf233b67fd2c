//! What the index keeps of an item. Every term begins with its tenant's name and a blank, which no name and
//! no word has: the terms of two tenants are never the same, so neither are the items they find nor how often
//! they occur.

use tantivy::schema::{
    Field, IndexRecordOption, NumericOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::TokenizerManager;
use tantivy::{TantivyDocument, Term};

use super::split::TenantWords;

/// The fields.
#[derive(Debug, Clone)]
pub struct Shape {
    pub schema: Schema,
    /// What is searched. No positions: phrases cannot be asked for.
    pub words: Field,
    /// Tenant and version.
    pub id: Field,
    /// The tenant alone, to go over all that is its own.
    pub tenant: Field,
    /// Every namespace the item is below.
    pub folders: Field,
    pub version: Field,
    pub updated: Field,
    pub expires: Field,
    pub length: Field,
    pub path: Field,
}

/// One item, as the index takes it.
#[derive(Debug)]
pub struct Leaf<'a> {
    pub tenant: &'a str,
    pub path: &'a str,
    pub version: u64,
    /// Milliseconds since 1970.
    pub updated: u64,
    /// The same; [`NEVER`].
    pub expires: u64,
    /// What is searched.
    pub texts: &'a str,
    /// Words of it.
    pub length: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        let mut fields = Schema::builder();
        let terms = |tokenizer: &str, has_lengths, option| {
            let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer);
            let indexing = indexing.set_fieldnorms(has_lengths).set_index_option(option);
            TextOptions::default().set_indexing_options(indexing)
        };
        let exact = || terms(EXACT, false, IndexRecordOption::Basic);
        let column = || NumericOptions::default().set_fast();
        let words = fields.add_text_field("words", terms(WORDS, true, IndexRecordOption::WithFreqs));
        let id = fields.add_text_field("id", exact());
        let tenant = fields.add_text_field("tenant", exact());
        let folders = fields.add_text_field("folders", exact());
        let version = fields.add_u64_field(VERSION, column());
        let updated = fields.add_u64_field(UPDATED, column());
        let expires = fields.add_u64_field(EXPIRES, column());
        let length = fields.add_u64_field(LENGTH, column());
        let path = fields.add_text_field("path", STORED);
        let schema = fields.build();
        Shape { schema, words, id, tenant, folders, version, updated, expires, length, path }
    }
}

impl Shape {
    /// How the texts of its fields become terms.
    pub fn tokenizers() -> TokenizerManager {
        let known = TokenizerManager::default();
        known.register(WORDS, TenantWords);
        known
    }

    pub fn document(&self, leaf: &Leaf<'_>) -> TantivyDocument {
        let Leaf { tenant, path, version, .. } = *leaf;
        let mut document = TantivyDocument::new();
        document.add_text(self.words, TenantWords::text(tenant, leaf.texts));
        document.add_text(self.id, id(tenant, version));
        document.add_text(self.tenant, tenant);
        for (end, _) in path.match_indices('/') {
            document.add_text(self.folders, folder(tenant, &path[..end]));
        }
        document.add_text(self.path, path);
        document.add_u64(self.version, version);
        document.add_u64(self.updated, leaf.updated);
        document.add_u64(self.expires, leaf.expires);
        document.add_u64(self.length, leaf.length);
        document
    }

    pub fn word_term(&self, tenant: &str, word: &str) -> Term {
        Term::from_field_text(self.words, &format!("{tenant} {word}"))
    }

    pub fn folder_term(&self, tenant: &str, namespace: &str) -> Term {
        Term::from_field_text(self.folders, &folder(tenant, namespace))
    }

    pub fn id_term(&self, tenant: &str, version: u64) -> Term {
        Term::from_field_text(self.id, &id(tenant, version))
    }

    pub fn tenant_term(&self, tenant: &str) -> Term {
        Term::from_field_text(self.tenant, tenant)
    }
}

fn id(tenant: &str, version: u64) -> String {
    format!("{tenant} {version}")
}

fn folder(tenant: &str, namespace: &str) -> String {
    format!("{tenant} {namespace}")
}

/// Of what does not expire.
pub const NEVER: u64 = u64::MAX;
pub const VERSION: &str = "version";
pub const UPDATED: &str = "updated";
pub const EXPIRES: &str = "expires";
pub const LENGTH: &str = "length";
const WORDS: &str = "atp_words";
/// A text as one term; tantivy knows it.
const EXACT: &str = "raw";
