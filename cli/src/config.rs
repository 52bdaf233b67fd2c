//! `atp config env`: every variable of the environment that is read, from the tables the programs themselves
//! read.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use dataplane_io::config::{Config, Origin, environment};
use proto_core::parse::environment::Row;
use serde_json::json;

use crate::ctl::table::Table;

/// Look at settings
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Env(EnvArgs),
}

/// Every environment variable that is read: its value, its default, what it means. Secrets are not shown
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EnvArgs {
    /// How it is written
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  atp config env
  ROUTER_PORT=8443 atp config env -o json

Exit codes: 0 well, 1 where a variable has a value it cannot have";

/// Prints them; tells what is wrong with those that are set.
pub fn run(args: &ConfigArgs) -> ExitCode {
    let ConfigCommand::Env(args) = &args.command;
    let env = |name: &str| std::env::var(name).ok();
    let told = told(&env);
    match args.output {
        Output::Table => print!("{}", table(&told)),
        Output::Json => println!("{}", json(&told)),
    }
    environment::unknown_here().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let mistakes = mistakes(&env);
    mistakes.iter().for_each(|mistake| eprintln!("error: {mistake}"));
    if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One variable, as it is here.
struct Told {
    /// Who reads it.
    of: &'static str,
    row: Row,
    /// `None`: not set.
    value: Option<String>,
}

fn told(env: &dyn Fn(&str) -> Option<String>) -> Vec<Told> {
    let data_plane = environment::rows().map(|row| ("data plane", row));
    let memory = memory_io::config::environment::rows().map(|row| ("memory", row));
    let clients = CLIENTS.iter().map(|row| ("atp", *row));
    let tell = |(of, row): (&'static str, Row)| {
        let value = env(row.name).filter(|value| !value.is_empty());
        let shown = |value| if row.is_secret { HIDDEN.to_owned() } else { value };
        Told { of, row, value: value.map(shown) }
    };
    data_plane.chain(memory).chain(clients).map(tell).collect()
}

fn table(told: &[Told]) -> String {
    let mut table = Table::new(&["NAME", "VALUE", "DEFAULT", "READ BY", "MEANING"]);
    for Told { of, row, value } in told {
        let cells = [row.name, value.as_deref().unwrap_or("-"), or_none(row.default), of, row.meaning];
        table.row(cells.map(str::to_owned));
    }
    table.print()
}

fn json(told: &[Told]) -> String {
    let rows = told.iter().map(|Told { of, row, value }| {
        let default = Some(row.default).filter(|default| !default.is_empty());
        json!({
            "name": row.name,
            "value": value,
            "default": default,
            "read_by": of,
            "meaning": row.meaning,
            "secret": row.is_secret,
        })
    });
    serde_json::to_string_pretty(&rows.collect::<Vec<_>>()).expect("texts are JSON")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// What the programs would say at their start.
fn mistakes(env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let unset = Config::local(PathBuf::new(), Origin::File(PathBuf::new()));
    let of_data_plane = unset.with_environment(env).err().unwrap_or_default();
    let of_memory = memory_io::config::environment::mistakes(env);
    of_data_plane.iter().chain(&of_memory).map(ToString::to_string).collect()
}

/// Of commands that reach something; clap reads these.
const CLIENTS: [Row; 4] = [
    Row::new("ATP_CONTROLPLANE", "http://127.0.0.1:7440", "the control plane of atp ctl: --server"),
    Row::new("ATP_BASE_URL", "", "the data plane of atp ask: --url"),
    Row::new("ATP_API_KEY", "", "a tenant's key: --key").secret(),
    Row::new("ATP_ADAPTER_KEY", "", "the key a model server wants: --endpoint-key").secret(),
];
const HIDDEN: &str = "(set)";

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let set =
            [("ROUTER_PORT", "8443"), ("AUDIT_SECRET", "hush"), ("ATP_API_KEY", "sk-1"), ("RUST_LOG", "")];
        set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn values_are_shown_but_those_of_secrets_which_are_only_said_to_be_there() {
        let told = told(&env);
        for text in [table(&told), json(&told)] {
            assert!(text.contains("8443") && text.contains(HIDDEN), "{text}");
            assert!(!text.contains("hush") && !text.contains("sk-1"), "{text}");
        }
        let port = told.iter().find(|told| told.row.name == "ROUTER_PORT").unwrap();
        assert_eq!((port.value.as_deref(), port.row.default), (Some("8443"), "7443"));
        assert!(told.iter().any(|told| told.row.name == "RUST_LOG" && told.value.is_none()));
    }

    #[test]
    fn a_value_that_cannot_be_is_told_by_whoever_reads_it() {
        let env = |name: &str| (name == "ROUTER_PORT" || name == "MEMORY_QUOTA_MB").then(|| "x".to_owned());
        let told = mistakes(&env);
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
