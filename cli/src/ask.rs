//! `atp ask`: one prompt; its answer goes to the terminal as it comes, then a line says what it took.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sdk_rust::ask::Event;
use sdk_rust::{Ask, Client, Failure, Piece};
use serde_json::{Value, json};

use crate::outcome;
use crate::reach::{Carriage, Reach};

/// Ask one prompt and print its answer as it comes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  atp ask \"Why is the sky blue?\"\n  atp ask --quality high --json \"hi\"\n  \
    git diff | atp ask -\n  atp ask --via quic --url https://127.0.0.1:7444 \"hi\""
)]
pub struct AskArgs {
    /// The prompt; `-` reads it from standard input
    prompt: String,
    /// The data plane [default: where `atp up` listens]
    #[arg(long, env = "ATP_BASE_URL")]
    url: Option<String>,
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
    /// How the request travels: plain HTTP, or in a session over WebSocket, HTTP/2 or QUIC
    #[arg(long, value_enum, default_value_t = Via::Http)]
    via: Via,
    #[command(flatten)]
    reach: Reach,
    /// Print the parts of the answer as they came, one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Via {
    Http,
    Ws,
    H2,
    Quic,
}

impl Via {
    /// `None`: no session at all.
    fn carriage(self) -> Option<Carriage> {
        match self {
            Via::Http => None,
            Via::Ws => Some(Carriage::Ws),
            Via::H2 => Some(Carriage::H2),
            Via::Quic => Some(Carriage::Quic),
        }
    }
}

/// Asks and prints.
pub fn run(args: &AskArgs) -> ExitCode {
    outcome::of(tokio::runtime::Builder::new_current_thread().enable_all().build(), ask(args))
}

async fn ask(args: &AskArgs) -> Result<(), String> {
    let carriage = args.via.carriage();
    let default_url = carriage.unwrap_or(Carriage::Ws).default_url();
    let url = args.url.as_deref().unwrap_or(default_url);
    let request = Ask {
        prompt: prompt(args)?,
        model: args.model.clone(),
        quality: args.quality.clone(),
        max_cost_usd: args.max_cost_usd,
        latency_slo_ms: args.latency_slo_ms,
        task_type: None,
        key: args.reach.trust().key.clone(),
        tls: args.reach.trust().tls(url),
    };
    let printer = Printer { json: args.json, begun: Instant::now(), first_token: None };
    match carriage {
        Some(carriage) => in_a_session(args, (carriage, url), request, printer).await,
        None => over_http(url, &request, printer).await,
    }
}

async fn over_http(url: &str, request: &Ask, mut printer: Printer) -> Result<(), String> {
    let told = |failure: Failure| failure.to_string();
    let mut answer = request.send(url).await.map_err(told)?;
    while let Some((event, line)) = answer.next_line().await.map_err(told)? {
        if printer.json {
            printer.line(&String::from_utf8_lossy(&line))?;
            continue;
        }
        match event {
            Event::Chunk(chunk) => printer.text(&chunk.text)?,
            Event::Final(last) => {
                printer.summary(&last.model_used, last.tokens_in, last.tokens_out, last.cost_usd)?;
            }
            Event::Plan(_) | Event::Note(_) => {}
        }
    }
    Ok(())
}

async fn in_a_session(
    args: &AskArgs,
    (carriage, url): (Carriage, &str),
    request: Ask,
    printer: Printer,
) -> Result<(), String> {
    let options = args.reach.options(carriage, url);
    let client = Client::connect(url, options).await.map_err(|failure| failure.to_string())?;
    let told = told_by(&client, request, args.json, printer).await;
    // Also after a refusal: a session that is only dropped is kept for its peer to come back. What was asked
    // has its answer, so how the session ends changes nothing.
    let _ = client.finish().await;
    told
}

async fn told_by(client: &Client, request: Ask, json: bool, mut printer: Printer) -> Result<(), String> {
    let told = |failure: Failure| failure.to_string();
    let mut answer = client.ask(request).await.map_err(told)?;
    while let Some(piece) = answer.next().await.map_err(told)? {
        match piece {
            _ if json => printer.line(&object(piece).to_string())?,
            Piece::Text(text) => printer.text(&text)?,
            Piece::Done(done) => {
                printer.summary(&done.model_used, done.tokens_in, done.tokens_out, done.cost_usd)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// One line of `--json`.
fn object(piece: Piece) -> Value {
    let (kind, content) = match piece {
        Piece::Text(text) => ("chunk", json!({ "text": text })),
        Piece::Chunk(chunk) => ("chunk", chunk),
        Piece::Done(done) => ("final", done.content),
        Piece::Other { kind, content } => ("event", json!({ "event": kind, "content": content })),
        // Of fan-outs, which this command does not ask for.
        Piece::Lane(_) | Piece::LaneEnd(_) | Piece::Provisional(_) => ("event", Value::Null),
    };
    let mut line = json!({ "type": kind });
    if let (Value::Object(line), Value::Object(content)) = (&mut line, content) {
        line.extend(content);
    }
    line
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

/// What goes to the terminal.
struct Printer {
    json: bool,
    begun: Instant,
    first_token: Option<Duration>,
}

impl Printer {
    fn text(&mut self, text: &str) -> Result<(), String> {
        self.first_token.get_or_insert_with(|| self.begun.elapsed());
        self.print(text)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        self.print(&format!("{line}\n"))
    }

    fn summary(&mut self, model: &str, tokens_in: u64, tokens_out: u64, usd: f64) -> Result<(), String> {
        debug_assert!(!self.json, "lines of JSON have no summary");
        let first = self.first_token.map(|after| format!(", first token after {} ms", after.as_millis()));
        let first = first.unwrap_or_default();
        self.print(&format!("\n[{model}: {tokens_in} tokens in, {tokens_out} out, {usd} USD{first}]\n"))
    }

    fn print(&self, text: &str) -> Result<(), String> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| format!("standard output: {error}"))
    }
}

/// As much as a data plane takes.
const PROMPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
