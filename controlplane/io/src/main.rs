//! The control plane alone, for small images. Everything is in the library.

use std::process::ExitCode;

use clap::Parser;

/// The control plane of ATP: resources in, consistent sets out.
#[derive(Debug, Parser)]
#[command(name = "atp-controlplane", version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(flatten)]
    args: controlplane_io::args::Args,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Ask whether a control plane is well: exit code 0 where it is, 1 where it is not
    Health {
        /// The page that says so
        #[arg(default_value = "http://127.0.0.1:7441/healthz/ready")]
        url: String,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    match command.other {
        Some(Other::Health { url }) => controlplane_io::probe::run(&url),
        None => controlplane_io::args::main(&command.args),
    }
}
