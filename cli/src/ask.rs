//! `atp ask`: one prompt; its answer goes to the terminal as it comes, then a line says what it took.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sdk_rust::{Ask, Event, Failure, Final};

/// Ask one prompt and print its answer as it comes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  atp ask \"Why is the sky blue?\"\n  atp ask --quality high --json \"hi\"\n  \
    git diff | atp ask -"
)]
pub struct AskArgs {
    /// The prompt; `-` reads it from standard input
    prompt: String,
    /// The data plane
    #[arg(long, default_value = "http://127.0.0.1:7443", env = "ATP_BASE_URL")]
    url: String,
    /// A model, `adapter/model` or a route; without it the data plane chooses
    #[arg(long)]
    model: Option<String>,
    /// How good it must be
    #[arg(long, value_parser = ["fast", "balanced", "high"])]
    quality: Option<String>,
    /// The most it may cost, in USD
    #[arg(long, value_name = "USD")]
    max_cost_usd: Option<f64>,
    /// Start another model beside the first where no token has come by 0.6 of this
    #[arg(long, value_name = "MS")]
    latency_slo_ms: Option<u32>,
    /// The tenant's key
    #[arg(long, env = "ATP_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// How the request travels
    #[arg(long, value_parser = ["http"], default_value = "http")]
    via: String,
    /// Print the lines of the answer as they came, one JSON object each
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(args: &AskArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(ask(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(args: &AskArgs) -> Result<(), String> {
    let request = Ask {
        prompt: prompt(args)?,
        model: args.model.clone(),
        quality: args.quality.clone(),
        max_cost_usd: args.max_cost_usd,
        latency_slo_ms: args.latency_slo_ms,
        task_type: None,
        key: args.key.clone(),
    };
    let begun = Instant::now();
    let told = |failure: Failure| failure.to_string();
    let mut answer = request.send(&args.url).await.map_err(told)?;
    let mut first_token = None;
    let mut out = std::io::stdout().lock();
    let mut print = |text: &str| {
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| format!("standard output: {error}"))
    };
    while let Some((event, line)) = answer.next_line().await.map_err(told)? {
        if matches!(event, Event::Chunk(_)) {
            first_token.get_or_insert_with(|| begun.elapsed());
        }
        match event {
            _ if args.json => print(&format!("{}\n", String::from_utf8_lossy(&line)))?,
            Event::Chunk(chunk) => print(&chunk.text)?,
            Event::Final(last) => print(&summary(&last, first_token))?,
            Event::Plan(_) | Event::Note(_) => {}
        }
    }
    Ok(())
}

fn prompt(args: &AskArgs) -> Result<String, String> {
    if args.prompt != "-" {
        return Ok(args.prompt.clone());
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PROMPT_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    Ok(text)
}

fn summary(last: &Final, first_token: Option<Duration>) -> String {
    let first =
        first_token.map_or_else(String::new, |after| format!(", first token after {} ms", after.as_millis()));
    format!(
        "\n[{}: {} tokens in, {} out, {} USD{first}]\n",
        last.model_used, last.tokens_in, last.tokens_out, last.cost_usd
    )
}

/// As much as a data plane takes.
const PROMPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
