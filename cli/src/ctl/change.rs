//! `apply` and `delete`.

use proto_core::model::Kind;
use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;

use super::args::{Files, What};
use super::connect::Connection;
use super::{Failure, Terminal, input, text};

pub async fn apply(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    files: &Files,
    dry_run: bool,
) -> Result<(), Failure> {
    let sources = input::read(files)?;
    let applied = connection.resources.apply(wire::ApplyRequest { sources, dry_run }).await?.into_inner();
    warn(terminal, &applied.warnings);
    refuse(terminal, &applied.mistakes, "nothing was applied")?;
    for change in &applied.changes {
        terminal.out(&text::change(change, dry_run));
    }
    Ok(())
}

pub async fn delete(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    what: &What,
    dry_run: bool,
) -> Result<(), Failure> {
    let named = match (what.kind, &what.name) {
        (Some(kind), Some(name)) => vec![(kind, name.clone())],
        _ => of_files(terminal, &what.files)?,
    };
    // One call each: what is gone already or still needed by others is told, and does not keep the rest.
    let mut is_complete = true;
    for (kind, name) in named {
        let request = wire::DeleteRequest { kind: kind.as_str().into(), name: name.clone(), dry_run };
        let deleted = match connection.resources.delete(request).await {
            Ok(deleted) => deleted.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => {
                terminal.err(&format!("error: {}", status.message()));
                is_complete = false;
                continue;
            }
            Err(status) => return Err(status.into()),
        };
        let kept = format!("{}/{name} was not deleted", kind.as_str().to_ascii_lowercase());
        is_complete &= refuse(terminal, &deleted.mistakes, &kept).is_ok();
        for change in &deleted.changes {
            terminal.out(&text::change(change, dry_run));
        }
    }
    if is_complete { Ok(()) } else { Err(Failure::Told) }
}

/// What files name, those first that need others: a route goes before its adapters and its tenant.
fn of_files(
    terminal: &mut Terminal<'_>,
    files: &[std::path::PathBuf],
) -> Result<Vec<(Kind, String)>, Failure> {
    let sources = input::read(&Files { files: files.to_vec() })?;
    let read: Vec<parse::Source<'_>> =
        sources.iter().map(|source| parse::Source { file: &source.file, content: &source.content }).collect();
    let parsed = parse::documents(&read).map_err(|mistakes| {
        for mistake in &mistakes {
            terminal.err(&mistake.to_string());
        }
        terminal.err(&format!("error: nothing was deleted: {}", text::count(mistakes.len(), "mistake")));
        Failure::Told
    })?;
    let mut named: Vec<(Kind, String)> =
        parsed.documents.iter().map(|document| (document.kind, document.name.to_string())).collect();
    named.sort_by_key(|(kind, _)| *kind != Kind::Route);
    Ok(named)
}

/// Prints what is taken but has no effect.
pub fn warn(terminal: &mut Terminal<'_>, warnings: &[wire::Mistake]) {
    for warning in warnings {
        terminal.err(&format!("warning: {}", text::mistake(warning)));
    }
}

/// Prints every mistake, then what came of them.
pub fn refuse(terminal: &mut Terminal<'_>, mistakes: &[wire::Mistake], outcome: &str) -> Result<(), Failure> {
    if mistakes.is_empty() {
        return Ok(());
    }
    for mistake in mistakes {
        terminal.err(&text::mistake(mistake));
    }
    terminal.err(&format!("error: {outcome}: {}", text::count(mistakes.len(), "mistake")));
    Err(Failure::Told)
}
