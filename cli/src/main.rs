//! `atp`: one binary for everything a person types.

mod ctl;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A proxy for model and agent traffic.
#[derive(Debug, Parser)]
#[command(name = "atp", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ctl(ctl::CtlArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Ctl(args) => ctl::run(&args),
    }
}
