//! The words of `atp ctl`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proto_core::model::Kind;

/// Look at and change what the control plane stores
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct CtlArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  atp ctl apply -f resources.yaml          create or change what the file holds
  cat route.yaml | atp ctl apply -f -      the same from a pipe
  atp ctl diff -f resources.yaml           what apply would change; exit code 1 where something would
  atp ctl get adapters                     a table
  atp ctl get route code-review -o yaml    one resource as it was applied
  atp ctl delete route code-review
  atp ctl explain --model auto --tenant acme
  atp ctl status                           generations, and what each data plane serves

Exit codes: 0 ok, 1 failed, 2 wrong usage; diff: 0 the same, 1 differences, 2 failed";

/// Which control plane, and who asks.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The control plane's gRPC address
    #[arg(
        long,
        value_name = "URL",
        env = "ATP_CONTROLPLANE",
        default_value = "http://127.0.0.1:7440",
        global = true
    )]
    pub server: String,
    /// File with the operator's token [default: operator.token in the data folder]
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// The control plane's data folder, where the token is [default: $XDG_STATE_HOME/atp or
    /// ~/.local/state/atp]
    #[arg(long, value_name = "DIR", env = "ATP_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// PEM roots that the control plane's certificate is checked against; needed for https
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// PEM certificate of the operator, instead of a token
    #[arg(long, value_name = "FILE", requires = "key", global = true)]
    pub cert: Option<PathBuf>,
    /// PEM key of the certificate
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Create or change resources: all of them or, with one mistake, none
    Apply {
        #[command(flatten)]
        files: Files,
        /// Check and report as if applied; store nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List resources of a kind, or show one
    Get {
        /// adapters, routes, tenants or all
        #[arg(value_parser = kind_or_all)]
        kind: Kinds,
        name: Option<String>,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one resource with its version and who uses it
    Describe {
        #[arg(value_parser = kind)]
        kind: Kind,
        name: String,
    },
    /// Delete one resource, or those a file names
    Delete {
        #[command(flatten)]
        what: What,
        /// Check and report as if deleted; delete nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what apply would change, as unified text; exit code 1 where something would
    Diff {
        #[command(flatten)]
        files: Files,
    },
    /// Check files by themselves, without looking at what is stored
    Validate {
        #[command(flatten)]
        files: Files,
        /// Without a control plane, by the rules of this program
        #[arg(long)]
        offline: bool,
    },
    /// Ask a data plane how it would route a request
    Explain {
        #[command(flatten)]
        question: Question,
        /// yaml unless said otherwise
        #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
        output: Output,
    },
    /// Show generations, and what each data plane serves
    Status {
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print each change from now on
    Watch {
        /// adapters, routes or tenants; every kind unless said otherwise
        #[arg(value_parser = kind_or_all, default_value = "all")]
        kind: Kinds,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Files {
    /// Files, folders (their .yaml, .yml and .json files), or - for stdin
    #[arg(short, long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct What {
    /// adapter, route or tenant
    #[arg(value_parser = kind, requires = "name", required_unless_present = "files")]
    pub kind: Option<Kind>,
    #[arg(requires = "kind")]
    pub name: Option<String>,
    /// Files whose resources are deleted, wherever they stand in them
    #[arg(short, long = "filename", value_name = "FILE", num_args = 1.., conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Question {
    /// As a request would name it: a model, adapter/model, a route, or auto
    #[arg(long, value_name = "MODEL", default_value = "auto")]
    pub model: String,
    #[arg(long, value_name = "TYPE", default_value = "")]
    pub task_type: String,
    #[arg(long, value_name = "TENANT", default_value = "")]
    pub tenant: String,
    /// The data plane to ask [default: any]
    #[arg(long, value_name = "NAME", default_value = "")]
    pub node: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Yaml,
    Json,
}

/// One kind, or `None` for every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(pub Option<Kind>);

impl Kinds {
    /// As requests carry it: empty for every kind.
    pub fn as_wire(self) -> String {
        self.0.map(|kind| kind.as_str().to_owned()).unwrap_or_default()
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| "there are adapters, routes and tenants".to_owned())
}

fn kind_or_all(text: &str) -> Result<Kinds, String> {
    if text == "all" { Ok(Kinds(None)) } else { kind(text).map(|kind| Kinds(Some(kind))) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        ctl: CtlArgs,
    }

    fn parse(words: &str) -> Result<Command, clap::error::ErrorKind> {
        let words = std::iter::once("ctl").chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.ctl.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_words_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_files_may_follow_one_flag_or_several() {
        for words in ["apply -f a.yaml b.yaml", "apply -f a.yaml -f b.yaml", "apply --filename a.yaml b.yaml"]
        {
            let Ok(Command::Apply { files, dry_run: false }) = parse(words) else { panic!("{words}") };
            assert_eq!(files.files.len(), 2, "{words}");
        }
    }

    #[test]
    fn delete_takes_a_kind_and_a_name_or_files_and_not_both() {
        assert!(parse("delete adapter local").is_ok());
        assert!(parse("delete -f a.yaml --dry-run").is_ok());
        for words in ["delete", "delete adapter", "delete adapter local -f a.yaml", "delete pod local"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn kinds_are_taken_as_people_type_them() {
        for words in ["get adapters", "get Adapter", "get adapter", "get all"] {
            assert!(matches!(parse(words), Ok(Command::Get { .. })), "{words}");
        }
        assert!(parse("describe all x").is_err());
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        assert!(parse("--server http://localhost:1 status").is_ok());
        assert!(parse("status --server http://localhost:1 --token-file t -o json").is_ok());
        assert!(parse("status --cert c").is_err(), "a certificate needs its key");
    }
}
