//! The command `loadtest mock`.
//!
//! What it is for: the mock as a program, told everything by flags. It prints one line with its address and
//! then serves until SIGINT or SIGTERM; it never prints per request.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::script::{Script, WORDS};
use super::{MockConfig, serve_workers};

/// Flags of `loadtest mock`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = long_help())]
pub struct MockArgs {
    /// Address to listen on; port 0 takes a free one (printed on stdout)
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Silence before the first token, milliseconds
    #[arg(long, default_value_t = 0)]
    pub first_token_ms: u64,
    /// Tokens per second after the first; 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    pub token_rate: u32,
    /// Tokens of an answer
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tokens: u32,
    /// Exact bytes of an answer's text, spread over its tokens; 0 is `tok1 tok2 ...`
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub answer_bytes: u32,
    /// Script words joined by `--`, applied to every request after the flags above (see below)
    #[arg(long, allow_hyphen_values = true)]
    pub fault: Option<String>,
    /// Gather the events of a stream into few writes
    #[arg(long)]
    pub coalesce: bool,
    /// Seed of the permille dice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, each with its own listening socket
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Name to list in GET /v1/models; may be repeated
    #[arg(long = "model")]
    pub models: Vec<String>,
    /// Do not keep the last requests for GET /mock/requests
    #[arg(long)]
    pub no_record: bool,
}

fn long_help() -> String {
    format!(
        "Scripts: words joined by `--` shape an answer. They are read from --fault, then from the model's \
         name (mock-small--tokens-20--first-token-ms-50--token-rate-100--cut-after-5), then from the header \
         x-mock-script (tokens-20--cut-after-5); later ones override earlier ones.\n\
         Words: {WORDS}.\n\
         K counts content chunks of a stream, 0 is right behind the head; an answer that is not streamed \
         takes half its body for K above 0."
    )
}

impl MockArgs {
    fn config(&self) -> Result<MockConfig, String> {
        let mut script = Script {
            tokens: self.tokens,
            answer_bytes: self.answer_bytes,
            first_token: Duration::from_millis(self.first_token_ms),
            token_rate: self.token_rate,
            coalesce: self.coalesce,
            seed: self.seed,
            ..Script::default()
        };
        script.apply(self.fault.as_deref().unwrap_or_default()).map_err(|bad| bad.to_string())?;
        let mut config = MockConfig { script, record: !self.no_record, ..MockConfig::default() };
        if !self.models.is_empty() {
            config.models.clone_from(&self.models);
        }
        Ok(config)
    }
}

/// Serves until a signal; the error says what to change.
pub fn mock(args: &MockArgs) -> Result<(), String> {
    let config = args.config()?;
    let workers = serve_workers(args.listen, config, args.workers.into())
        .map_err(|e| format!("--listen {}: {e}; choose a free address, or port 0", args.listen))?;
    println!("mock listening on http://{}", workers.address);
    std::io::stdout().flush().map_err(|e| format!("stdout: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.and_then(|runtime| runtime.block_on(signalled()));
    workers.stop();
    waited.map_err(|e| format!("waiting for SIGINT or SIGTERM: {e}"))
}

/// Ends at the first SIGINT or SIGTERM.
pub(crate) async fn signalled() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
