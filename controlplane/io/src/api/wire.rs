//! Values to messages of `atp.admin.v1`, and faults to the status codes callers act on.

use controlplane_core::intent::{self, Refusal, Verb};
use controlplane_core::stored::Entry;
use proto_core::model::{Kind, Name};
use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;
use tonic::Status;

use crate::writer::WriteFault;

pub fn mistake(mistake: &parse::Mistake) -> wire::Mistake {
    let (file, line, column) = match &mistake.place {
        Some(place) => (place.file.to_string(), place.line, place.column),
        None => (String::new(), 0, 0),
    };
    wire::Mistake { file, line, column, path: mistake.path.clone(), what: mistake.what.clone() }
}

pub fn mistakes(mistakes: &[parse::Mistake]) -> Vec<wire::Mistake> {
    mistakes.iter().map(mistake).collect()
}

pub fn change(change: &intent::Change) -> wire::Change {
    let verb = match change.verb() {
        Verb::Created => wire::change::Verb::Created,
        Verb::Configured => wire::change::Verb::Configured,
        Verb::Unchanged => wire::change::Verb::Unchanged,
        Verb::Deleted => wire::change::Verb::Deleted,
    };
    wire::Change { verb: verb.into(), kind: change.kind.as_str().into(), name: change.name.as_str().into() }
}

pub fn changes(changes: &[intent::Change]) -> Vec<wire::Change> {
    changes.iter().map(change).collect()
}

pub fn resource(entry: &Entry) -> wire::Resource {
    wire::Resource {
        kind: entry.document.kind.as_str().into(),
        name: entry.document.name.as_str().into(),
        version: entry.version,
        json: entry.document.json.clone().into_bytes().into(),
    }
}

pub fn kind(text: &str) -> Result<Kind, Status> {
    Kind::parse(text).ok_or_else(|| {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        Status::invalid_argument(format!("there is no kind {}; there are {kinds}", shown(text)))
    })
}

/// The kind asked for; `None`: every kind.
pub fn kind_or_all(text: &str) -> Result<Option<Kind>, Status> {
    if text.is_empty() { Ok(None) } else { kind(text).map(Some) }
}

pub fn name(text: &str) -> Result<Name, Status> {
    Name::resource(text).map_err(|why| Status::invalid_argument(format!("name {}: {why}", shown(text))))
}

pub fn missing(kind: Kind, name: &Name) -> Status {
    Status::not_found(format!(
        "there is no {kind} `{name}`; `atp ctl get {}` lists what there is",
        plural(kind)
    ))
}

/// What a write that did not happen is to its caller; `Err` is for the call, `Ok` is mistakes of what it
/// sent.
pub fn fault(fault: WriteFault) -> Result<Vec<wire::Mistake>, Status> {
    match fault {
        WriteFault::Refused(Refusal::Mistakes(found)) => Ok(mistakes(&found)),
        WriteFault::Refused(Refusal::Missing(kind, name)) => Err(missing(kind, &name)),
        WriteFault::TooLarge(too_large) => {
            Ok(vec![wire::Mistake { what: too_large.to_string(), ..wire::Mistake::default() }])
        }
        WriteFault::Store(fault) => Err(Status::unavailable(fault.to_string())),
        fault @ WriteFault::Busy => Err(Status::resource_exhausted(fault.to_string())),
        fault @ WriteFault::Late => Err(Status::deadline_exceeded(fault.to_string())),
        fault @ WriteFault::Stopping => Err(Status::unavailable(fault.to_string())),
    }
}

/// A caller's word in a message back: enough to find it, nothing that could break a log line.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{start:?}")
}

fn plural(kind: Kind) -> String {
    format!("{}s", kind.as_str().to_ascii_lowercase())
}

const SHOWN_CHARS_MAX: usize = 64;
