//! The words of an item as terms. The index gets a text whose first line names the tenant; each word of the
//! rest becomes a term behind that name.

use memory_core::search::Words;
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

#[derive(Debug, Clone, Default)]
pub struct TenantWords;

/// One text on its way into the index.
pub struct TenantStream<'a> {
    tenant: &'a str,
    words: Words<'a>,
    token: Token,
}

impl TenantWords {
    /// What [`Tokenizer::token_stream`] takes.
    pub fn text(tenant: &str, texts: &str) -> String {
        format!("{tenant}\n{texts}")
    }
}

impl Tokenizer for TenantWords {
    type TokenStream<'a> = TenantStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> TenantStream<'a> {
        let (tenant, texts) = text.split_once('\n').unwrap_or((text, ""));
        TenantStream { tenant, words: Words::of(texts), token: Token::default() }
    }
}

impl TokenStream for TenantStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.advance() else { return false };
        let text = &mut self.token.text;
        text.clear();
        text.push_str(self.tenant);
        text.push(' ');
        text.push_str(word);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
