//! `atp`: one binary for everything a person types.

mod adapter;
mod ask;
mod cert;
mod config;
mod ctl;
mod mcp;
mod memory;
mod outcome;
mod reach;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use dataplane_io::telemetry::logs::Format;

/// A proxy for model and agent traffic.
#[derive(Debug, Parser)]
#[command(name = "atp", version, after_help = EXAMPLES)]
struct Cli {
    /// How logs are written, to stderr [default: text, or what settings say]
    #[arg(long, value_enum, global = true, env = "ATP_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::UpArgs),
    /// Run a data plane alone: it serves what its resources file or its control plane says
    #[command(after_help = "Examples:\n  atp dataplane --config deploy/examples/dataplane.yaml")]
    Dataplane {
        /// Settings of the data plane
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a control plane alone: it stores resources and pushes them to data planes
    Controlplane(ControlplaneArgs),
    Adapter(adapter::AdapterArgs),
    Ask(ask::AskArgs),
    Cert(cert::CertArgs),
    Config(config::ConfigArgs),
    Ctl(ctl::CtlArgs),
    /// Ask whether a server is well: exit code 0 where it is, 1 where it is not
    #[command(after_help = "Examples:\n  atp health\n  atp health http://127.0.0.1:8080/healthz")]
    Health {
        /// The page that says so by its status
        #[arg(default_value = "http://127.0.0.1:7443/readyz")]
        url: String,
    },
    Mcp(mcp::McpArgs),
    Memory(memory::MemoryArgs),
}

/// As `atp-controlplane`, but for the log format, which is global here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  atp controlplane --config deploy/examples/controlplane.yaml")]
struct ControlplaneArgs {
    /// Settings of the control plane
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where resources and tokens are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let said = cli.log_format.map(|said| match said {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    });
    let format = said.unwrap_or_default();
    match cli.command {
        Command::Up(args) => up::run(&args, said),
        Command::Dataplane { config } => dataplane_io::run::from_file(&config, said),
        Command::Controlplane(ControlplaneArgs { config, data_dir }) => {
            use controlplane_io::args::{Args, LogFormat as Log};
            let log_format = if format == Format::Json { Log::Json } else { Log::Text };
            controlplane_io::args::main(&Args { config, data_dir, log_format })
        }
        Command::Adapter(args) => adapter::run(&args, format),
        Command::Ask(args) => ask::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Health { url } => dataplane_io::probe::run(&url),
        Command::Mcp(args) => mcp::run(&args),
        Command::Memory(args) => memory::run(&args, format),
    }
}

const EXAMPLES: &str = "\
Examples:
  atp up                                  both planes on this machine
  atp ask \"Why is the sky blue?\"          one prompt, its answer as it comes
  atp adapter serve --kind echo \
    --join http://127.0.0.1:7443 --name parrot   answer prompts from here
  atp ctl apply -f adapter.yaml           declare an adapter
  atp ctl status                          what is served, by whom
  atp health                              whether the data plane here is well
  atp mcp call route.complete prompt=hi   the tools agents see, from here
  atp memory                              what programs are to remember
  atp config env                          environment variables and their values
  atp cert dev --out ./certs              certificates for development

Exit codes: 0 well, 1 failed, 2 wrong usage";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
