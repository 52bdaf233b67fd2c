//! The spec of a Tenant. Never shows what is written for a key: by mistake it may be the key itself.

use super::fields::{Field, Fields};
use crate::identity::Identity;
use crate::model::{Budget, KeyHash, Name, PUBLIC, Qos, Tenant, Window};
use crate::units::{Picodollars, TokenCount};

/// Reads a spec. `name` is `None` where it is wrong, which was said already.
pub fn read(spec: &Field<'_>, name: Option<Name>) -> Option<Tenant> {
    const KNOWN: &[&str] = &["weight", "qos", "keys", "identities", "window", "budget", "preempt_streams"];
    let fields = spec.fields(KNOWN)?;
    let weight = fields.or("weight", 1, |field| field.whole(1..=WEIGHT_MAX));
    let qos = fields.or("qos", Qos::default(), |field| {
        field.one_of(&[Qos::Gold, Qos::Silver, Qos::Bronze].map(|qos| (qos.as_str(), qos)))
    });
    let is_public = name.as_ref().is_some_and(|name| name.as_str() == PUBLIC);
    let identities = if is_public { no_identities(&fields) } else { read_identities(&fields) };
    // Where identities were meant, a key is not missing, whatever is wrong with them.
    let has_identities = identities.as_ref().is_none_or(|identities| !identities.is_empty());
    let keys = match (is_public, has_identities) {
        (true, _) => no_keys(&fields),
        (false, true) => fields.or("keys", Vec::new(), read_keys),
        (false, false) => fields.must("keys", read_keys),
    };
    let window = fields.maybe("window", read_window);
    let budget = fields.maybe("budget", read_budget);
    let preempt_streams = fields.or("preempt_streams", false, |field| field.boolean());
    Some(Tenant {
        name: name?,
        weight: weight?,
        qos: qos?,
        keys: keys?,
        identities: identities?,
        window: window?,
        budget: budget?,
        preempt_streams: preempt_streams?,
    })
}

fn no_keys(fields: &Fields<'_>) -> Option<Vec<KeyHash>> {
    let Some(keys) = fields.optional("keys") else { return Some(Vec::new()) };
    if !keys.list(0..=KEYS_MAX)?.is_empty() {
        return keys.wrong("tenant public takes callers without a key; remove the keys or rename the tenant");
    }
    Some(Vec::new())
}

fn read_keys(field: &Field<'_>) -> Option<Vec<KeyHash>> {
    let read =
        |item: Field<'_>| item.fields_unseen(&["sha256"])?.required("sha256")?.parsed_unseen(KeyHash::parse);
    // Collected first: every key is read, whatever is wrong with another.
    let keys: Vec<Option<KeyHash>> = field.list(1..=KEYS_MAX)?.into_iter().map(read).collect();
    keys.into_iter().collect()
}

fn read_identities(fields: &Fields<'_>) -> Option<Vec<Identity>> {
    fields.or("identities", Vec::new(), |field| {
        let read = |item: Field<'_>| item.parsed(Identity::parse);
        let identities: Vec<Option<Identity>> = field.list(0..=KEYS_MAX)?.into_iter().map(read).collect();
        identities.into_iter().collect()
    })
}

fn no_identities(fields: &Fields<'_>) -> Option<Vec<Identity>> {
    let Some(identities) = fields.optional("identities") else { return Some(Vec::new()) };
    identities.wrong("tenant public takes whoever has no name; remove the identities or rename the tenant")
}

fn read_window(field: &Field<'_>) -> Option<Window> {
    let fields = field.fields(&["max_parallel", "max_tokens", "max_usd_micros"])?;
    let parallel = fields.maybe("max_parallel", |field| field.whole(1..=PARALLEL_MAX));
    let tokens = fields.maybe("max_tokens", |field| field.whole(1..=TOKENS_MAX).map(TokenCount));
    let usd = fields.maybe("max_usd_micros", |field| field.whole(1..=USD_MICROS_MAX));
    Some(Window { max_parallel: parallel?, max_tokens: tokens?, max_usd_micros: usd? })
}

fn read_budget(field: &Field<'_>) -> Option<Budget> {
    let fields = field.fields(&["usd_micros_per_day", "tokens_per_minute"])?;
    let usd = fields.maybe("usd_micros_per_day", |field| field.whole(0..=USD_MICROS_MAX));
    let tokens = fields.maybe("tokens_per_minute", |field| field.whole(0..=TOKENS_MAX).map(TokenCount));
    Some(Budget { usd_micros_per_day: usd?, tokens_per_minute: tokens? })
}

const WEIGHT_MAX: u32 = 1000;

/// Rotation needs two; a fleet with a key each may have many.
const KEYS_MAX: usize = 10_000;

const PARALLEL_MAX: u32 = 1_000_000;

/// A million requests of a million tokens.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// What picodollars can count in a u64: 18.4 million USD.
const USD_MICROS_MAX: u64 = u64::MAX / Picodollars::PER_MICRO;
