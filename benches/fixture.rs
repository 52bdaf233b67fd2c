//! The set every bench serves, and the bytes that pass through it: an installation of some size, a caller
//! with a key.

use bytes::Bytes;
use dataplane_core::table::Table;
use dataplane_state::registry::Registry;
use dataplane_state::tables::{Snapshot, Tables};
use dataplane_state::tally::WorkerTally;
use proto_core::parse::{Source, documents, set};
use sha2::{Digest, Sha256};

use crate::admission::Admission;

/// One data plane's shared state as one worker sees it.
pub struct Fixture {
    pub tables: Tables<Snapshot>,
    pub tally: WorkerTally,
    /// Of one tenant and one upstream.
    pub admission: Admission,
    /// SHA-256 of [`KEY`].
    pub key: [u8; 32],
    pub body: Bytes,
    pub answer: Bytes,
}

impl Fixture {
    /// For `workers` threads.
    pub fn new(workers: usize) -> Fixture {
        let text = resources("http://127.0.0.1:9/v1");
        let parsed = documents(&[Source { file: "bench", content: text.as_bytes() }]).expect("a sound set");
        let table = Table::build(&set(&parsed.documents).expect("it fits together"), false);
        let tables = Tables::new();
        tables.swap(Registry::new(workers).bind(1, 1, table));
        let key = Sha256::digest(KEY.as_bytes()).into();
        let (body, answer) = (chat_body(MODEL_OF_TWO, false), answer_500());
        let (tally, admission) = (WorkerTally::default(), Admission::new());
        Fixture { tables, tally, admission, key, body, answer }
    }
}

/// An adapter, [`TENANT_KEYS`] tenants with a key each, and [`ROUTES`] routes for a model of their own, every
/// other with a second candidate.
pub fn resources(endpoint: &str) -> String {
    let mut text = format!(
        "kind: Adapter\nname: mock\nspec:\n  kind: openai\n  endpoint: {endpoint}\n  \
         limits: {{ max_parallel: 1024 }}\n  models:\n    \
         - {{ name: mock-model, price: {{ in: 0.15, out: 0.60 }} }}\n    \
         - {{ name: mock-other, price: {{ in: 0.30, out: 1.20 }} }}\n"
    );
    for at in 0..TENANT_KEYS {
        let key = if at == 0 { KEY.to_owned() } else { format!("{KEY}-{at}") };
        let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!(
            "---\nkind: Tenant\nname: tenant-{at}\nspec: {{ keys: [ {{ sha256: \"{hash}\" }} ] }}\n"
        );
    }
    for at in 0..ROUTES {
        text += &format!(
            "---\nkind: Route\nname: route-{at:03}\nspec:\n  match: {{ model: route-model-{at:03} }}\n  \
             candidates:\n    - {{ adapter: mock, model: mock-model, weight: 3 }}\n"
        );
        if at % 2 == 1 {
            text += "    - { adapter: mock, model: mock-other, weight: 1 }\n";
        }
    }
    text
}

/// A chat of common size: a system prompt, a few turns, the usual parameters; 1.4 KB.
pub fn chat_body(model: &str, streamed: bool) -> Bytes {
    const TURN: &str = "The proxy reads only what routing needs, keeps the bytes as they came and passes \
                        them on. \\n What is it that you would like to know about it, and in how many \
                        words shall it all be said to you?";
    let turn = |role: &str| format!(r#"{{"role":"{role}","content":"{TURN} {TURN}"}}"#);
    let (system, user, assistant) = (turn("system"), turn("user"), turn("assistant"));
    let text = format!(
        "{{\"model\":\"{model}\",\"messages\":[{system},{user},{assistant}],\"temperature\":0.7,\"top_p\":1,\
         \"stream\":{streamed},\"max_tokens\":256,\"user\":\"someone\"}}"
    );
    // Owned, so that clones are counts and not allocations, as pieces read from a socket are.
    Bytes::from_owner(text.into_bytes())
}

/// An answer that is not streamed, 500 bytes with its usage.
pub fn answer_500() -> Bytes {
    let start = concat!(
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"mock-model","#,
        r#""choices":[{"index":0,"message":{"role":"assistant","content":""#
    );
    let end = concat!(
        r#""},"finish_reason":"stop"}],"usage":"#,
        r#"{"prompt_tokens":350,"completion_tokens":60,"total_tokens":410}}"#
    );
    let filler = "word ".repeat(ANSWER_BYTES);
    let text = format!("{start}{}{end}", &filler[..ANSWER_BYTES - start.len() - end.len()]);
    Bytes::from_owner(text.into_bytes())
}

/// One event of a stream, a token.
pub fn event() -> Bytes {
    const EVENT: &str = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"#,
        r#""model":"mock-model","choices":[{"index":0,"delta":{"content":" tok"},"finish_reason":null}]}"#,
        "\n\n"
    );
    Bytes::from_static(EVENT.as_bytes())
}

/// The caller's key.
pub const KEY: &str = "bench-key";
/// What is asked for: a route in the middle of the list, with one candidate.
pub const MODEL: &str = "route-model-050";
/// The next, with two.
pub const MODEL_OF_TWO: &str = "route-model-051";
/// What a large installation has; a lookup must not grow with it.
pub const ROUTES: usize = 100;
pub const TENANT_KEYS: usize = 20;
const ANSWER_BYTES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_sizes_their_names_say() {
        assert!((1350..1450).contains(&chat_body(MODEL, false).len()), "{}", chat_body(MODEL, false).len());
        assert_eq!(answer_500().len(), 500);
    }
}
