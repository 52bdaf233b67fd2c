//! What a command that runs for long leaves behind: a line that says what went wrong, and the exit code.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::runtime::Runtime;

/// Runs `task` to its end.
pub fn of(runtime: io::Result<Runtime>, task: impl Future<Output = Result<(), String>>) -> ExitCode {
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(task),
        Err(error) => Err(format!("the runtime could not be started: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}
