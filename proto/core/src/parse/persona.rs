//! The part of an Adapter that is a persona.

use super::fields::{Field, Fields};
use crate::model::{AdapterKind, Name, Over, Persona};

/// Reads what a persona is; everything else an adapter may have is that of the model it stands over.
pub fn read(fields: &Fields<'_>) -> Option<AdapterKind> {
    for name in ["endpoint", "allow_endpoints", "lease_ms", "auth", "tls", "limits", "concurrency", "echo"] {
        if let Some(field) = fields.optional(name) {
            field.mistake("kind persona has that of the adapter it stands over; remove it");
        }
    }
    fields.must("persona", persona).map(AdapterKind::Persona)
}

fn persona(field: &Field<'_>) -> Option<Persona> {
    let fields = field.fields(&["over", "system", "temperature", "top_p", "max_tokens"])?;
    let over = fields.maybe("over", over);
    let system = fields.must("system", |field| field.prose(SYSTEM_BYTES_MAX).map(Into::into));
    let permille = |field: &Field<'_>, high| u16::try_from(field.decimal(3, high)?).ok();
    let temperature = fields.maybe("temperature", |field| permille(field, 2));
    let top_p = fields.maybe("top_p", |field| permille(field, 1));
    let max_tokens = fields.maybe("max_tokens", |field| field.whole(1..=ANSWER_TOKENS_MAX));
    Some(Persona {
        over: over?,
        system: system?,
        temperature_permille: temperature?,
        top_p_permille: top_p?,
        max_tokens: max_tokens?,
    })
}

fn over(field: &Field<'_>) -> Option<Over> {
    let fields = field.fields(&["adapter", "model"])?;
    let adapter = fields.must("adapter", |field| field.parsed(Name::resource));
    let model = fields.must("model", |field| field.parsed(Name::model));
    Some(Over { adapter: adapter?, model: model? })
}

/// Sent with every request of the persona: some thirty pages.
const SYSTEM_BYTES_MAX: usize = 65_536;
/// Past every model's longest answer.
const ANSWER_TOKENS_MAX: u32 = 10_000_000;
