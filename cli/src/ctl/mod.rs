//! `atp ctl`: the operator's hand on the control plane, with kubectl's habits. One client of `atp.admin.v1`
//! among others: it knows nothing that reflection does not tell everyone.
//!
//! [`args`] (the words), [`connect`] (the way there), [`input`] (files), then one module for each group of
//! commands; what people see is made in [`table`] and [`text`], apart from the calls, so that tests can read
//! it.

mod args;
mod change;
mod check;
mod connect;
mod input;
mod operate;
mod show;
pub mod table;
mod text;

pub use args::CtlArgs;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use args::Command;
use connect::Connection;

/// Runs one command to its end.
pub fn run(args: &CtlArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let mut terminal = Terminal { out: &mut out, err: &mut err };
    let code = runtime.block_on(dispatch(args, &mut terminal));
    ExitCode::from(code)
}

async fn dispatch(args: &CtlArgs, terminal: &mut Terminal<'_>) -> u8 {
    let done = match &args.command {
        Command::Validate { files, offline: true } => check::validate_offline(files, terminal),
        command => match Connection::open(&args.server).await {
            Ok(mut connection) => online(command, &mut connection, terminal).await,
            Err(failure) => Err(failure),
        },
    };
    let failed = match &args.command {
        // As `diff` and `kubectl diff`: 1 means that there are differences.
        Command::Diff { .. } => DIFF_FAILED,
        _ => FAILED,
    };
    match done {
        Ok(()) => 0,
        Err(Failure::Differences) => DIFFERENCES,
        Err(Failure::Told) => failed,
        Err(Failure::Message(message)) => {
            terminal.err(&format!("error: {message}"));
            failed
        }
    }
}

async fn online(
    command: &Command,
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    match command {
        Command::Apply { files, dry_run } => change::apply(connection, terminal, files, *dry_run).await,
        Command::Delete { what, dry_run } => change::delete(connection, terminal, what, *dry_run).await,
        Command::Diff { files } => check::diff(connection, terminal, files).await,
        Command::Validate { files, .. } => check::validate(connection, terminal, files).await,
        Command::Get { kind, name, output } => {
            show::get(connection, terminal, *kind, name.as_deref(), *output).await
        }
        Command::Describe { kind, name } => show::describe(connection, terminal, *kind, name).await,
        Command::Explain { question, output } => {
            operate::explain(connection, terminal, question, *output).await
        }
        Command::Status { output } => operate::status(connection, terminal, *output).await,
        Command::Watch { kind, output } => operate::watch(connection, terminal, *kind, *output).await,
    }
}

/// Why a command did not end well.
#[derive(Debug)]
enum Failure {
    /// Everything was printed already.
    Told,
    /// `diff` found what it looks for.
    Differences,
    Message(String),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Failure {
        // A status with a cause was made on this side: the connection broke before an answer came.
        if let Some(cause) = status.source() {
            return Failure::Message(format!("the call broke off: {}", connect::causes(cause)));
        }
        Failure::Message(match status.message() {
            "" => format!("the control plane answered {}", status.code()),
            message => message.to_owned(),
        })
    }
}

/// Where a command prints. A reader that went away, such as `head`, is no failure of the command.
struct Terminal<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Terminal<'_> {
    /// One or more lines of the answer.
    fn out(&mut self, text: &str) {
        let _ = if text.is_empty() || text.ends_with('\n') {
            self.out.write_all(text.as_bytes())
        } else {
            writeln!(self.out, "{text}")
        };
        let _ = self.out.flush();
    }

    /// One line about the answer.
    fn err(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }
}

const FAILED: u8 = 1;
const DIFFERENCES: u8 = 1;
const DIFF_FAILED: u8 = 2;

#[cfg(test)]
mod tests;
