//! The program `loadtest`: see the library for what it is for.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::compare::command::{CompareArgs, compare};
use loadtest::generate::command::{RunArgs, run};
use loadtest::mock::command::{MockArgs, mock};

/// Mock model server, open-loop generator, and the comparison with nginx.
#[derive(Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A model server in the OpenAI dialect, scripted to be fast or to fail
    Mock(MockArgs),
    /// Load a server and report latencies, rates and failures
    Run(RunArgs),
    /// Measure the CPU time of atp and nginx per request and per chunk, in interleaved rounds
    Compare(CompareArgs),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Mock(args) => mock(&args),
        Command::Run(args) => run(&args),
        Command::Compare(args) => compare(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loadtest: {why}");
            ExitCode::FAILURE
        }
    }
}
