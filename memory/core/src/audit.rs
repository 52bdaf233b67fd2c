//! Who did what to which place: events in a chain of hashes, one chain for each tenant. An event never holds
//! a value, so that the log keeps nothing a deletion was to remove.
//!
//! `hash = SHA-256(hash of the event before, as bytes ‖ canonical event)`; the first event of a log has
//! nothing before it. Canonical: JSON with sorted names, no blanks, ASCII. So a changed, missing or moved
//! event shows at its number, and whoever keeps the newest hash elsewhere also notices a chain that was
//! written anew as a whole. With a secret each event also carries a [`Seal`], and then only its holder can
//! write one anew.

mod seal;

pub use seal::{Seal, Secret, SecretFault};

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::wall::Wall;

/// SHA-256.
pub type Hash = [u8; 32];

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    Put,
    Get,
    GetNotFound,
    Delete,
    List,
    Search,
    /// Everything that names a subject was read at once.
    SubjectExport,
    /// Everything that names a subject was deleted.
    SubjectDeletion,
}

impl EventKind {
    pub const ALL: [EventKind; 8] = [
        EventKind::Put,
        EventKind::Get,
        EventKind::GetNotFound,
        EventKind::Delete,
        EventKind::List,
        EventKind::Search,
        EventKind::SubjectExport,
        EventKind::SubjectDeletion,
    ];

    /// As it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Put => "memory_put",
            EventKind::Get => "memory_get",
            EventKind::GetNotFound => "memory_get_not_found",
            EventKind::Delete => "memory_delete",
            EventKind::List => "memory_list",
            EventKind::Search => "memory_search",
            EventKind::SubjectExport => "gdpr_data_export",
            EventKind::SubjectDeletion => "gdpr_data_deletion",
        }
    }

    pub fn parse(text: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One event before it is written.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub at: Wall,
    pub kind: EventKind,
    pub tenant: &'a str,
    /// Empty where the event is of no namespace.
    pub namespace: &'a str,
    /// Of an event about a subject, the subject.
    pub key: &'a str,
    /// Sorted by name.
    pub details: &'a [(&'a str, u64)],
}

impl Event<'_> {
    /// The one spelling that is hashed and kept.
    pub fn canonical(&self) -> String {
        let mut out = String::from("{\"details\":{");
        debug_assert!(self.details.is_sorted_by(|one, other| one.0 < other.0), "names are sorted");
        for (at, (name, number)) in self.details.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_text(&mut out, name);
            write!(out, ":{number}").expect("writing to a string");
        }
        out.push_str("},\"event_type\":");
        write_text(&mut out, self.kind.as_str());
        for (name, text) in [("key", self.key), ("namespace", self.namespace), ("tenant_id", self.tenant)] {
            write!(out, ",\"{name}\":").expect("writing to a string");
            write_text(&mut out, text);
        }
        write!(out, ",\"timestamp\":\"{}\"}}", self.at).expect("writing to a string");
        out
    }
}

/// When an event was, and of what kind; `None` where it is none of ours.
pub fn read(canonical: &str) -> Option<(Wall, EventKind)> {
    let event: serde_json::Value = serde_json::from_str(canonical).ok()?;
    let text = |name: &str| event.get(name)?.as_str();
    Some((Wall::parse(text("timestamp")?)?, EventKind::parse(text("event_type")?)?))
}

/// Where a chain stands: what the next event is numbered, and what it is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// From 1.
    pub next: u64,
    /// Of the event before it; `None` where there never was one.
    pub head: Option<Hash>,
}

impl Chain {
    pub const EMPTY: Chain = Chain { next: 1, head: None };

    /// Takes an event in; its hash.
    pub fn append(&mut self, canonical: &str) -> Hash {
        let hash = linked(self.head, canonical.as_bytes());
        *self = Chain { next: self.next + 1, head: Some(hash) };
        hash
    }
}

/// Reads a chain again, event by event, and says where it breaks.
#[derive(Debug)]
pub struct Verifier<'a> {
    expected: Chain,
    secret: Option<&'a Secret>,
    sealed: u64,
}

/// Where a chain breaks, and how it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    #[error("event {number} is missing")]
    Missing { number: u64 },
    #[error("event {number} is not the one that was written, or the one before it is not")]
    Changed { number: u64 },
    #[error("event {number} was never written")]
    Added { number: u64 },
    #[error("the seal of event {number} is not one of this secret")]
    Forged { number: u64 },
    #[error("event {number} has no seal, and one before it has")]
    Unsealed { number: u64 },
}

impl Break {
    pub fn number(self) -> u64 {
        match self {
            Break::Missing { number }
            | Break::Changed { number }
            | Break::Added { number }
            | Break::Forged { number }
            | Break::Unsealed { number } => number,
        }
    }
}

impl<'a> Verifier<'a> {
    /// `anchor`: the chain just before the first event that is still kept. Without a secret seals are not
    /// looked at.
    pub fn new(anchor: Chain, secret: Option<&'a Secret>) -> Verifier<'a> {
        Verifier { expected: anchor, secret, sealed: 0 }
    }

    /// Events so far whose seals are right. Those before the first seal are of a time without a secret, or
    /// were written anew by somebody without it: whoever knows when it was set knows which.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// The next event as it is kept.
    pub fn on_event(
        &mut self,
        number: u64,
        canonical: &[u8],
        hash: &Hash,
        seal: Option<&Seal>,
    ) -> Result<(), Break> {
        let expected = self.expected.next;
        if number > expected {
            return Err(Break::Missing { number: expected });
        }
        if number < expected {
            return Err(Break::Added { number });
        }
        if linked(self.expected.head, canonical) != *hash {
            return Err(Break::Changed { number });
        }
        match (self.secret, seal) {
            (Some(secret), Some(seal)) if secret.is_seal(seal, hash) => self.sealed += 1,
            (Some(_), Some(_)) => return Err(Break::Forged { number }),
            (Some(_), None) if self.sealed > 0 => return Err(Break::Unsealed { number }),
            (Some(_), None) | (None, _) => {}
        }
        self.expected = Chain { next: number + 1, head: Some(*hash) };
        Ok(())
    }

    /// After the last event. `head`: what the chain says of its own end.
    pub fn finish(self, head: Chain) -> Result<(), Break> {
        let Chain { next, head: last } = self.expected;
        if next < head.next {
            return Err(Break::Missing { number: next });
        }
        if next > head.next {
            return Err(Break::Added { number: head.next });
        }
        // Events that all fit each other and not the end: the last is another, or the end is.
        if last == head.head { Ok(()) } else { Err(Break::Changed { number: next.saturating_sub(1) }) }
    }
}

fn linked(before: Option<Hash>, canonical: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    if let Some(before) = before {
        digest.update(before);
    }
    digest.update(canonical);
    digest.finalize().into()
}

/// Lower-case hex, as hashes are shown.
pub fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::with_capacity(64), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string");
        out
    })
}

/// A JSON string in ASCII (RFC 8259 section 7); beyond the basic plane as two surrogates.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
