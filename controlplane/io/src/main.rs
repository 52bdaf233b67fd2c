//! The control plane alone, for small images. Everything is in the library.

use std::process::ExitCode;

use clap::Parser;

/// The control plane of ATP: resources in, consistent sets out.
#[derive(Debug, Parser)]
#[command(name = "atp-controlplane", version)]
struct Command {
    #[command(flatten)]
    args: controlplane_io::args::Args,
}

fn main() -> ExitCode {
    controlplane_io::args::main(&Command::parse().args)
}
