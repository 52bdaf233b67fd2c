//! Resources as an operator writes them.

use sha2::{Digest, Sha256};

/// An adapter at `url` with these models, each 1 USD a million tokens in and 2 out.
pub fn adapter(name: &str, url: &str, models: &[&str]) -> String {
    adapter_at(name, url, models, "{ in: 1.0, out: 2.0 }")
}

/// The same at a price.
pub fn adapter_at(name: &str, url: &str, models: &[&str], price: &str) -> String {
    let models = models
        .iter()
        .map(|model| format!("    - {{ name: {model}, quality: 0.8, safety_grade: A, price: {price} }}\n"));
    format!(
        "---\nkind: Adapter\nname: {name}\nspec:\n  kind: openai\n  endpoint: {url}/v1\n  models:\n{}",
        models.collect::<String>()
    )
}

/// A route over `(adapter, model, weight)`; `more`: further fields of its spec, a line each.
pub fn route(name: &str, candidates: &[(&str, &str, u32)], more: &[&str]) -> String {
    let candidates = candidates.iter().map(|(adapter, model, weight)| {
        format!("    - {{ adapter: {adapter}, model: {model}, weight: {weight} }}\n")
    });
    let more = more.iter().map(|line| format!("  {line}\n"));
    format!(
        "---\nkind: Route\nname: {name}\nspec:\n  candidates:\n{}{}",
        candidates.collect::<String>(),
        more.collect::<String>()
    )
}

pub fn tenant(name: &str, key: &str) -> String {
    format!("---\nkind: Tenant\nname: {name}\nspec: {{ keys: [ {{ sha256: \"{}\" }} ] }}\n", key_hash(key))
}

pub fn key_hash(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}
