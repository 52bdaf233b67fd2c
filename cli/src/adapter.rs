//! `atp adapter serve`: answers prompts over a connection it dials itself, for models a data plane cannot
//! reach.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use dataplane_io::run::told;
use dataplane_io::telemetry::logs::{self, Format};
use proto_core::frame::Window;
use sdk_rust::adapter::{ModelServer, echo};
use sdk_rust::{Adapter, Options};

use crate::outcome;
use crate::reach::{Carriage, Reach};

/// Answer prompts, over a connection that is dialed from here
#[derive(Debug, Args)]
pub struct AdapterArgs {
    #[command(subcommand)]
    command: AdapterCommand,
}

#[derive(Debug, Subcommand)]
enum AdapterCommand {
    Serve(ServeArgs),
}

/// Join a data plane as a declared Adapter of kind `attached` and answer what it sends
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// What answers: the words of the prompt, or a model server with OpenAI's API
    #[arg(long, value_enum)]
    kind: Kind,
    /// The data plane
    #[arg(long, value_name = "URL")]
    join: String,
    /// The declared Adapter
    #[arg(long)]
    name: String,
    /// What carries the session
    #[arg(long, value_enum, default_value_t = Carriage::Ws)]
    via: Carriage,
    /// Of a model server: its API, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL", required_if_eq("kind", "openai"))]
    endpoint: Option<String>,
    /// Of a model server: the key it wants
    #[arg(long, env = "ATP_ADAPTER_KEY", hide_env_values = true)]
    endpoint_key: Option<String>,
    /// Of a model server: its own name for the model
    #[arg(long)]
    model: Option<String>,
    /// Requests at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    parallel: u32,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Echo,
    Openai,
}

const EXAMPLES: &str = "\
Examples:
  atp adapter serve --kind echo --join http://127.0.0.1:7443 --name parrot
  atp adapter serve --kind openai --endpoint http://127.0.0.1:11434/v1 --model llama3.1:8b \\
    --join https://proxy.example.com:7444 --via quic --name gpu-1 \\
    --ca certs/ca.pem --cert certs/adapter.pem --cert-key certs/adapter.key

SIGTERM: it says that it drains, answers what is under way, and ends";

/// Serves until a signal.
pub fn run(args: &AdapterArgs, format: Format) -> ExitCode {
    logs::start(format);
    let AdapterCommand::Serve(args) = &args.command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    outcome::of(runtime, serve(args))
}

async fn serve(args: &ServeArgs) -> Result<(), String> {
    let options = args.reach.options(args.via, &args.join);
    let window = Window { max_parallel: args.parallel, ..Window::default() };
    let options = Options { window, ..options };
    let adapter = match args.kind {
        Kind::Echo => Adapter::new(args.name.as_str(), echo),
        Kind::Openai => {
            let endpoint = args.endpoint.as_deref().unwrap_or_default();
            let server = ModelServer::new(endpoint).map_err(|failure| failure.to_string())?;
            let server = server.with_key(args.endpoint_key.as_deref()).with_model(args.model.as_deref());
            Adapter::new(args.name.as_str(), move |request, reply| {
                let server = server.clone();
                async move { server.answer(request, reply).await }
            })
        }
    };
    tracing::info!(adapter = args.name, join = args.join, "serving until a signal");
    adapter.serve(&args.join, &options, told()).await.map_err(|failure| failure.to_string())
}
