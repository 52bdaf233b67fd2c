//! The program `loadtest`: see the library for what it is for.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::compare::command::{CompareArgs, compare};
use loadtest::generate::command::{RunArgs, run};
use loadtest::mock::command::{MockArgs, mock};
use loadtest::overload::command::{OverloadArgs, overload};
use loadtest::sessions::command::{PartArgs, SessionsArgs, part, sessions};
use loadtest::tls::{TlsArgs, tls};

/// Mock model server, open-loop generator, the comparison with nginx, and overload.
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
    /// Offer multiples of what an upstream can do: goodput, and how soon the rest is refused
    Overload(OverloadArgs),
    /// Make TLS handshakes, full or resumed: how many a second, and the server's CPU for each
    Tls(TlsArgs),
    /// Measure the CPU time of the data plane per token over sessions, in interleaved rounds
    Sessions(SessionsArgs),
    /// A process that `sessions` starts
    #[command(hide = true)]
    SessionsPart(PartArgs),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Mock(args) => mock(&args),
        Command::Run(args) => run(&args),
        Command::Compare(args) => compare(&args),
        Command::Overload(args) => overload(&args),
        Command::Tls(args) => tls(&args),
        Command::Sessions(args) => sessions(&args),
        Command::SessionsPart(args) => part(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loadtest: {why}");
            ExitCode::FAILURE
        }
    }
}
