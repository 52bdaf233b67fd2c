//! `diff` and `validate`: they change nothing.

use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;

use super::args::Files;
use super::change::{refuse, warn};
use super::connect::Connection;
use super::{Failure, Terminal, input, text};

pub async fn diff(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    files: &Files,
) -> Result<(), Failure> {
    let request = wire::ApplyRequest { sources: input::read(files)?, dry_run: true };
    let diff = connection.resources.diff(request).await?.into_inner();
    warn(terminal, &diff.warnings);
    refuse(terminal, &diff.mistakes, "nothing was compared")?;
    terminal.out(&diff.text);
    if diff.text.is_empty() { Ok(()) } else { Err(Failure::Differences) }
}

pub async fn validate(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    files: &Files,
) -> Result<(), Failure> {
    let request = wire::ApplyRequest { sources: input::read(files)?, dry_run: true };
    let validated = connection.resources.validate(request).await?.into_inner();
    warn(terminal, &validated.warnings);
    refuse(terminal, &validated.mistakes, "not valid")?;
    terminal.out(&valid(validated.resources as usize));
    Ok(())
}

/// By the rules of this program, which are those of its control plane and data plane.
pub fn validate_offline(files: &Files, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let sources = input::read(files)?;
    let read: Vec<parse::Source<'_>> =
        sources.iter().map(|source| parse::Source { file: &source.file, content: &source.content }).collect();
    let checked = parse::documents(&read).and_then(|parsed| {
        parse::set(&parsed.documents)?;
        Ok(parsed)
    });
    match checked {
        Ok(parsed) => {
            for warning in &parsed.warnings {
                terminal.err(&format!("warning: {warning}"));
            }
            terminal.out(&valid(parsed.documents.len()));
            Ok(())
        }
        Err(mistakes) => {
            for mistake in &mistakes {
                terminal.err(&mistake.to_string());
            }
            terminal.err(&format!("error: not valid: {}", text::count(mistakes.len(), "mistake")));
            Err(Failure::Told)
        }
    }
}

fn valid(resources: usize) -> String {
    format!("{}, no mistakes", text::count(resources, "resource"))
}
